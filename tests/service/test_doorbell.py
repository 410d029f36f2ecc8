# SPDX-License-Identifier: GPL-3.0-or-later
"""Being told to stop: no signal is missed, whichever thread the kernel gives it to."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from clearing.service.doorbell import Doorbell

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 30.0

# The main thread takes no SIGTERM itself, so that the other one gets it: what happens by chance, here each time.
WAITER = """
import signal, threading, time
from clearing.service.doorbell import Doorbell
bell = Doorbell()
bell.answer_signals()
threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print("ready", flush=True)
{wait}
print("stopped", flush=True)
bell.close()
"""


@pytest.mark.parametrize("wait", ["bell.wait()", "while not bell.is_set(): bell.wait(500)"])
def test_a_signal_that_another_thread_gets_ends_the_wait(wait: str) -> None:
    command = [sys.executable, "-c", WAITER.format(wait=wait)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGTERM)
        try:
            assert child.wait(PATIENCE_S) == 0
            assert child.stdout.read() == "stopped\n"
        finally:
            child.kill()


def test_it_stays_rung_whoever_rang_and_a_wait_may_end_without() -> None:
    bell = Doorbell()
    began = time.monotonic()
    assert not bell.wait(0.02) and not bell.is_set() and time.monotonic() - began >= 0.02
    thread = threading.Thread(target=bell.ring)
    thread.start()
    assert bell.wait(PATIENCE_S) and bell.is_set() and bell.wait()
    thread.join()
    for _ in range(1 << 17):  # more than a pipe holds
        bell.ring()
    assert bell.wait()
    bell.close()


def test_another_signal_does_not_ring_it_and_its_handler_runs() -> None:
    seen: list[int] = []
    bell = Doorbell()
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)}
    try:
        bell.answer_signals(signal.SIGUSR2)
        signal.signal(signal.SIGUSR1, lambda number, _: seen.append(number))
        os.kill(os.getpid(), signal.SIGUSR1)
        assert not bell.wait(0.05) and seen == [signal.SIGUSR1]
        os.kill(os.getpid(), signal.SIGUSR2)
        assert bell.wait(PATIENCE_S)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        bell.close()


def test_a_ring_after_the_end_goes_nowhere(tmp_path: Path) -> None:
    """Its descriptors may be somebody else's by then."""
    bell = Doorbell()
    bell.close()
    with (tmp_path / "a").open("wb") as first, (tmp_path / "b").open("wb") as second:
        bell.ring()
        assert first.tell() == second.tell() == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == b""
