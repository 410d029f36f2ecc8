# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence files: one form, one hash, and nothing else is taken for one."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearing.model.errors import NovateError
from clearing.watch.evidence import FORMAT, REASONS, encode, load, save
from proofs.hashing import sha256

DETAILS: dict[str, Any] = {
    "detail": "exit_root: posted 0x01, replay 0x02",
    "posted_header": "0x03",
    "own_header": None,
    "replayed_entries": 12,
}
CONTENT = encode("HEADER_DIFFERS", 0, 3, **DETAILS)

values = st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3), max_leaves=5)


def refused(path: Path) -> str:
    with pytest.raises(NovateError) as raised:
        load(path)
    assert str(path) in raised.value.message
    return raised.value.code


@given(st.sampled_from(sorted(REASONS)), st.integers(0, 255), st.integers(1, 2**63), st.dictionaries(st.text(), values))
@settings(max_examples=40)
def test_a_file_is_found_under_its_hash_and_read_back(
    reason: str, vault: int, epoch: int, details: dict[str, Any]
) -> None:
    """What was said is what is read, whatever it is; the name and the hash are of exactly these bytes; the same said
    again, in any order, is the same file."""
    given = {name: value for name, value in details.items() if name not in ("reason", "vault", "epoch")}
    content = encode(reason, vault, epoch, **given)
    assert encode(reason, vault, epoch, **dict(reversed(given.items()))) == content
    with tempfile.TemporaryDirectory() as folder:
        digest = save(Path(folder), content)
        assert digest == sha256(content) == save(Path(folder), content)
        (path,) = (Path(folder) / "evidence").iterdir()
        assert path.name == f"{digest.hex()}.json" and path.read_bytes() == content
        known = {"format": FORMAT, "reason": reason, "meaning": REASONS[reason], "vault": vault, "epoch": epoch}
        assert load(path) == (digest, known | given)


def test_the_canonical_form_is_this_one(tmp_path: Path) -> None:
    """Sorted keys, no spaces, one final newline: the bytes that anyone can make again to check the hash."""
    assert CONTENT == (
        b'{"detail":"exit_root: posted 0x01, replay 0x02","epoch":3,"format":"novate-evidence/1",'
        b'"meaning":"the header is not the one that the journal gives","own_header":null,"posted_header":"0x03",'
        b'"reason":"HEADER_DIFFERS","replayed_entries":12,"vault":0}\n'
    )


@pytest.mark.parametrize(
    "changed",
    [
        CONTENT[:-1],
        CONTENT + b"\n",
        b" " + CONTENT,
        CONTENT.replace(b'":3', b'": 3'),
        CONTENT.replace(b'{"detail"', b'{"vault":1,"detail"'),
        CONTENT[:-2] + b',"vault":0}\n',
        CONTENT.replace(FORMAT.encode(), b"novate-evidence/2"),
        json.dumps(list(json.loads(CONTENT))).encode(),
        CONTENT[:40],
        b"",
        b"[" * 100_000,
        b"\xff\xfe",
        b"9" * 5_000,
    ],
)
def test_any_other_form_is_refused(tmp_path: Path, changed: bytes) -> None:
    """The same content in other bytes has another hash, so it is no evidence of that hash; nor is what is no JSON."""
    path = tmp_path / "file.json"
    path.write_bytes(changed)
    assert refused(path) == "EVIDENCE_INVALID"
    assert refused(tmp_path / "missing.json") == "EVIDENCE_INVALID"


def test_a_changed_file_has_another_hash(tmp_path: Path) -> None:
    """A canonical lie is still another file than the one that the veto names."""
    digest = save(tmp_path, CONTENT)
    path = tmp_path / "evidence" / f"{digest.hex()}.json"
    path.write_bytes(CONTENT.replace(b'"epoch":3', b'"epoch":4'))
    assert load(path)[0] != digest


def test_a_torn_file_is_written_again(tmp_path: Path) -> None:
    """A crash may leave the name with half of its content: saying the same again mends it."""
    digest = save(tmp_path, CONTENT)
    path = tmp_path / "evidence" / f"{digest.hex()}.json"
    path.write_bytes(CONTENT[:30])
    assert save(tmp_path, CONTENT) == digest
    assert load(path)[0] == digest and [one.name for one in path.parent.iterdir()] == [path.name]


def test_a_folder_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "evidence").write_text("a file where the folder should be")
    with pytest.raises(NovateError) as raised:
        save(tmp_path, CONTENT)
    assert raised.value.code == "DISK_FULL"
