# SPDX-License-Identifier: GPL-3.0-or-later
"""A mirror that asks for witnesses takes no checkpoint without them, and finds the log's key in the policy."""

import time
from hashlib import sha256
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from clearing.cli.main import main
from journal.tiles import publish
from proofs import checkpoint as notes
from proofs import cosignature
from tests.tlog.logs import KEY, Journal

WITNESS_SEED = sha256(b"a witness").digest()
WITNESS = cosignature.verifier_key("w.example/w", bytes(SigningKey(WITNESS_SEED).verify_key))
POLICY = f"log {KEY}\nwitness w {WITNESS}\nquorum w\n"


def mirror(*arguments: object) -> str:
    """What the command ends with: "" or its code."""
    from click.testing import CliRunner

    done = CliRunner().invoke(main, ["journal", "mirror", *map(str, arguments)])
    return "" if done.exit_code == 0 else done.stderr.strip().splitlines()[-1].split(":")[1].strip()


def test_a_mirror_takes_what_its_policy_allows(tmp_path: Path) -> None:
    """Not cosigned: refused and nothing kept. Cosigned: taken. A policy of another log, or none at all: refused."""
    journal = Journal(tmp_path / "j", 300)
    note = journal.note()
    publish(journal.store, tmp_path / "log", note)
    (tmp_path / "policy").write_text(POLICY)
    arguments = (tmp_path / "log", tmp_path / "mirror", "--policy", tmp_path / "policy")
    assert mirror(*arguments) == "POLICY_UNSATISFIED"
    assert not (tmp_path / "mirror/checkpoint").exists()
    line = cosignature.sign(notes.parse(note).checkpoint, "w.example/w", WITNESS_SEED, int(time.time()))
    publish(journal.store, tmp_path / "log", note, cosign=lambda text, _: text + line)
    assert mirror(*arguments) == ""
    assert (tmp_path / "mirror/checkpoint").read_text() == note + line
    (tmp_path / "policy").write_text(POLICY.replace("quorum w", "quorum nobody"))
    assert mirror(*arguments) == "POLICY_INVALID"


@pytest.mark.parametrize("key", [True, False])
def test_a_policy_without_a_log_needs_the_key_from_elsewhere(tmp_path: Path, key: bool) -> None:
    """Given on the command line it is checked beside the policy; a log whose first entry is no genesis names none."""
    journal = Journal(tmp_path / "j", 3)
    publish(journal.store, tmp_path / "log", journal.note())
    (tmp_path / "policy").write_text("quorum none\n")
    more = ("--key", KEY) if key else ()
    found = mirror(tmp_path / "log", tmp_path / "mirror", "--policy", tmp_path / "policy", *more)
    assert found == ("" if key else "NO_GENESIS")
