# SPDX-License-Identifier: GPL-3.0-or-later
"""A log of 70,000 entries before verifiers that others wrote: Go's sumdb packages, and sigstore's for Rekor.

Both are skipped, with a reason, where they are not installed:
    apt-get install golang-go golang-golang-x-mod-dev
    python3 -m venv .tools/sigstore && .tools/sigstore/bin/pip install -r tools/tlog_sigstore/requirements.txt
"""

import base64
import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from journal.folder import directory
from journal.published import PublishedLog
from journal.tiles import publish
from proofs import log
from proofs.checkpoint import ED25519, key_id, secp256k1_line
from proofs.tiles import TiledTree
from tests.tlog.logs import CHECK, KEY, ORIGIN, PUBLIC, Journal, entry, files

ROOT: Final = Path(__file__).resolve().parents[2]
SIZE: Final = 70_000
GO_PATHS: Final = ("/usr/share/gocode", str(Path.home() / "go"))
SUMDB: Final = "src/golang.org/x/mod/sumdb/tlog"
SIGSTORE: Final = ROOT / ".tools" / "sigstore" / "bin" / "python"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TiledTree]:
    """The log, published in three steps, with the contract's signature line, as the operator signs it."""
    folder = tmp_path_factory.mktemp("log")
    journal = Journal(folder / "j", SIZE)
    for size in (1_000, 65_536, SIZE):
        note = journal.note(size) + secp256k1_line(ORIGIN, bytes(20), bytes(65))
        publish(journal.store, folder / "log", note, now=lambda: 0.0)
    found = PublishedLog(directory(folder / "log"), CHECK)
    found.checkpoint()
    return folder / "log", found.tree()


def flipped(data: bytes, rng: random.Random) -> bytes:
    bit = rng.randrange(8 * len(data))
    return data[: bit // 8] + bytes([data[bit // 8] ^ (1 << bit % 8)]) + data[bit // 8 + 1 :]


# --- Go ---


@pytest.fixture(scope="module")
def checker(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """The Go program, built from Debian's packages without a network."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("no Go here: apt-get install golang-go golang-golang-x-mod-dev")
    path = next((path for path in GO_PATHS if (Path(path) / SUMDB).is_dir()), None)
    if path is None:
        pytest.skip("no golang.org/x/mod here: apt-get install golang-golang-x-mod-dev")
    work = tmp_path_factory.mktemp("go")
    env = os.environ | {"GO111MODULE": "off", "GOPATH": path, "GOFLAGS": "", "GOCACHE": str(work / "cache")}
    source = ROOT / "tools" / "tlog_go" / "main.go"
    subprocess.run([go, "build", "-o", str(work / "check"), str(source)], env=env, check=True, timeout=300)

    def check(*arguments: object) -> "subprocess.CompletedProcess[str]":
        command = [str(work / "check"), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    return check


Checker = Callable[..., "subprocess.CompletedProcess[str]"]


def record(tree: TiledTree, index: int, size: int) -> dict[str, Any]:
    path, root = tree.inclusion(index, size), tree.root(size)
    return {
        "accept": True,
        "index": index,
        "size": size,
        "leaf": log.leaf_hash(entry(index)),
        "root": root,
        "path": path,
    }


def growth(tree: TiledTree, old: int, size: int) -> dict[str, Any]:
    found = {"accept": True, "old_size": old, "size": size, "path": tree.consistency(old, size)}
    return found | {"old_root": tree.root(old), "root": tree.root(size)}


def tampered(proof: dict[str, Any], rng: random.Random) -> list[dict[str, Any]]:
    """A copy with one bit flipped in each field that a path binds by itself, and others of a wrong length."""
    path = proof["path"]
    out = [proof | {name: flipped(proof[name], rng)} for name in ("leaf", "root", "old_root") if name in proof]
    out += [proof | {"path": [*path[:at], flipped(item, rng), *path[at + 1 :]]} for at, item in enumerate(path)]
    out += [proof | {"path": [*path, proof["root"]]}, proof | {"path": path[:-1]}] if path else []
    for name in ("index", "old_size"):
        if name in proof:
            out += [proof | {name: proof[name] ^ 1 << bit} for bit in range(17)]
    return [item | {"accept": False} for item in out]


def plain(value: object) -> str:
    assert isinstance(value, bytes)
    return base64.b64encode(value).decode()


def test_go_checks_every_entry_tile_and_proof(
    published: tuple[Path, TiledTree], checker: Checker, tmp_path: Path, rng: random.Random
) -> None:
    """note.Open, StoredHashes, TreeHash, every tile, CheckRecord and CheckTree; Go's own proofs are ours, byte by
    byte; and each proof with a flipped bit is refused."""
    folder, tree = published
    places = [(0, SIZE), (SIZE - 1, SIZE), (65_535, 65_536), (65_536, SIZE), (0, 1)]
    places += [(rng.randrange(size), size) for size in (rng.randint(1, SIZE) for _ in range(60))]
    records = [record(tree, index, size) for index, size in places]
    steps = [(1, 2), (1, SIZE), (65_536, SIZE), (65_535, 65_537), (SIZE - 1, SIZE), (256, 512)]
    steps += [(rng.randint(1, size), size) for size in (rng.randint(1, SIZE) for _ in range(60))]
    growths = [growth(tree, old, size) for old, size in steps]
    bad = [item for proof in records[:20] for item in tampered(proof, rng)]
    bad_steps = [item for proof in growths[:20] if proof["path"] for item in tampered(proof, rng)]
    given = {"records": records + bad, "growths": growths + bad_steps}
    (tmp_path / "proofs.json").write_text(json.dumps(given, default=plain))
    done = checker(KEY, folder, tmp_path / "proofs.json")
    count = len(records) + len(bad) + len(growths) + len(bad_steps)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"ok entries={SIZE} tiles=277 proofs={count} ") and len(bad) > 300


def test_go_refuses_tampered_copies(
    published: tuple[Path, TiledTree], checker: Checker, tmp_path: Path, rng: random.Random
) -> None:
    """A flipped bit in a bundle, a tile of each level, or the note; swapped bundles; another key; and it would
    notice if a proof were expected to fail and did not."""
    folder, tree = published
    names = ["tile/entries/000", "tile/entries/273.p/112", "tile/0/100", "tile/1/001.p/17", "tile/2/000.p/1"]
    for name in names:
        good = (folder / name).read_bytes()
        copy = tmp_path / "copy"
        shutil.copytree(folder, copy, copy_function=os.link)
        (copy / name).unlink()
        (copy / name).write_bytes(flipped(good, rng))
        done = checker(KEY, copy)
        assert done.returncode == 1 and "REFUSED" in done.stderr, name
        shutil.rmtree(copy)
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy, copy_function=os.link)
    note = (folder / "checkpoint").read_text()
    for wrong in (
        note.replace("70000", "69999", 1),
        note.replace("\n\n— ", "\n\n— x", 1),
        note.replace("=\n\n", "\n\n", 1),
    ):
        (copy / "checkpoint").unlink()
        (copy / "checkpoint").write_text(wrong)
        assert checker(KEY, copy).returncode == 1
    (copy / "checkpoint").write_text(note)
    assert checker(KEY, copy).returncode == 0
    for old, new in (("001", "x"), ("002", "001"), ("x", "002")):
        (copy / "tile/entries" / old).rename(copy / "tile/entries" / new)
    assert checker(KEY, copy).returncode == 1
    assert checker(KEY.replace("+", "+0", 1), folder).returncode == 1
    (tmp_path / "proofs.json").write_text(
        json.dumps({"records": [record(tree, 5, 9) | {"accept": False}]}, default=plain)
    )
    assert checker(KEY, folder, tmp_path / "proofs.json").returncode == 1


def test_go_checks_a_small_log_of_every_kind_of_edge(checker: Checker, tmp_path: Path) -> None:
    """No entry, one, a full tile, one more."""
    journal = Journal(tmp_path / "j")
    for size in (0, 1, 255, 256, 257):
        journal.grow(size)
        publish(journal.store, tmp_path / "log", journal.note())
        done = checker(KEY, tmp_path / "log")
        assert done.returncode == 0 and f"entries={size} " in done.stdout, done.stderr
    assert files(tmp_path / "log")


# --- sigstore ---


def test_sigstore_accepts_the_log_and_refuses_tampered_copies(
    published: tuple[Path, TiledTree], rng: random.Random
) -> None:
    """Inclusion and checkpoint in Rekor's form: entry, path, root, index and note; each with a flipped bit fails."""
    if not SIGSTORE.exists():
        pytest.skip("no sigstore here: see tools/tlog_sigstore/requirements.txt")
    folder, tree = published
    note = (folder / "checkpoint").read_text()
    cases = []
    for index in (0, 1, SIZE - 1, 65_535, 65_536, *(rng.randrange(SIZE) for _ in range(20))):
        found = record(tree, index, SIZE) | {"entry": entry(index), "note": note}
        cases.append(found)
        assert entry(index + 1) != entry(index)
        cases.append(found | {"accept": False, "entry": entry(index + 1)})
        cases += [item for item in tampered(found, rng) if item["leaf"] == found["leaf"]]
        for wrong in (
            note.replace("70000", "70001"),
            note.replace("journal", "journel", 1),
            note.replace("\n\n— ", "\n\n— x"),
        ):
            # The name on the signature line is not signed; that it is the log's is for the key id to say.
            cases.append(found | {"accept": "— x" in wrong, "note": wrong})
    given = {"key": PUBLIC.hex(), "key_id": key_id(ORIGIN, ED25519, PUBLIC).hex(), "cases": cases}
    text = json.dumps(given, default=lambda value: value.hex())
    done = subprocess.run([str(SIGSTORE), str(ROOT / "tools/tlog_sigstore/check.py")], input=text,
                          capture_output=True, text=True, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-2_000:]
    assert done.stdout == f"ok {len(cases)} cases\n"
    stranger = json.dumps(given | {"key": "11" * 32}, default=lambda value: value.hex())
    done = subprocess.run([str(SIGSTORE), str(ROOT / "tools/tlog_sigstore/check.py")], input=stranger,
                          capture_output=True, text=True, timeout=300)  # fmt: skip
    assert done.returncode == 1 and "case 0: accept=True" in done.stderr
