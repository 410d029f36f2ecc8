# SPDX-License-Identifier: GPL-3.0-or-later
"""The operator's process: recovery, the sequencer, the background parts, and HTTP on one port.

Rules:
- Start: read the configuration, recover, sign the head, then serve. Until then nothing is accepted.
- SIGTERM and SIGINT: stop accepting, commit what waits, write epoch records, exit 0. A fault of the
  writer: exit 1; what was acknowledged is in the journal.
- The background parts (chain, ticker) may fail and be tried again; their last fault is in the log once
  per change, and in GET /v1/status.
- The log is one JSON object per line on standard error, and never one line per command.
"""

import asyncio
import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
import uvicorn

from clearing.chain.errors import ChainError
from clearing.chain.rpc import Rpc
from clearing.chain.vault import VaultClient
from clearing.chain.wallet import Wallet
from clearing.model.errors import NovateError
from clearing.service import config as configuration
from clearing.service.checkpoints import CheckpointSigner
from clearing.service.commit import Committer
from clearing.service.config import Config
from clearing.service.epochs import write_durably
from clearing.service.http import build_app
from clearing.service.intake import Intake
from clearing.service.layout import KeyRing, Layout, read_key
from clearing.service.operator import Operator
from clearing.service.pipeline import ClosedEpoch, Pipeline
from clearing.service.poster import Poster
from clearing.service.prover import Prover
from clearing.service.recover import open_store, recover, warm
from clearing.service.sequencer import Sequencer
from clearing.service.ticker import Ticker
from clearing.service.venue import Venue

# Faults of a background part that no later attempt can mend: people must look.
_HOPELESS = ("INBOX_DIVERGED", "POST_DIVERGED", "VAULT_FROZEN", "WRONG_CHAIN", "WRONG_VAULT")


def now_us() -> int:
    """Microseconds UTC."""
    return time.time_ns() // 1_000


def configure_logging() -> Any:
    """A structlog logger that writes JSON lines to standard error."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )
    return structlog.get_logger()


class Faults:
    """The last fault per part; a fault is logged when it changes and when it is over."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._last: dict[str, str] = {}
        self._lock = threading.Lock()

    def report(self, part: str, error: BaseException) -> None:
        code = getattr(error, "code", type(error).__name__)
        with self._lock:
            changed = self._last.get(part) != code
            self._last[part] = code
        if changed:
            self._log.error("fault", part=part, code=code, message=str(error))

    def clear(self, part: str) -> None:
        with self._lock:
            over = self._last.pop(part, None)
        if over is not None:
            self._log.info("fault over", part=part, code=over)

    def current(self) -> dict[str, str]:
        with self._lock:
            return dict(self._last)


class Loop:
    """Calls `turn` every `seconds` (0: never) and `poked` soon after `poke`, on a thread of its own."""

    def __init__(
        self,
        name: str,
        seconds: float,
        turn: Callable[[], object],
        faults: Faults,
        poked: Callable[[], object] | None = None,
    ) -> None:
        self._name, self._seconds, self._turn, self._poked, self._faults = name, seconds, turn, poked, faults
        self._wake = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def poke(self) -> None:
        """Have `poked` called soon; any thread may."""
        self._wake.set()

    def stop(self, timeout_s: float = 10.0) -> None:
        self._stopped = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        due = time.monotonic() + self._seconds
        while True:
            poked = self._wake.wait(max(0.0, due - time.monotonic()) if self._seconds else None)
            self._wake.clear()
            if self._stopped:
                return
            work = self._poked if poked else self._turn
            if not poked:
                due = time.monotonic() + self._seconds
            if work is not None and not self._attempt(work):
                return

    def _attempt(self, work: Callable[[], object]) -> bool:
        """Do it; False when no later attempt could help."""
        try:
            work()
            self._faults.clear(self._name)
        except Exception as error:  # noqa: BLE001 - reported, and tried again
            self._faults.report(self._name, error)
            return getattr(error, "code", "") not in _HOPELESS
        return True


class Node:
    """Everything of one data directory, running from construction to `close`. Overrides of the
    configuration may be given by name. Raises `NovateError` (and `ChainError`) when it cannot start."""

    def __init__(
        self, data_dir: Path, *, clock_us: Callable[[], int] = now_us, log: Any = None, **overrides: Any
    ) -> None:
        given = {name: value for name, value in overrides.items() if value is not None}
        config = configuration.load(data_dir)
        self.config: Config = configuration.override(config, given)
        self.log = log if log is not None else configure_logging()
        self.exit_code = 0
        self.faults = Faults(self.log)
        self.on_fatal: Callable[[], None] | None = None
        self._clock_us = clock_us
        self._layout = Layout(data_dir)
        self._ring = KeyRing(self._layout.keys)
        self._rpc: Rpc | None = None
        self.store = open_store(self._layout, self.config.journal_map_bytes)
        try:
            self._recover()
            self._start()
        except BaseException:
            self._release()
            raise

    # --- start ---

    def _recover(self) -> None:
        started = time.monotonic()
        found = recover(self.store, self._layout, self.config.keep_snapshots)
        self.book, self.genesis = found.book, found.genesis
        self._operator_address = found.reducer.state.operator_address
        key = self._operator_secp256k1() if self.config.checkpoint_secp256k1 else None
        self._signer = CheckpointSigner(found.genesis, self._ring, key)
        committer = Committer(self.store, self._signer)
        self.pipeline = Pipeline(
            committer,
            found.reducer,
            threads=self.config.verify_threads,
            on_epoch=self._epoch_closed,
            on_price=self._price,
        )
        checkpoint = committer.checkpoint(found.reducer.state)
        for receipt in warm(self.pipeline.recent, self.store):
            receipt.checkpoint = checkpoint
        seconds = round(time.monotonic() - started, 3)
        self.log.info(
            "recovered",
            size=checkpoint.size,
            from_seq=found.from_seq,
            replayed=found.replayed,
            seconds=seconds,
        )

    def _operator_secp256k1(self) -> bytes:
        """The key of the address that signs headers: the journal's, whatever the vault's name for it."""
        address = self._operator_address
        for path in sorted(self._layout.keys.glob("*.secp256k1")):
            key = read_key(path)
            if Wallet(key).address == address:
                return key
        raise NovateError("KEY_NOT_HELD", f"no file in {self._layout.keys} holds the key of 0x{address.hex()}")

    def _start(self) -> None:
        config = self.config
        self.sequencer = Sequencer(
            self.pipeline,
            self._clock_us,
            max_batch=config.max_batch,
            max_waiting=config.max_waiting,
            on_fatal=self._fatal,
        )
        self.operator = Operator(self.pipeline, self.sequencer.submit, self._ring)
        self.ticker = Ticker(self.pipeline, self.operator, self._clock_us, config.tick_seconds, self.faults.report)
        vault = self._vault()
        self.prover = Prover(self.book, self._signer)
        self.poster = Poster(
            self.pipeline,
            self.operator,
            self.book,
            vault,
            vault.wallet if vault else None,
            config.confirmations,
            self.prover.posted,
        )
        self.intake = None
        self._loops = [Loop("poster", config.epoch_seconds, self.poster.turn, self.faults, self.poster.post_missing)]
        if vault is not None:
            self.intake = Intake(self.pipeline, self.operator, vault, config.confirmations)
            self._loops.append(Loop("intake", config.poll_seconds, self.intake.turn, self.faults))
        self._resume()
        posted = lambda: self.poster.posted_epoch  # noqa: E731 - a name for it would say no more
        self.venue = Venue(
            self.store, self.pipeline, self.sequencer, self.book, self.prover, posted, self.faults.current
        )

    def _resume(self) -> None:
        """Post what a crash left unposted; an unreachable chain delays that and does not prevent a start."""
        try:
            self.poster.post_missing()
        except ChainError as error:
            self.faults.report("poster", error)

    def _vault(self) -> VaultClient | None:
        """The vault of genesis behind the configured endpoint. Raises `ChainError` WRONG_CHAIN,
        `NovateError` WRONG_VAULT; an unreachable endpoint is only a fault for later."""
        if not self.config.rpc_url:
            return None
        chosen = self.genesis.vaults[0]
        self._rpc = Rpc(self.config.rpc_url)
        vault = VaultClient(self._rpc, chosen.address, Wallet(self._operator_secp256k1()))
        try:
            vault.rpc.require_chain(chosen.chain_id)
            theirs = vault.deployment_id()
        except ChainError as error:
            if error.code != "RPC_UNREACHABLE":
                raise
            self.faults.report("chain", error)
            return vault
        if theirs != self.genesis.deployment:
            message = f"vault 0x{chosen.address.hex()} is of deployment {theirs.hex()}, not of this journal's"
            raise NovateError("WRONG_VAULT", message)
        return vault

    # --- callbacks from the writer ---

    def _epoch_closed(self, epoch: ClosedEpoch) -> None:
        """Whoever asked for the close: what is closed is written and posted."""
        self.book.closed(epoch)
        self._loops[0].poke()

    def _price(self) -> None:
        self.ticker.price_moved()

    def _fatal(self, error: BaseException) -> None:
        self.exit_code = 1
        self.log.critical("halted", code=getattr(error, "code", type(error).__name__), message=str(error))
        if self.on_fatal is not None:
            self.on_fatal()

    # --- run and stop ---

    def start_background(self) -> None:
        """Start following time and chain."""
        self.ticker.start()
        for loop in self._loops:
            loop.start()

    def close(self) -> None:
        """Stop in the order in which work flows. Idempotent."""
        self.ticker.stop()
        for loop in self._loops:
            loop.stop()
        try:
            self.sequencer.close()
            self.book.flush()
        except NovateError as error:
            self.exit_code = 1
            self.faults.report("close", error)
        self.pipeline.close()
        self._release()

    def _release(self) -> None:
        if self._rpc is not None:
            self._rpc.close()
        self.store.close()

    def run(self, host: str | None = None, port: int | None = None, port_file: Path | None = None) -> int:
        """Serve until SIGTERM, SIGINT or a fault of the writer; the process's exit code."""
        try:
            listener = _listen(host or self.config.host, self.config.port if port is None else port)
        except BaseException:
            self.close()
            raise
        bound = listener.getsockname()[1]
        settings = uvicorn.Config(
            build_app(self.venue, self.faults.report), log_config=None, access_log=False, lifespan="off",
            timeout_graceful_shutdown=10,
        )  # fmt: skip
        server = uvicorn.Server(settings)

        def leave() -> None:
            server.should_exit = True

        # uvicorn raises the signal that stopped it once more when it is done; by default that would end the
        # process before the queue is committed.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: leave())
        self.on_fatal = leave
        if self.sequencer.fatal is not None:
            leave()
        self.start_background()

        async def serve() -> None:
            serving = asyncio.create_task(server.serve([listener]))
            while not server.started and not serving.done():
                await asyncio.sleep(0.005)
            if port_file is not None and server.started:
                write_durably(port_file, f"{bound}\n".encode())
            self.log.info("serving", host=host or self.config.host, port=bound, epoch=self.pipeline.reducer.state.epoch)
            await serving

        try:
            asyncio.run(serve())
        finally:
            listener.close()
            self.close()
            self.log.info("stopped", exit_code=self.exit_code)
        return self.exit_code


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `NovateError` PORT_UNAVAILABLE."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        raise NovateError(
            "PORT_UNAVAILABLE", f"cannot listen on {host}:{port}: {error.strerror}; choose another"
        ) from None
    return listener


def run_operator(
    data_dir: Path,
    host: str | None = None,
    port: int | None = None,
    rpc_url: str | None = None,
    epoch_seconds: int | None = None,
    port_file: Path | None = None,
    **overrides: Any,
) -> int:
    """Run the operator of a data directory in this process; its exit code. What is None comes from
    config.toml. `port` 0 takes a free one, which `port_file` tells. Raises `NovateError`, `ChainError`."""
    node = Node(data_dir, rpc_url=rpc_url, epoch_seconds=epoch_seconds, **overrides)
    # A full collection over a large state stops the writer for as long as several commits; the core
    # makes no cycles, so what was loaded is set aside and the rest is collected rarely.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1_000)
    return node.run(host, port, port_file)


def main() -> None:
    """`python -m clearing.service.node DATA_DIR [PORT_FILE]`: for tests and service managers."""
    try:
        port_file = Path(sys.argv[2]) if len(sys.argv) > 2 else None
        code = run_operator(Path(sys.argv[1]), port=0 if port_file else None, port_file=port_file)
    except IndexError:
        sys.exit("usage: python -m clearing.service.node DATA_DIR [PORT_FILE]")
    except NovateError as error:
        sys.exit(str(error))
    sys.stderr.flush()
    os._exit(code)  # a verifying or polling thread must not hold the exit back


if __name__ == "__main__":
    main()
