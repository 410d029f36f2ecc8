# SPDX-License-Identifier: GPL-3.0-or-later
"""From a signed price to liquidations in the journal: sequencer, pipeline, sweep, ticker and operator of the
service, on a real disk. The clock starts when the update's bytes are submitted, and stops for each account when the
commit that holds its first step has returned (synced, checkpoint signed)."""

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clearing.core.margin import assess
from clearing.core.state import Account, SessionKey
from clearing.model import commands as c
from clearing.model import ids, signature
from clearing.model.outcomes import Liquidated, MarginChanged
from clearing.service.layout import KeyRing, write_key
from clearing.service.operator import Operator, rejections
from clearing.service.pipeline import Pipeline, Receipt
from clearing.service.sequencer import Sequencer
from clearing.service.ticker import Ticker
from tools.bench import options as o
from tools.bench import workload as w
from tools.bench.measure import Figure, Plan, at_most, median, percentile
from tools.bench.node import node

# Half a percent down takes them all below maintenance, and far above the backstop.
MOVED = o.SPOT - o.SPOT // 200
PATIENCE_S = 60.0
# Of every ten accounts one is under portfolio margin.
PORTFOLIO_EVERY = 10
MAKER = b"bench-liquidity-bench-liquidity-"


class _Watched(Operator):
    """Notes when each expected account's first step was committed, in `perf_counter` seconds."""

    def expect(self, numbers: list[int]) -> None:
        """Wait for these accounts; to be called before the price that they fail at."""
        self._found: dict[int, float] = {}
        self._all = threading.Event()
        self._left = dict.fromkeys(numbers)

    def times(self) -> list[float]:
        """When each was done, ascending. Blocks until all are."""
        assert self._all.wait(PATIENCE_S), f"{len(self._left)} accounts were not liquidated, {list(self._left)[:3]}..."
        return sorted(self._found.values())

    def run(self, *commands: c.OperatorCommand) -> Receipt:
        receipt = super().run(*commands)
        now = time.perf_counter()
        for outcome in receipt.outcomes:
            if isinstance(outcome, Liquidated) and outcome.account in self._left:
                self._found[outcome.account] = now
                del self._left[outcome.account]
                if not self._left:
                    self._all.set()
        return receipt


class Venue:
    """The service around a desk: votes come in, the ticker liquidates. A member keeps bids for what is sold."""

    def __init__(self, desk: o.Desk, pipeline: Pipeline, ring: KeyRing, members: int) -> None:
        self.desk = desk
        self._begin = time.perf_counter()
        self._sequencer = Sequencer(pipeline, self.clock_us)
        self.operator = _Watched(pipeline, self._sequencer.submit, ring)
        self.operator.expect([])
        self.faults: list[BaseException] = []
        self._pipeline = pipeline
        self._maker = self._open_maker()
        self._nonce = 0
        worth = 10 * o.SPOT
        books = members // PORTFOLIO_EVERY
        self._linear = [desk.linear(10, 2 * worth) for _ in range(members - books)]
        self._books = [desk.trader(ids.PORTFOLIO, bullish=True) for _ in range(books)]
        self._ticker = Ticker(pipeline, self.operator, self.clock_us, 1.0, lambda _, error: self.faults.append(error))
        pipeline.on_price = self._ticker.price_moved
        self._ticker.start()
        self.vote(o.SPOT)

    def clock_us(self) -> int:
        return w.NOW + 1 + int((time.perf_counter() - self._begin) * 1e6)

    def _open_maker(self) -> Account:
        account = self.desk.open(o.RICH)
        key = signature.public_key_of(MAKER)
        record = SessionKey(key, account.owner, ids.SCOPE_ALL, w.FOREVER)
        self.desk.state.keys[key] = account.owner.keys[key] = record
        return account

    def vote(self, spot: int) -> float:
        """Submit a signed update and wait for its receipt; returns when it was submitted."""
        raw = self.desk.publisher.update(self.clock_us(), spot)
        begin = time.perf_counter()
        refused = rejections(self._sequencer.submit(raw).result(PATIENCE_S))
        assert not refused, f"the update was refused: {refused}"
        return begin

    def _bid(self, lots: int) -> None:
        self._nonce += 1
        order = c.PlaceOrder(1, ids.BUY, o.SPOT - o.SPOT // 1_000, lots, self._nonce, stp=0)
        body = c.MemberBatch(w.DEPLOYMENT, self._maker.number, self._nonce, w.FOREVER, (order,))
        self._sequencer.submit(signature.sign(body, MAKER)).result(PATIENCE_S)

    def fall(self, count: int) -> list[float]:
        """One price under which `count` accounts fail, of both margin modes; seconds to each one's first step."""
        books = max(1, count // PORTFOLIO_EVERY)
        chosen = self._books[:books] + self._linear[: count - books]
        self._books = self._books[books:] + self._books[:books]
        self._linear = self._linear[count - books :] + self._linear[: count - books]
        self._bid(20 * count)
        self._set_equity(chosen, 1_000_000, 1)
        self.operator.expect([account.number for account in chosen])
        begin = self.vote(MOVED)
        times = [moment - begin for moment in self.operator.times()]
        self.vote(o.SPOT)
        # Whole again, so that the next price finds its own victims only.
        self._set_equity(chosen, 10_000_000, o.SPOT)
        return times

    def _set_equity(self, accounts: list[Account], ppm: int, more: int) -> None:
        """Equity at so much of maintenance margin, told as the reducer tells it."""
        with self._pipeline.lock:
            for account in accounts:
                self.desk.set_equity(account, assess(account)[2] * ppm // ids.PPM + more)
            if self._pipeline.watch is not None:
                self._pipeline.watch([MarginChanged(a.number, a.cash, *assess(a)) for a in accounts])

    def close(self) -> None:
        self._ticker.stop()
        self._sequencer.close()
        assert not self.faults, self.faults


@contextmanager
def venue(folder: Path, members: int, markets: int) -> Iterator[Venue]:
    """A durable venue of so many accounts and instruments."""
    desk = o.Desk(markets)
    with node(folder, 0, 2, desk.reducer) as pipeline, tempfile.TemporaryDirectory() as keys:
        write_key(Path(keys) / "operator.ed25519", w.OPERATOR)
        built = Venue(desk, pipeline, KeyRing(Path(keys)), members)
        try:
            yield built
        finally:
            built.close()


def latency(plan: Plan) -> list[Figure]:
    """Ten accounts fail at each price, nine plain and one portfolio of options; and 1,000 at one price."""
    members, turns = plan.size(10_000), plan.size(20, 2)
    single: dict[int, list[float]] = {50: [], 99: []}
    cascade = []
    with venue(plan.folder, members, o.listed(plan)) as live:
        live.fall(10)
        for _ in range(plan.rounds):
            times = [spent for _ in range(turns) for spent in live.fall(10)]
            for percent, found in single.items():
                found.append(percentile(times, percent))
            cascade.append(live.fall(members // 10)[-1])
    figures = []
    for percent, found in single.items():
        name = f"signed price -> liquidation journalled, {members:,} accounts, p{percent}"
        figures.append(at_most(name, "seconds", 1.0, found, f"{median(found) * 1e3:.1f} ms", "limit 1 s"))
    name = f"the same, {members // 10:,} accounts failing at one price, the last of them"
    figures.append(at_most(name, "seconds", 5.0, cascade, f"{median(cascade):.2f} s", "limit 5 s"))
    return figures
