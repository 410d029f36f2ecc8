# SPDX-License-Identifier: GPL-3.0-or-later
"""No two headers of one epoch and vault are ever signed, whatever crashes, and whenever."""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearing.chain.wallet import Wallet, attestation_digest, recover
from clearing.model.errors import NovateError
from clearing.watch.signer import SigningLog, attest
from tests.watch.disk import Disk, Killed
from tests.watch.signing import KEY, PLACE, header

ROOT = Path(__file__).resolve().parents[2]
WALLET = Wallet(KEY)
WALLET.sign_digest(bytes(32))  # what signing imports changes the recursion limit, which hypothesis must not see


class Pen(Wallet):
    """A wallet that remembers what it signed: a signature may leak as soon as it exists."""

    def __init__(self) -> None:
        super().__init__(KEY)
        self.digests: list[bytes] = []

    def sign_digest(self, digest: bytes) -> bytes:
        self.digests.append(digest)
        return super().sign_digest(digest)


REQUEST = st.tuples(st.just("sign"), st.integers(1, 2), st.integers(0, 1), st.integers(0, 1))
# After how many system calls the process dies, and whether the machine's power goes with it.
CRASH = st.tuples(st.just("crash"), st.integers(0, 9), st.booleans(), st.integers(0, 2**64))
TEAR = st.tuples(st.just("tear"), st.integers(0, 3), st.integers(0, 70), st.just(0))
RESTART = st.tuples(st.just("restart"), st.just(0), st.just(0), st.just(0))


class Attempts:
    """One attestor's life, with the promise checked at every signature."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.pen = folder, Pen()
        self.log = SigningLog(folder)
        self.disk = Disk(folder / "signed", patch)
        self.signed: dict[tuple[int, int], tuple[bytes, bytes]] = {}

    def sign(self, epoch: int, vault: int, number: int) -> None:
        wanted, before = header(epoch, number), len(self.pen.digests)
        try:
            signature = attest(self.log, self.pen, PLACE, epoch, vault, wanted)
        except NovateError as error:
            if error.code != "ALREADY_SIGNED_OTHER" or len(self.pen.digests) > before:
                raise
            return
        finally:
            if len(self.pen.digests) > before:  # it exists, whether or not anybody got it
                found = self.signed.setdefault((epoch, vault), (wanted, WALLET.sign_digest(self.pen.digests[-1])))
                assert found[0] == wanted, f"two headers of epoch {epoch}, vault {vault}"
        assert signature == self.signed[epoch, vault][1]

    def restart(self) -> None:
        self.log.close()
        self.disk.die_after = None
        self.log = SigningLog(self.folder)

    def crash(self, calls: int, power: bool, seed: int, request: tuple[int, int, int]) -> None:
        self.disk.die_after = calls
        with suppress(Killed):
            self.sign(*request)
        self.log.close()
        self.disk.die_after = None
        if power:
            rng = random.Random(seed)
            self.disk.lose_power(lambda: rng.choice((0, rng.randrange(100))))
        self.log = SigningLog(self.folder)

    def tear(self, number: int, length: int) -> None:
        """A damaged file: it forbids, and allows nothing."""
        files = sorted((self.folder / "signed").glob("*.hash"))
        if files:
            path = files[number % len(files)]
            path.write_bytes(path.read_bytes()[:length])
            self.restart()


@pytest.mark.slow
@settings(max_examples=60)
@given(st.lists(st.one_of(REQUEST, REQUEST, CRASH, TEAR, RESTART), min_size=3, max_size=14))
def test_one_header_per_epoch_and_vault_whatever_happens(steps: list[tuple[str, int, int, int]]) -> None:
    """Any sequence of requests, kills between any two system calls, power cuts that take with them whatever was not
    synced, torn files and restarts: a second header of an epoch and vault is never signed, and the same one gives
    the same signature again."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        life = Attempts(Path(folder), patch)
        for step, (kind, a, b, c) in enumerate(steps):
            if kind == "sign":
                life.sign(a, b, c)
            elif kind == "crash":
                life.crash(a, bool(b), c, (1 + step % 2, c % 2, c // 2 % 2))
            elif kind == "tear":
                life.tear(a, b)
            else:
                life.restart()
        life.log.close()


@pytest.mark.parametrize("calls", range(14))
def test_a_power_cut_at_each_point_of_a_signature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    """Killed after so many system calls, restarted, the same header signed, and the power cut, which loses all that may
    be lost: if the signature exists, the other header is refused for good."""
    life = Attempts(tmp_path, monkeypatch)
    life.crash(calls, False, 0, (1, 0, 0))
    life.sign(1, 0, 0)
    life.log.close()
    life.disk.lose_power(lambda: 0)
    life.log = SigningLog(tmp_path)
    life.sign(1, 0, 1)
    assert life.signed[1, 0][0] == header(1, 0)
    life.log.close()


def test_a_new_directory_is_synced_from_the_top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signed file is no safer than the names of the directories above it: each that was made is synced in its own."""
    synced: set[int] = set()
    real = os.fsync

    def noted(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    with SigningLog(tmp_path / "a" / "b") as log:
        log.record(1, 0, header(1, 0))
    wanted = [tmp_path, tmp_path / "a", tmp_path / "a/b", tmp_path / "a/b/signed"]
    assert {path.stat().st_ino for path in wanted} <= synced


def test_what_cannot_be_read_forbids_the_epoch(tmp_path: Path) -> None:
    """Empty, short, long, no hexadecimal, no text, no file: nothing of that epoch is signed again; the next is."""
    contents = (b"", b"ab", header(9, 0).hex().encode() + b"00", b"z" * 64, b"\xff" * 64)
    with SigningLog(tmp_path) as log:
        for epoch, content in enumerate(contents, 1):
            (tmp_path / f"signed/{epoch:010d}-0.hash").write_bytes(content)
        (tmp_path / "signed/0000000006-0.hash").mkdir()
        for epoch in range(1, 7):
            assert log.signed(epoch, 0) == bytes(32)
            with pytest.raises(NovateError) as raised:
                attest(log, WALLET, PLACE, epoch, 0, header(epoch, 0))
            assert raised.value.code == "ALREADY_SIGNED_OTHER"
        signature = attest(log, WALLET, PLACE, 7, 0, header(7, 0))
        assert recover(attestation_digest(*PLACE, header(7, 0)), signature) == WALLET.address
        assert (log.signed(7, 0), log.signed(7, 1), log.last(0), log.last(1)) == (header(7, 0), None, 7, 0)


def test_a_disk_that_refuses_signs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failing sync is DISK_FULL, and no excuse the next time either: the file is there, but nobody promised to keep
    it, so it is synced before the signature."""
    calls: list[int] = []

    def failing(_: int) -> None:
        calls.append(1)
        if len(calls) <= 3:
            raise OSError(28, "No space left on device")

    with SigningLog(tmp_path) as log:
        monkeypatch.setattr(os, "fsync", failing)
        for _ in range(3):
            with pytest.raises(NovateError) as raised:
                attest(log, WALLET, PLACE, 1, 0, header(1, 0))
            assert raised.value.code == "DISK_FULL"
        attest(log, WALLET, PLACE, 1, 0, header(1, 0))
        assert len(calls) == 5
        done = len(calls)
        attest(log, WALLET, PLACE, 1, 0, header(1, 0))
        assert len(calls) == done


def test_one_process_per_directory(tmp_path: Path) -> None:
    """A second process on the same state is refused with a code that says why, and gets in when the first has ended."""
    command = [sys.executable, "-m", "tests.watch.signing", str(tmp_path), "1", "0"]
    with SigningLog(tmp_path):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode and "ATTESTOR_RUNS" in done.stderr and "two headers" in done.stderr
        assert done.stdout == ""
    with SigningLog(tmp_path) as log:
        assert log.signed(1, 0) is None


@pytest.mark.slow
def test_a_killed_process_never_signs_another_header(tmp_path: Path, rng: random.Random) -> None:
    """kill -9 at random moments, 25 times: over all that was ever printed there is one header and one signature per
    epoch, and the log has every one of them, whole."""
    known: dict[int, tuple[str, str]] = {}
    for _ in range(25):
        first = max(1, max(known, default=1) - rng.randrange(3))
        command = [sys.executable, "-m", "tests.watch.signing", str(tmp_path), str(first), str(rng.random())]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None and process.stdout.readline() == "open\n"
        time.sleep(rng.random() * 0.1)
        process.send_signal(signal.SIGKILL)
        for line in process.stdout.read().splitlines():
            words = line.split()
            if len(words) == 3 and len(words[2]) == 130:  # the last line may be cut
                assert known.setdefault(int(words[0]), (words[1], words[2])) == (words[1], words[2])
        process.wait(10)
        process.stdout.close()
    assert len(known) > 40
    with SigningLog(tmp_path) as log:
        for epoch, (text, signature) in known.items():
            assert log.signed(epoch, 0) == bytes.fromhex(text)
            assert attest(log, WALLET, PLACE, epoch, 0, bytes.fromhex(text)).hex() == signature
    assert not list((tmp_path / "signed").glob("*.tmp"))
