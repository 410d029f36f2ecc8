# SPDX-License-Identifier: GPL-3.0-or-later
"""The sequencer's process: recovery, the sequencer, the background parts, and the link to other processes.

Rules:
- Start: read the configuration, recover, sign the head, then open the link. Until then nothing is accepted.
- The public interface is a process of its own beside it (clearing.service.run): nothing here serves strangers.
- Stop: commit what waits, write epoch records. What was acknowledged is in the journal.
- The background parts (chains, ticker) may fail and be tried again; their last fault is in the log once
  per change, and in GET /v1/status.
- The log is one JSON object per line on standard error, and never one line per command.
"""

import gc
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from clearing.chain.errors import ChainError
from clearing.chain.wallet import Wallet
from clearing.model.errors import NovateError
from clearing.service import config as configuration
from clearing.service.attestations import AttestationBook
from clearing.service.challenges import Answerer
from clearing.service.checkpoints import CheckpointSigner
from clearing.service.commit import Committer
from clearing.service.config import Config
from clearing.service.ending import Ending
from clearing.service.epochs import EpochRecord, write_durably
from clearing.service.freeze import FreezeWatch
from clearing.service.intake import Intake
from clearing.service.layout import KeyRing, Layout, read_key
from clearing.service.link.answers import Answers
from clearing.service.link.ring import Ring
from clearing.service.link.server import LinkServer
from clearing.service.links import Link, close_links, open_links
from clearing.service.loops import Faults, Loop
from clearing.service.operator import Operator
from clearing.service.ops import logs
from clearing.service.ops.figures import Gauges
from clearing.service.ops.meter import Meter
from clearing.service.ops.restore import require_unguarded
from clearing.service.ops.watch import Watch, attach
from clearing.service.pipeline import ClosedEpoch, Pipeline
from clearing.service.poster import Poster
from clearing.service.prover import Prover
from clearing.service.recover import open_store, recover, warm
from clearing.service.run import API, run_node
from clearing.service.sequencer import Sequencer
from clearing.service.ticker import Ticker
from clearing.service.venue import Venue
from clearing.service.vouchers import VoucherDesk


def now_us() -> int:
    """Microseconds UTC."""
    return time.time_ns() // 1_000


def configure_logging() -> Any:
    """A logger that writes JSON lines to standard error."""
    return logs.configure()


class Node:
    """Everything of one data directory, running from construction to `close`. Overrides of the
    configuration may be given by name. Raises `NovateError` (and `ChainError`) when it cannot start."""

    def __init__(
        self, data_dir: Path, *, clock_us: Callable[[], int] = now_us, log: Any = None, **overrides: Any
    ) -> None:
        given = {name: value for name, value in overrides.items() if value is not None}
        config = configuration.load(data_dir)
        self.config: Config = configuration.override(config, given)
        self.log = log if log is not None else logs.configure(self.config.log_json, self.config.log_level)
        self.exit_code = 0
        self.private_chosen = "private_port" in given
        self.faults = Faults(self.log)
        self.on_fatal: Callable[[], None] | None = None
        self._clock_us = clock_us
        self._layout = Layout(data_dir)
        self._ring = KeyRing(self._layout.keys)
        self._links: list[Link] = []
        self._loops: list[Loop] = []
        self._posting: list[Loop] = []
        self.intakes: list[Intake] = []
        self.freezes: list[FreezeWatch] = []
        self.watch: Watch | None = None
        self.link: LinkServer | None = None
        require_unguarded(data_dir)
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
        self.meter = Meter()
        receipts = warm(self.pipeline.recent, self.store)
        self.meter.seed(receipt.outcomes for receipt in receipts)
        for receipt in receipts:
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
        self.ticker = Ticker(
            self.pipeline, self.operator, self._clock_us, config.tick_seconds, self.faults.report, self._ended
        )
        self.ending = Ending(self.store, self.pipeline, self.book)
        wallet = lambda: Wallet(self._operator_secp256k1())  # noqa: E731 - read only when something is signed
        self._links = open_links(self.genesis, config, wallet, self.faults.report, self._layout.sending)
        self.prover = Prover(self.book, self._signer)
        self.attestations = AttestationBook(self._layout.attestations, self.genesis, self.book, self._attested)
        self.poster = Poster(
            self.pipeline,
            self.operator,
            self.book,
            self._links,
            self.attestations,
            self.store.consistency,
            self._posted,
            self.ending.final_epoch,
        )
        self.vouchers = VoucherDesk(
            self.pipeline, self._links, self._layout.vouchers, wallet, self._clock_us, config.voucher_seconds
        )
        attach(self.meter, self.pipeline, self.sequencer)
        self._noted = ""
        self._keep_note()
        self._make_loops()
        self._resume()
        self.watch = self._make_watch()
        self.venue = Venue(
            self.store,
            self.pipeline,
            self.sequencer,
            self.book,
            self.prover,
            self.poster,
            self.attestations,
            self.vouchers,
            self.ending.view,
            self.faults.current,
        )
        self.link = self._open_link()

    def _open_link(self) -> LinkServer:
        """The last of a start: from now on other processes reach the writer."""
        committer = self.pipeline.committer
        assert committer.latest is not None, "the head was signed when it was recovered"
        ring = Ring(self.store.head(), committer.latest)
        self.store.on_append, self.pipeline.on_head = ring.add, ring.publish
        answers, report = Answers(self.venue, self.faults.report), self.faults.report
        return LinkServer(self._layout.link, self.genesis.deployment, self.sequencer, ring, answers, report)

    def _make_loops(self) -> None:
        """One for the epochs; per connected vault one for posting and one for its inbox and a freeze, so that
        no chain waits for another."""
        config = self.config
        self._epochs = Loop("poster", config.epoch_seconds, self.poster.turn, self.faults, self.poster.post_missing)
        self._loops = [self._epochs, Loop("checkpoint", config.tick_seconds, self._keep_note, self.faults)]
        for link, vault in zip(self._links, self.poster.vaults, strict=True):
            if link.client is None:
                continue
            number = link.number
            intake = Intake(self.pipeline, self.operator, link)
            freeze = FreezeWatch(self.pipeline, self.operator, self.book, link)
            answer = Answerer(self.store, self.book, link).turn
            post = vault.post_missing
            self.intakes.append(intake)
            self.freezes.append(freeze)
            self._posting.append(Loop(f"posting {number}", config.post_seconds, post, self.faults, post))
            follow = partial(self._follow, intake, freeze)
            self._loops.append(Loop(f"vault {number}", config.poll_seconds, follow, self.faults))
            self._loops.append(Loop(f"challenges {number}", config.post_seconds, answer, self.faults))
        self._loops += self._posting

    def _make_watch(self) -> Watch:
        gauges = Gauges(
            self.store, self.pipeline, self.sequencer, self.book, self.poster, self._links, self.faults.current,
            self.meter, self._clock_us, self.config.alerts, self.config.epoch_seconds,
        )  # fmt: skip
        return Watch(gauges, self.config, self.faults, self.log)

    @property
    def intake(self) -> Intake | None:
        """The first vault's intake, when it has a chain."""
        return self.intakes[0] if self.intakes else None

    def _follow(self, intake: Intake, freeze: FreezeWatch) -> None:
        """A vault's inbox, until it freezes; then its escape."""
        settled = freeze.settled
        if freeze.turn():
            if not settled:
                self._epochs.poke()
        else:
            intake.turn()

    def _resume(self) -> None:
        """Post what a crash left unposted; an unreachable chain delays that and does not prevent a start."""
        try:
            self.poster.post_missing()
            self._ended()
        except ChainError as error:
            self.faults.report("poster", error)

    def _keep_note(self) -> None:
        """Leave the newest signed note in the data directory, from where `novate journal publish` takes it, in a
        process of its own. Not at each commit: the writer does not wait for a publication."""
        latest = self.pipeline.committer.latest
        if latest is not None and latest.note != self._noted:
            write_durably(self._layout.checkpoint, latest.note.encode())
            self._noted = latest.note

    # --- callbacks from the writer ---

    def _epoch_closed(self, epoch: ClosedEpoch) -> None:
        """Whoever asked for the close: what is closed is written and posted."""
        self.book.closed(epoch)
        self._poke()

    def _attested(self, _vault: int) -> None:
        """A header may have enough signatures now."""
        self._poke()

    def _posted(self, vault: int, record: EpochRecord) -> None:
        """A vault holds this epoch; an epoch that is overdue may be closed now."""
        self.prover.posted(vault, record)
        self.log.info("epoch posted", vault=vault, epoch=record.epoch, journal_size=record.snapshot_seq)
        self._epochs.poke()

    def _ended(self) -> None:
        """Everything may be acknowledged now: then the final epoch closes without waiting for its turn."""
        if self.ending.done and self.ending.final_epoch() is None:
            self.poster.hurry()
            self._epochs.poke()

    def _poke(self) -> None:
        for loop in (*self._posting, self._epochs):
            loop.poke()

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
        if self.watch is not None:
            self.watch.stop(self._layout.root)
        self.ticker.stop()
        for loop in self._loops:
            loop.stop()
        try:
            self.sequencer.close()
            self.book.flush()
            self._keep_note()
        except NovateError as error:
            self.exit_code = 1
            self.faults.report("close", error)
        if self.link is not None:
            self.link.close()
        self.pipeline.close()
        self._release()

    def _release(self) -> None:
        close_links(self._links)
        self.store.close()

    @property
    def root(self) -> Path:
        """The data directory."""
        return self._layout.root


def run_operator(
    data_dir: Path,
    host: str | None = None,
    port: int | None = None,
    rpc_urls: Sequence[str] = (),
    epoch_seconds: int | None = None,
    port_file: Path | None = None,
    api: Sequence[str] = API,
    **overrides: Any,
) -> int:
    """Run the operator of a data directory: the sequencer in this process, the public interface (`api`, a command) in
    one beside it; the exit code. What is None comes from config.toml. `port` 0 takes a free one, which `port_file`
    tells; `rpc_urls` are the vaults' endpoints in genesis's order. Raises `NovateError`, `ChainError`."""
    node = Node(data_dir, rpc_urls=tuple(rpc_urls), epoch_seconds=epoch_seconds, **overrides)
    # A full collection over a large state stops the writer for as long as several commits; the core
    # makes no cycles, so what was loaded is set aside and the rest is collected rarely.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1_000)
    return run_node(node, host, port, port_file, api)


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
