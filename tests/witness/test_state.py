# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory of a witness: it is on disk before anybody sees a cosignature, it is checked, and it is never two."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey

from clearing.model.errors import NovateError
from clearing.witness import state as states
from clearing.witness.state import State, name_of, read_memory
from clearing.witness.witness import Refusal, Witness
from proofs import cosignature
from proofs.checkpoint import parse
from tests.witness.heads import (
    KEY,
    LOGS,
    NAME,
    NOW,
    ORIGIN,
    PUBLIC,
    SEED,
    Clock,
    asked,
    head,
    refused,
    request,
    witness,
)

ROOT = Path(__file__).resolve().parents[2]
ONE, OTHER = head(130), head(130, fork_at=5)


def known_size(folder: Path) -> int:
    logs = read_memory(folder).logs
    return logs[0].checkpoint.size if logs else 0


def test_a_restart_remembers(tmp_path: Path) -> None:
    """What was cosigned binds the next process, too: the size, the root, and the time."""
    with witness(tmp_path / "w") as one:
        one.add_checkpoint(asked(ONE, 0, 9))
    with witness(tmp_path / "w", Clock(NOW - 100)) as one:
        for body in (asked(OTHER, 0, 9), request(9, [], OTHER.note(9)), asked(OTHER, 9, 12), asked(ONE, 0, 12)):
            with pytest.raises(Refusal):
                one.add_checkpoint(body)
        line = one.add_checkpoint(asked(ONE, 9, 12))
    assert cosignature.verify(parse(ONE.note(12) + line), NAME, PUBLIC) == NOW


Step = Callable[..., Any]


def failing(monkeypatch: pytest.MonkeyPatch, at: int) -> list[str]:
    """Every step of writing counts; the one with number `at` fails, and so do all after it: the disk is gone."""
    steps: list[str] = []

    def broken(name: str, real: Step) -> Step:
        def step(*arguments: Any, **named: Any) -> Any:
            steps.append(name)
            if len(steps) > at:
                raise OSError(5, "Input/output error")
            return real(*arguments, **named)

        return step

    monkeypatch.setattr(os, "fsync", broken("fsync", os.fsync))
    monkeypatch.setattr(Path, "replace", broken("replace", Path.replace))
    monkeypatch.setattr(Path, "open", broken("open", Path.open))
    return steps


def test_no_cosignature_without_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At whichever step the disk fails, nothing is cosigned; and if the disk may hold either note, nothing more of
    that log before a restart, which finds one of the two whole."""
    with monkeypatch.context() as patch, witness(tmp_path / "count") as one:
        steps = failing(patch, 1_000)
        one.add_checkpoint(asked(ONE, 0, 4))
    assert steps == ["open", "fsync", "replace", "fsync"]
    for at in range(len(steps)):
        folder = tmp_path / str(at)
        with witness(folder) as one:
            one.add_checkpoint(asked(ONE, 0, 4))
            with monkeypatch.context() as patch:
                failing(patch, at)
                refused("WITNESS_DISK", one.add_checkpoint, asked(ONE, 4, 7))
            if at >= steps.index("replace"):
                refused("WITNESS_HALTED", one.add_checkpoint, asked(ONE, 4, 7))
                refused("WITNESS_HALTED", one.add_checkpoint, asked(ONE, 7, 8))
            else:
                one.add_checkpoint(asked(ONE, 4, 5))  # nothing was written, so nothing is in doubt
        assert known_size(folder) in ({4, 7} if at >= steps.index("replace") else {5})
        with witness(folder) as one:
            size = known_size(folder)
            one.add_checkpoint(asked(ONE, size, 9))
            with pytest.raises(Refusal):
                one.add_checkpoint(asked(OTHER, size, 20))


def test_what_is_on_disk_when_the_cosignature_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is synced under its temporary name before it is renamed, and the folder after: in that order."""
    order: list[str] = []
    real_sync, real_replace = os.fsync, Path.replace

    def sync(descriptor: int) -> None:
        order.append("sync " + Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        real_sync(descriptor)

    def replace(self: Path, target: Path) -> Path:
        order.append(f"rename {self.name} {target.name}")
        return real_replace(self, target)

    with witness(tmp_path / "w") as one:
        monkeypatch.setattr(os, "fsync", sync)
        monkeypatch.setattr(Path, "replace", replace)
        one.add_checkpoint(asked(ONE, 0, 4))
        monkeypatch.undo()
    name = name_of(ORIGIN)
    assert order == [f"sync .{name}.new", f"rename .{name}.new {name}", "sync logs"]


def test_two_heads_at_once(tmp_path: Path) -> None:
    """Many threads ask for both histories at the same sizes: one history wins, and every size has one root."""
    got: list[tuple[int, bytes]] = []
    guard = threading.Lock()

    def push(number: int) -> None:
        history = (ONE, OTHER)[number % 2]
        old = 0
        for size in (6, 7, 9, 12, 20, 33):
            for _ in range(6):
                try:
                    one.add_checkpoint(asked(history, old, size))
                except Refusal as refusal:
                    if refusal.size is None or refusal.size > size or refusal.size == old:
                        break
                    old = refusal.size
                else:
                    with guard:
                        got.append((size, history.tip(size).root))
                    old = size
                    break

    with witness(tmp_path / "w") as one, ThreadPoolExecutor(8) as pool:
        list(pool.map(push, range(8)))
    roots = dict(got)
    assert all(roots[size] == root for size, root in got)
    assert len({history for history in (0, 1) if any((ONE, OTHER)[history].tip(s).root == r for s, r in got)}) == 1
    assert 33 in roots


def test_one_process_at_a_time(tmp_path: Path) -> None:
    """A second one on the same folder would be a second memory; the lock goes with the process that held it."""
    folder = tmp_path / "w"
    with witness(folder):
        refused("WITNESS_LOCKED", State, folder, KEY)
        assert read_memory(folder).witness == KEY  # reading is free
        code = (
            f"from clearing.witness.state import State; from pathlib import Path; State(Path({str(folder)!r}), {KEY!r})"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert "WITNESS_LOCKED" in done.stderr
    State(folder, KEY).close()


def test_an_empty_folder_is_no_new_witness_by_itself(tmp_path: Path) -> None:
    """A key whose memory is gone must not go on as if it had never cosigned: only the caller can know."""
    refused("WITNESS_NO_STATE", State, tmp_path / "w", KEY)
    (tmp_path / "empty").mkdir()
    refused("WITNESS_NO_STATE", State, tmp_path / "empty", KEY)
    refused("WITNESS_NO_STATE", read_memory, tmp_path / "empty")
    State(tmp_path / "w", KEY, new=True).close()
    State(tmp_path / "w", KEY, new=True).close()  # and it does no harm to say it twice
    assert not any((tmp_path / "empty").iterdir())


def test_new_does_not_make_a_memory_forget(tmp_path: Path) -> None:
    with witness(tmp_path / "w") as one:
        one.add_checkpoint(asked(ONE, 0, 4))
    with State(tmp_path / "w", KEY, new=True) as state, state.deciding(ORIGIN) as known:
        assert known is not None and known.checkpoint == ONE.tip(4)
    (tmp_path / "w" / states.MARKER).unlink()
    refused("WITNESS_STATE_DAMAGED", State, tmp_path / "w", KEY, new=True)


def test_the_memory_is_one_witnesss(tmp_path: Path) -> None:
    """Another key, or another name, has other promises to keep."""
    State(tmp_path / "w", KEY, new=True).close()
    other = cosignature.verifier_key(NAME, bytes(SigningKey(sha256(b"x").digest()).verify_key))
    for key in (other, cosignature.verifier_key("another.example", PUBLIC)):
        refused("WITNESS_OTHER_KEY", State, tmp_path / "w", key)
    State(tmp_path / "w", KEY).close()  # the refused ones have let go of the lock


def test_damage_is_refused_and_not_taken_for_nothing(tmp_path: Path) -> None:
    """Every byte of what was cosigned, and the witness's line: changed, cut off, under another log's name, or not
    cosigned by this witness."""
    folder = tmp_path / "w"
    with witness(folder) as one:
        line = one.add_checkpoint(asked(ONE, 0, 4))
    path = folder / "logs" / name_of(ORIGIN)
    good = path.read_bytes()
    body, own = len(ONE.tip(4).body()), good.index(line.encode())
    for at in (*range(body), *range(own, len(good), 7)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        refused("WITNESS_STATE_DAMAGED", State, folder, KEY)
    for data in (b"", good[:40], good[:-1], ONE.note(4).encode(), OTHER.note(4, SEED).encode()):
        path.write_bytes(data)
        refused("WITNESS_STATE_DAMAGED", State, folder, KEY)
    path.write_bytes(good)
    path.rename(path.with_name(name_of("other.example")))
    refused("WITNESS_STATE_DAMAGED", read_memory, folder)
    (folder / states.MARKER).write_text("nonsense\n")
    refused("WITNESS_STATE_DAMAGED", read_memory, folder)


def test_a_half_written_file_is_not_read(tmp_path: Path) -> None:
    """What a killed process left under a temporary name is ignored, and written over."""
    folder = tmp_path / "w"
    with witness(folder) as one:
        one.add_checkpoint(asked(ONE, 0, 4))
    (folder / "logs" / f".{name_of(ORIGIN)}.new").write_bytes(b"half a no")
    with witness(folder) as one:
        one.add_checkpoint(asked(ONE, 4, 6))
    assert known_size(folder) == 6


def test_a_full_disk_does_not_turn_a_refusal_into_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The evidence of a fork cannot be kept: the fork is refused all the same, and said to be one."""
    told: list[Any] = []
    with witness(tmp_path / "w", told=told) as one:
        one.add_checkpoint(asked(ONE, 0, 9))

        def full(*_: object) -> Path:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(states, "_written", full)
            with pytest.raises(Refusal) as caught:
                one.add_checkpoint(request(9, [], OTHER.note(9)))
            assert (caught.value.status, caught.value.size) == (409, 9)
            assert "free space" in refused("WITNESS_DISK", one.add_checkpoint, asked(ONE, 9, 10)).message
        one.add_checkpoint(asked(ONE, 9, 10))
    assert [event for event, _ in told] == ["cosigned", "fork", "cosigned"]
    assert "No space left" in told[1][1]["not_kept"]


def test_forks_have_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that signs root after root of one size fills no disk: the first ones convict it."""
    monkeypatch.setattr(states, "KEEP_FORKS", 3)
    with witness(tmp_path / "w") as one:
        one.add_checkpoint(asked(ONE, 0, 9))
        for number in range(5):
            with pytest.raises(Refusal):
                one.add_checkpoint(request(9, [], head(9, 5, b"%d" % number).note(9)))
    kept = [path.read_text() for path in read_memory(tmp_path / "w").forks]
    assert kept == [head(9, 5, b"%d" % number).note(9) for number in range(3)]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused("WITNESS_DISK", State, tmp_path / "file" / "w", KEY, new=True)


def test_the_same_checkpoint_again(tmp_path: Path) -> None:
    """A publisher that lost the answer asks once more: it gets a cosignature of now, and nothing else changes."""
    clock = Clock()
    with State(tmp_path / "w", KEY, new=True) as state:
        one = Witness(NAME, SEED, LOGS, state, clock)
        first = one.add_checkpoint(asked(ONE, 0, 4))
        clock.now += 60
        second = one.add_checkpoint(asked(ONE, 4, 4))
    assert first != second
    assert read_memory(tmp_path / "w").logs[0].time_s == NOW + 60
    assert isinstance(refused("WITNESS_NO_STATE", read_memory, tmp_path / "x"), NovateError)
