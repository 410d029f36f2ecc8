# SPDX-License-Identifier: GPL-3.0-or-later
"""From signed bytes to receipts, stage by stage over a batch.

1. decode, strictly;
2. verify signatures, split over threads: libsodium releases the interpreter's lock;
3. apply in arrival order, under one time that never decreases, and encode the entries;
4. commit all entries and sync once;
5. sign one checkpoint, and only now hand out receipts.

Rules:
- What is refused in 1-3 is never journalled and changed nothing.
- An identical retry (same key, same body) of something journalled recently gets its first receipt.
  It is looked up only when the reducer refuses it, as it refuses every used nonce, so that the way
  of new commands stays short.
- Between 3 and 4 the state runs ahead of the journal. If 4 fails, or the reducer itself does, the
  pipeline is halted for good: only a restart, which replays the journal, makes state and journal one
  again. What precedes a faulty command in its batch is still committed.
- No logging here: it would cost more than the matching.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from clearing.core import snapshot
from clearing.core.reducer import Reducer
from clearing.model.codec import decode_envelope, encode_entry
from clearing.model.commands import Body, Envelope, OperatorBatch, OracleUpdate
from clearing.model.errors import NovateError, Refused
from clearing.model.outcomes import EpochClosed, Outcome
from clearing.model.signature import verify
from clearing.service.checkpoints import SignedCheckpoint
from clearing.service.commit import Committer
from journal import Head
from proofs.log import leaf_hash

_PARALLEL_FROM = 16  # below this, waking a thread costs more than it saves
_Item = tuple[int, Envelope, Body]
_Check = Callable[[], list[tuple[int, Refused]]]


class Receipt:
    """What became of one envelope. `entry` is the journal's bytes, the leaf of every proof.

    `checkpoint` is the signed head of the commit that holds it.
    """

    __slots__ = ("checkpoint", "entry", "outcomes", "seq", "time_us")
    checkpoint: SignedCheckpoint

    def __init__(self, seq: int, time_us: int, entry: bytes, outcomes: list[Outcome]) -> None:
        self.seq = seq
        self.time_us = time_us
        self.entry = entry
        self.outcomes = outcomes

    @property
    def entry_hash(self) -> bytes:
        """Leaf hash of the entry (32 bytes)."""
        return leaf_hash(self.entry)


class ClosedEpoch:
    """An epoch as it stood when it closed, before the next command: what a header, proofs and a
    restart are made of. `payload` is the state snapshot, `chunks` the diff per vault; `head` is the
    journal right after the closing entry, which ends its block."""

    __slots__ = ("chunks", "head", "outcome", "payload", "seq", "time_us")
    head: Head

    def __init__(self, seq: int, time_us: int, outcome: EpochClosed, reducer: Reducer) -> None:
        self.seq = seq
        self.time_us = time_us
        self.outcome = outcome
        self.payload = snapshot.dump(reducer.state)
        self.chunks = [list(vault.diff_chunks) for vault in reducer.state.vaults]


def closing(outcomes: Sequence[Outcome]) -> EpochClosed | None:
    """The EpochClosed among outcomes; a CloseEpoch stands alone, so there is one at most."""
    return next((outcome for outcome in outcomes if isinstance(outcome, EpochClosed)), None)


class Recent:
    """Receipts of the last `limit` to twice `limit` entries, by what was signed with which key; fewer when
    they hold more than `limit_bytes`.

    Two generations: dropping a whole dict is cheaper than removing its oldest key at each insert. Keyed
    on the bytes themselves, since a digest would be the dearest thing in this loop after matching.
    """

    __slots__ = ("_bytes", "_limit", "_limit_bytes", "_old", "_young")

    def __init__(self, limit: int, limit_bytes: int = 64 << 20) -> None:
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._young: dict[tuple[bytes, bytes], Receipt] = {}
        self._old: dict[tuple[bytes, bytes], Receipt] = {}

    def add(self, envelope: Envelope, receipt: Receipt) -> None:
        if len(self._young) >= self._limit or self._bytes >= self._limit_bytes:
            self._old, self._young, self._bytes = self._young, {}, 0
        self._bytes += len(receipt.entry)
        self._young[(envelope.key, envelope.body)] = receipt

    def find(self, envelope: Envelope) -> Receipt | None:
        signed = (envelope.key, envelope.body)
        return self._young.get(signed) or self._old.get(signed)


def _verify_all(items: Sequence[_Item]) -> list[tuple[int, Refused]]:
    """The indexes whose signature does not hold, and why."""
    bad: list[tuple[int, Refused]] = []
    for index, envelope, body in items:
        try:
            verify(envelope, body)
        except Refused as error:
            bad.append((index, error))
        except Exception as error:  # noqa: BLE001 - hostile bytes must not stop the venue
            bad.append((index, Refused("BAD_SIGNATURE", f"cannot be verified: {type(error).__name__}")))
    return bad


class Begun:
    """A batch whose signatures are being checked: what `Pipeline.finish` goes on with."""

    __slots__ = ("checks", "items", "raw", "results")

    def __init__(self, raw: Sequence[bytes]) -> None:
        self.raw = raw
        self.results: list[Receipt | NovateError | None] = [None] * len(raw)
        self.items: list[_Item] = []
        self.checks: list[_Check] = []

    def verified(self) -> list[_Item]:
        """Wait for the checks; the items that passed them."""
        bad = [found for check in self.checks for found in check()]
        if not bad:
            return self.items
        for index, fault in bad:
            self.results[index] = fault
        return [item for item in self.items if self.results[item[0]] is None]


def halted_error(cause: BaseException) -> NovateError:
    """What callers are told after a fault: the cause's own code when it has one."""
    if isinstance(cause, NovateError):
        return NovateError(cause.code, f"{cause.message}; the operator has halted and must be restarted")
    return NovateError("NODE_HALTED", f"the operator halted on a fault ({type(cause).__name__}); restart it")


class Pipeline:
    """The one writer's pipeline. Call `process` from one thread; readers of `reducer.state` hold
    `lock`, and see only what is committed. `on_epoch` and `on_price` are called after the commit."""

    def __init__(
        self,
        committer: Committer,
        reducer: Reducer,
        *,
        threads: int = 2,
        recent: int = 16_384,
        on_epoch: Callable[[ClosedEpoch], None] | None = None,
        on_price: Callable[[], None] | None = None,
    ) -> None:
        self.committer = committer
        self.reducer = reducer
        self.lock = threading.Lock()
        self.halted: BaseException | None = None
        self.recent = Recent(recent)
        self.on_epoch = on_epoch
        self.on_price = on_price
        # Hears every entry's outcomes as they are applied, under the lock: it must be quick and must not fail.
        self.watch: Callable[[list[Outcome]], None] | None = None
        # Hears each signed head after its commit, before anyone gets a receipt: it must be quick and must not fail.
        self.on_head: Callable[[SignedCheckpoint], None] | None = None
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="verify") if threads > 1 else None
        self._epochs: list[ClosedEpoch] = []
        self._prices = False

    def close(self) -> None:
        """Stop the verifying threads."""
        if self._pool is not None:
            self._pool.shutdown()

    def process(self, raw: Sequence[bytes], now_us: int) -> list[Receipt | NovateError]:
        """Receipts or errors, in order. `now_us` (microseconds UTC) is clamped to never decrease.

        Raises nothing of its own: after a fault `halted` is set and everything is refused.
        """
        return self.finish(self.begin(raw), now_us)

    def begin(self, raw: Sequence[bytes]) -> Begun:
        """Stages 1 and 2, the signatures on other threads: they need no state, so a batch may begin while
        the one before it is applied and synced. Batches are finished in the order they began."""
        begun = Begun(raw)
        self._decode(begun)
        begun.checks = self.begin_checks(begun.items)
        return begun

    def finish(self, begun: Begun, now_us: int) -> list[Receipt | NovateError]:
        """The other stages, as `process`."""
        results = begun.results
        refusal = halted_error(self.halted) if self.halted is not None else self.committer.refusal()
        if refusal is not None:
            return [refusal] * len(results)
        items = begun.verified()
        with self.lock:
            receipts = self._apply(begun.raw, items, now_us, results)
            if receipts:
                self._commit(receipts, results)
        self._tell()
        assert None not in results, "every command gets an answer"
        return results  # type: ignore[return-value]  # the line above

    # --- stages 1 and 2 ---

    def _decode(self, begun: Begun) -> None:
        results, add = begun.results, begun.items.append
        for index, data in enumerate(begun.raw):
            try:
                envelope, body = decode_envelope(data)
            except Refused as error:
                results[index] = error
            else:
                add((index, envelope, body))

    def begin_checks(self, items: list[_Item]) -> list[_Check]:
        """Start verifying; each returned function waits for its part and gives what failed."""
        if self._pool is None or len(items) < _PARALLEL_FROM:
            bad = _verify_all(items)
            return [lambda: bad]
        step = -(-len(items) // self._threads)
        parts = [items[at : at + step] for at in range(0, len(items), step)]
        return [self._pool.submit(_verify_all, part).result for part in parts]

    # --- stage 3 ---

    def _apply(
        self,
        raw: Sequence[bytes],
        items: list[_Item],
        now_us: int,
        results: list[Receipt | NovateError | None],
    ) -> list[Receipt]:
        """Apply in order; the receipts of what is to be committed. They stand in `results` already."""
        reducer, add = self.reducer, self.recent.add
        apply, watch = reducer.apply, self.watch
        time_us = max(now_us, reducer.state.time_us)
        seq = self.committer.size
        fresh: list[Receipt] = []
        for index, envelope, body in items:
            try:
                outcomes = apply(time_us, envelope, body)
                entry = encode_entry(seq, time_us, raw[index], outcomes)
            except Refused as error:
                results[index] = self.recent.find(envelope) or error
                continue
            except Exception as fault:  # noqa: BLE001 - the state may be half changed: never go on with it
                self._halt(fault, results)
                break
            results[index] = receipt = Receipt(seq, time_us, entry, outcomes)
            if watch is not None:
                watch(outcomes)
            add(envelope, receipt)
            fresh.append(receipt)
            seq += 1
            kind = type(body)
            if kind is OperatorBatch:
                closed = closing(outcomes)
                if closed is not None:
                    self._epochs.append(ClosedEpoch(seq - 1, time_us, closed, reducer))
            elif kind is OracleUpdate:
                self._prices = True
        return fresh

    def _halt(self, fault: BaseException, results: list[Receipt | NovateError | None]) -> None:
        self.halted = fault
        error = halted_error(fault)
        for index, result in enumerate(results):
            if result is None:
                results[index] = error

    # --- stages 4 and 5 ---

    def _commit(self, fresh: list[Receipt], results: list[Receipt | NovateError | None]) -> None:
        """Commit; receipts only for what is durable."""
        first = self.committer.size
        entries = [receipt.entry for receipt in fresh]
        try:
            start = 0
            for epoch in self._epochs:  # a closing entry ends its block: a snapshot belongs to a block's end
                end = epoch.seq + 1 - first
                epoch.head = self.committer.commit(entries[start:end])
                start = end
            if start < len(entries):
                self.committer.commit(entries[start:] if start else entries)
        except Exception as fault:  # noqa: BLE001 - durable or not is unknown: only a restart can tell
            self.halted = fault
        size = self.committer.size
        try:
            checkpoint = self.committer.checkpoint(self.reducer.state)
        except Exception as fault:  # noqa: BLE001 - without a key nothing can be acknowledged
            self.halted, size = self.halted or fault, first
        else:
            for receipt in fresh:
                receipt.checkpoint = checkpoint
            if self.on_head is not None:
                self.on_head(checkpoint)
        if size < first + len(fresh):
            assert self.halted is not None, "a commit that returned covers every entry"
            lost = halted_error(self.halted)
            for index, result in enumerate(results):  # retries within the batch point at lost receipts, too
                if isinstance(result, Receipt) and result.seq >= size:
                    results[index] = lost
        self._epochs = [epoch for epoch in self._epochs if epoch.seq < size]

    def _tell(self) -> None:
        epochs, self._epochs = self._epochs, []
        prices, self._prices = self._prices, False
        if self.on_epoch is not None:
            for epoch in epochs:
                self.on_epoch(epoch)
        if prices and self.on_price is not None:
            self.on_price()
