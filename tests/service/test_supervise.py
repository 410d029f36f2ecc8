# SPDX-License-Identifier: GPL-3.0-or-later
"""Two processes, one run: the interface may die and come back, the run ends with its writer, and stops whole."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from clearing.model import commands as c
from clearing.model.errors import NovateError
from clearing.model.signature import public_key_of
from clearing.service.layout import Layout
from clearing.service.link import frames as f
from clearing.service.run import listen
from clearing.service.supervise import START_ATTEMPTS, Supervisor
from tests.api.venue import PATIENCE_S, ROOT, Raw, make_venue, state_on_disk, trades
from tests.service.world import World, order, seed_of


@pytest.fixture
def venue(tmp_path: Path) -> World:
    return make_venue(tmp_path / "venue")


def patiently(condition: Callable[[], Any]) -> Any:
    """What the condition gives once it holds; a test that waits for what never comes fails."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        with contextlib.suppress(httpx.HTTPError, OSError, ValueError):
            if found := condition():
                return found
        time.sleep(0.01)
    raise AssertionError("it never came to be")


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not waited for does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


class Run:
    """`operator run` as a process, its log, and a client of its interface."""

    def __init__(self, path: Path, port: int = 0, **environment: str) -> None:
        self.path = path
        self._port_file = path.parent / f"port-{time.monotonic_ns()}"
        self.log_path = self._port_file.with_suffix(".log")
        command = [sys.executable, "-m", "tests.api.operator", str(path), str(self._port_file), str(port)]
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stderr=log, env=os.environ | environment)

    def serving(self) -> "Run":
        self.port = int(patiently(self._port_file.read_text))
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=PATIENCE_S)
        return self

    def look(self) -> dict[str, Any]:
        return dict(self.http.get("/look").json())

    def log(self) -> list[dict[str, Any]]:
        lines = self.log_path.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.log() if line["event"] == name]

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_S)
        if hasattr(self, "http"):
            self.http.close()


@contextlib.contextmanager
def running(path: Path, **choices: Any) -> Iterator[Run]:
    run = Run(path, **choices)
    try:
        yield run.serving()
    finally:
        run.end()


def test_a_killed_interface_is_started_again_and_nothing_is_lost(venue: World) -> None:
    """kill -9 of the interface: the sequencer goes on, the port stays the run's (who connects meanwhile waits instead
    of being refused), the new one agrees, an identical retry gets the first receipt, and the log says what happened."""
    raw = venue.batch("alice", order())
    with running(venue.path) as run:
        first = run.http.post("/submit", content=raw).json()
        before = run.look()
        os.kill(before["pid"], signal.SIGKILL)
        answer = httpx.post(f"http://127.0.0.1:{run.port}/submit", content=raw, timeout=PATIENCE_S).json()
        assert answer["seq"] == first["seq"]
        after = run.look()
        assert after["pid"] != before["pid"] and not after["stale"] and after["seq"] > first["seq"]
        (line,) = run.events("restarting")
        assert line["process"] == "api" and line["status"] == -signal.SIGKILL and line["was_ready"]
        assert run.process.poll() is None


@pytest.mark.slow
def test_one_that_dies_again_and_again_comes_back_later_each_time(venue: World) -> None:
    """Deaths in a row are answered with growing pauses, never with an end of the run, once it has served."""
    with running(venue.path) as run:
        for count in (1, 2, 3):
            with contextlib.suppress(httpx.HTTPError):
                run.http.get("/die")
            patiently(lambda: len(run.events("restarting")) == count and run.look())  # noqa: B023
        pauses = [line["in_seconds"] for line in run.events("restarting")]
        assert pauses == [0.1, 0.2, 0.4]


@pytest.mark.slow
def test_a_replica_that_diverged_is_restored(venue: World) -> None:
    """The interface whose copy of the state is unsound ends with status 3, and the next one starts from the journal."""
    with running(venue.path) as run:
        before = run.look()
        run.http.get("/diverge")
        patiently(lambda: run.look()["pid"] != before["pid"])
        assert run.events("restarting")[0]["status"] == 3
        assert run.events("diverged")[0]["code"] == "REPLICA_DIVERGED"
        assert run.look()["seq"] >= before["seq"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.slow
def test_a_stop_finishes_what_was_begun(venue: World, number: signal.Signals) -> None:
    """A request under way gets its receipt, the application its last words, both processes end, with status 0; what
    was acknowledged is in the journal. SIGINT goes to both, as from a terminal."""
    raw, answers = venue.batch("alice", order()), []
    with running(venue.path) as run:
        pid = run.look()["pid"]
        url = f"http://127.0.0.1:{run.port}/dawdle?s=1"
        asking = threading.Thread(
            target=lambda: answers.append(httpx.post(url, content=raw, timeout=PATIENCE_S).json())
        )
        asking.start()
        patiently(lambda: run.look()["under_way"])
        if number is signal.SIGINT:
            os.kill(pid, number)
        run.process.send_signal(number)
        assert run.process.wait(PATIENCE_S) == 0
        asking.join(PATIENCE_S)
        (answer,) = answers
        assert answer["size"] == answer["seq"] + 1
        assert not alive(pid)
        assert [line["exit_code"] for line in run.events("stopped")] == [0, 0]
        assert run.events("last words") and not run.events("restarting")
        with contextlib.closing(socket.socket()) as probe:
            assert probe.connect_ex(("127.0.0.1", run.port)) != 0
    assert not Layout(venue.path).link.exists()


@pytest.mark.slow
def test_the_run_ends_with_its_sequencer(venue: World) -> None:
    """kill -9 of the sequencer's process: the run has that status, and the interface does not outlive it, so that the
    next run on the same port starts at once."""
    raws = trades(venue, 1, 5)
    with running(venue.path) as run:
        pid, port = run.look()["pid"], run.port
        seqs = [run.http.post("/submit", content=raw).json()["seq"] for raw in raws]
        run.process.kill()
        assert run.process.wait(PATIENCE_S) == -signal.SIGKILL
        with running(venue.path, port=port) as second:
            assert not alive(pid)
            assert [second.http.post("/submit", content=raw).json()["seq"] for raw in raws] == seqs
            assert second.look()["seq"] > max(seqs)
            second.process.terminate()
            assert second.process.wait(PATIENCE_S) == 0
    state_on_disk(venue.path)


@pytest.mark.slow
def test_a_halted_writer_ends_the_run_with_status_1(venue: World) -> None:
    """A fault of the writer (here: the operator's key changed to one that it does not hold, so it can sign no head):
    its callers are told, both processes end, and the status says that it was no clean stop."""
    raw = venue.operator(c.RotateOperator(public_key_of(seed_of("elsewhere")), bytes(19) + b"\x01"))
    with running(venue.path) as run:
        pid = run.look()["pid"]
        assert run.http.post("/submit", content=raw).json()["code"] == "KEY_NOT_HELD"
        assert run.process.wait(PATIENCE_S) == 1
        assert not alive(pid)
        assert run.events("halted")[0]["code"] == "KEY_NOT_HELD"


@pytest.mark.slow
def test_one_that_never_serves_ends_the_run(venue: World) -> None:
    """An interface that cannot start is no reason to run without one: the log says why, and the status is 1."""
    run = Run(venue.path, NOVATE_TEST_API="broken")
    try:
        assert run.process.wait(2 * PATIENCE_S) == 1
        (line,) = run.events("halted")
        assert line["code"] == "API_FAILED" and str(START_ATTEMPTS) in line["message"]
        assert "BROKEN: this interface never serves" in run.log_path.read_text()
    finally:
        run.end()


def test_a_taken_port_is_an_error_before_anything_starts(venue: World) -> None:
    """PORT_UNAVAILABLE, and the journal is free again."""
    with contextlib.closing(listen("127.0.0.1", 0)) as taken:
        taken.listen()
        run = Run(venue.path, port=taken.getsockname()[1])
        try:
            assert run.process.wait(PATIENCE_S) == 1
            assert "PORT_UNAVAILABLE" in run.log_path.read_text()
        finally:
            run.end()
    state_on_disk(venue.path)


@pytest.mark.slow
def test_the_link_serves_while_the_interface_is_down(venue: World) -> None:
    """The sequencer does not need the interface: its link answers whoever else is there."""
    with running(venue.path) as run:
        with contextlib.suppress(httpx.HTTPError):
            run.http.get("/die")
        with Raw(venue.path) as raw:
            raw.send(f.Hello(f.VERSION, f.COMMANDS), f.Ask(1, "status", []))
            assert isinstance(raw.receive(), f.Welcome)
            assert isinstance(raw.receive(), f.Answer)


class _Log:
    def __getattr__(self, _: str) -> Callable[..., None]:
        return lambda *args, **fields: None


@pytest.mark.slow
def test_one_that_cannot_be_started_is_a_failure_with_a_reason() -> None:
    """A command that does not exist is tried as often as one that dies, and ends in API_FAILED, not in silence."""
    failures: list[NovateError] = []
    listener = listen("127.0.0.1", 0)
    supervisor = Supervisor(["/nonexistent/novate"], listener, _Log(), lambda: None, failures.append)
    supervisor.start()
    patiently(lambda: failures)
    assert failures[0].code == "API_FAILED" and "No such file" in failures[0].message
    assert supervisor.starts == START_ATTEMPTS and supervisor.pid is None
    supervisor.stop()


def test_one_that_does_not_finish_is_killed() -> None:
    """A process that ignores SIGTERM does not hold the run back for ever; `stop` may be called twice."""
    stubborn = (
        "import signal, sys, os, time; signal.signal(15, signal.SIG_IGN)\n"
        "os.write(int(sys.argv[4]), b'r'); time.sleep(600)"
    )
    ready = threading.Event()
    failures: list[NovateError] = []
    supervisor = Supervisor(
        [sys.executable, "-c", stubborn], listen("127.0.0.1", 0), _Log(), ready.set, failures.append
    )
    supervisor.start()
    assert ready.wait(PATIENCE_S)
    pid = supervisor.pid
    assert pid is not None
    supervisor.stop(0.2)
    assert not alive(pid) and supervisor.pid is None
    supervisor.stop(0.2)
    assert not failures and supervisor.starts == 1
