# SPDX-License-Identifier: GPL-3.0-or-later
"""The public interface's process: link, replica and application on one event loop.

Rules:
- Start: open the journal for reading, restore the state, connect to the sequencer, then serve. It serves without a
  sequencer, too: reads from its replica, and 503 for what needs the writer.
- SIGTERM and SIGINT: the application's closers, then requests under way get their answers, then exit 0.
- Under supervision (`--lifeline-fd`) it says when it serves, and ends at once when the other end closes, since then
  the sequencer's process is gone and another may come with an interface of its own.
- A replica that differs from the journal ends the process with status 3: the next one restores from a sound snapshot.
"""

import argparse
import asyncio
import contextlib
import gc
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import uvicorn
from starlette.applications import Starlette

from clearing.api.context import Context
from clearing.api.link import Link
from clearing.api.replica import Replica
from clearing.api.stream.protocol import SETTINGS
from clearing.model.errors import NovateError
from clearing.service import config as configuration
from clearing.service.epochs import EpochBook
from clearing.service.layout import Layout
from clearing.service.loops import Faults
from clearing.service.ops import logs
from clearing.service.ops.private import listen
from clearing.service.recover import open_store, read_genesis
from clearing.service.supervise import READY
from journal import JournalError

Build = Callable[[Context], Starlette]
EXIT_DIVERGED: Final = 3
EXIT_ORPHANED: Final = 4
_STOPPING: Final = (signal.SIGTERM, signal.SIGINT)
_CLOSERS_S: Final = 5.0
_REPORT_S: Final = 1.0
_CONNECT_S: Final = 5.0
# Besides connections of the stream: those of REST, the journal, the link.
_FILES_BESIDE: Final = 1_000


class _Server(uvicorn.Server):
    """Awaits the application's closers before it closes connections."""

    def __init__(self, settings: uvicorn.Config, context: Context) -> None:
        super().__init__(settings)
        self._context = context

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for closer in self._context.closers:
            try:
                async with asyncio.timeout(_CLOSERS_S):
                    await closer()
            except Exception as error:  # noqa: BLE001 - one that fails must not keep the others open
                self._context.report("close", error)
        await super().shutdown(sockets)


def default_app(context: Context) -> Starlette:
    """The venue's interface."""
    from clearing.api.app import build_app

    return build_app(context)


class Process:
    """One run of the interface over a data directory."""

    def __init__(self, data_dir: Path, build: Build, listener: socket.socket | None, lifeline: int | None) -> None:
        self._data_dir = data_dir
        self._build = build
        self._listener = listener
        self._lifeline = lifeline
        self._config = configuration.load(data_dir)
        self._log = logs.configure(self._config.log_json, self._config.log_level).bind(process="api")
        self._faults = Faults(self._log)
        self._code = 0

    def run(self) -> int:
        """Serve until it is told to stop; the exit code. Raises `NovateError`."""
        if self._lifeline is not None:
            threading.Thread(target=_leave_with, args=(self._lifeline,), name="lifeline", daemon=True).start()
        for number in _STOPPING:  # nothing is served yet, so there is nothing to finish
            signal.signal(number, lambda *_: os._exit(0))
        _allow_files(self._config.api.max_streams + _FILES_BESIDE)
        # The event loop answers while a thread applies an epoch's close: it must not wait long for its turn.
        sys.setswitchinterval(0.001)
        return asyncio.run(self._serve())

    async def _serve(self) -> int:
        layout, started = Layout(self._data_dir), time.monotonic()
        with open_store(layout, self._config.journal_map_bytes, read_only=True) as store:
            genesis = read_genesis(store)
            book = EpochBook(layout, genesis, self._config.keep_snapshots)
            link, replica = Link(layout.link), Replica(store, book, layout.link)
            await link.start()
            await replica.start()
            try:
                gc.collect()
                gc.freeze()
                gc.set_threshold(100_000, 50, 1_000)
                seconds = round(time.monotonic() - started, 3)
                self._log.info("restored", size=replica.seq, from_seq=replica.from_seq, seconds=seconds)
                # Not longer: without a sequencer there are reads to serve.
                await asyncio.gather(link.wait_connected(_CONNECT_S), replica.wait_connected(_CONNECT_S))
                report, log, config = self._faults.report, self._log, self._config
                context = Context(self._data_dir, config, genesis, link, replica, store, book, report, log)
                await self._serve_app(context)
            finally:
                await replica.close()
                await link.close()
        self._log.info("stopped", exit_code=self._code)
        return self._code

    async def _serve_app(self, context: Context) -> None:
        listener = self._listener or listen(self._config.host, self._config.port)
        settings = uvicorn.Config(
            self._build(context), log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=10,
            forwarded_allow_ips=self._config.api.proxies, **SETTINGS,
        )  # fmt: skip
        server = _Server(settings, context)

        def diverged(message: str) -> None:
            self._log.critical("diverged", code="REPLICA_DIVERGED", message=message)
            self._code = EXIT_DIVERGED
            server.should_exit = True

        context.replica.on_divergence = diverged
        if context.replica.divergence is not None:
            diverged(context.replica.divergence)

        def leave(*_: object) -> None:
            server.should_exit = True

        # uvicorn takes the signals over while it serves, and raises the one that stopped it once more when it is done;
        # by default that would end the process before what it holds is closed.
        for number in _STOPPING:
            signal.signal(number, leave)
        reporting = asyncio.create_task(self._report_forever(context, server))
        serving = asyncio.create_task(server.serve([listener]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.005)
        if server.started and self._lifeline is not None:
            os.write(self._lifeline, READY)
        self._log.info("serving", host=listener.getsockname()[0], port=listener.getsockname()[1])
        try:
            await serving
        finally:
            reporting.cancel()

    async def _report_forever(self, context: Context, server: uvicorn.Server) -> None:
        """Tell the sequencer's process what its metrics show of us, and the log how the replica fares."""
        replica = context.replica
        while True:
            fault = replica.fault if replica.stale else None
            if fault is not None:
                self._faults.report("replica", fault)
            elif not replica.stale:
                self._faults.clear("replica")
            figures = {
                "connections": len(server.server_state.connections),
                "seq": replica.seq,
                "behind": replica.behind,
            }
            with contextlib.suppress(NovateError):
                await context.link.ask("report", figures)
            await asyncio.sleep(_REPORT_S)


def _allow_files(wanted: int) -> None:
    """Let this process have so many files open, as far as it may: the usual default of 1,024 is fewer than the
    connections that the configuration promises."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def _leave_with(lifeline: int) -> None:
    """End this process when the other end of its lifeline closes."""
    with contextlib.suppress(OSError):
        while os.read(lifeline, 1):
            pass
    os._exit(EXIT_ORPHANED)


def main(arguments: Sequence[str] | None = None, build: Build = default_app) -> None:
    """`python -m clearing.api DATA_DIR`: serve the public interface of a data directory whose sequencer runs."""
    parser = argparse.ArgumentParser(prog="python -m clearing.api", description=main.__doc__)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--listen-fd", type=int, help="a bound socket; by default host and port of the configuration")
    parser.add_argument("--lifeline-fd", type=int, help="ends this process when its other end closes")
    given = parser.parse_args(arguments)
    listener = socket.socket(fileno=given.listen_fd) if given.listen_fd is not None else None
    try:
        code = Process(given.data_dir, build, listener, given.lifeline_fd).run()
    except (NovateError, JournalError) as error:
        sys.exit(str(error))
    sys.stderr.flush()
    os._exit(code)  # a thread that waits on the lifeline must not hold the exit back
