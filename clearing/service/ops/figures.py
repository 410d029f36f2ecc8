# SPDX-License-Identifier: GPL-3.0-or-later
"""The figures of a running venue: one reading for metrics, `operator status`, alerts and the console.

Rules:
- Reading is cheap and never waits for a chain: what only a chain knows was asked for earlier, by `Gauges.look` on a
  thread of its own, and says how old it is.
- The state's lock is held for one short thing at a time. Accounts are gone through a few at a time (`RiskScan`), so
  that a large venue's writer never waits for its own monitoring; `scan_age_seconds` says how old the oldest figure is.
- Times are seconds, money atoms or wei as integers. None means: not known.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import msgspec

from clearing.chain.errors import ChainError
from clearing.core.margin import assess, equity
from clearing.model import ids
from clearing.service.ops.meter import STAGES, Meter

if TYPE_CHECKING:
    from clearing.chain.outbox import Outbox
    from clearing.core.state import Account, State
    from clearing.service.config import AlertConfig
    from clearing.service.epochs import EpochBook
    from clearing.service.links import Link
    from clearing.service.pipeline import Pipeline
    from clearing.service.poster import Poster, VaultPoster
    from clearing.service.sequencer import Sequencer
    from journal import Store

_SECOND_US: Final = 1_000_000
_NEAR_SHOWN: Final = 50
_CHUNK: Final = 64
# Beyond this many the writer's process looks at no more accounts per turn than fit the time.
_SCAN_BUDGET_S: Final = 0.02


class VaultFigures(msgspec.Struct, frozen=True):
    """One vault of genesis. `chain_age_seconds`: since its chain last answered; `urgency` 0 to 1 is what fees follow;
    `epochs_left`: what the operator's ether pays for at the mean cost of the last epochs; `pending`: transactions on
    their way; `missing_attestations`: signatures that a header waits for."""

    vault: int
    connected: bool
    posted_epoch: int
    epoch_lag: int
    frozen: bool
    seconds_to_freeze: int | None
    deadline_seconds: int | None
    urgency: float
    missing_attestations: int
    pending: int
    chain_age_seconds: float | None
    balance_wei: int | None
    epoch_cost_wei: int | None
    epochs_left: int | None


class PublisherFigures(msgspec.Struct, frozen=True):
    """`age_seconds` since the publisher's last accepted update; None before the first."""

    publisher: int
    age_seconds: float | None


class InstrumentFigures(msgspec.Struct, frozen=True):
    """`index_age_seconds`: since the index moved; None without a price."""

    instrument: int
    symbol: str
    mark_atoms: int
    index_age_seconds: float | None
    open_interest_lots: int
    halted: str
    breaker: str


class NearAccount(msgspec.Struct, frozen=True):
    """`ratio_ppm`: equity over maintenance margin; below a million it is due for liquidation."""

    account: int
    equity_atoms: int
    maintenance_atoms: int
    ratio_ppm: int


class Figures(msgspec.Struct, frozen=True):
    """Everything at one moment; see the module's rules. `refusing`: why new commands are refused (DISK_FULL, ...).
    `near` are the worst accounts, at most fifty; `near_count` all of them, `failing_count` those below maintenance.
    `api`: what the public interface's process tells of itself, by name."""

    time_us: int
    uptime_seconds: float
    entries: int
    commits: int
    fills: int
    waiting: int
    answer_p50_seconds: float | None
    answer_p99_seconds: float | None
    map_used_bytes: int
    map_size_bytes: int
    disk_free_bytes: int
    disk_size_bytes: int
    free_ppm: int
    reserve_ready: bool
    refusing: str
    halted: str
    faults: dict[str, str]
    epoch: int
    epoch_age_seconds: float | None
    epoch_seconds: int
    posted_epoch: int
    vaults: list[VaultFigures]
    publishers: list[PublisherFigures]
    oracle_quorum: int
    oracle_max_age_seconds: float
    instruments: list[InstrumentFigures]
    accounts: int
    open_orders: int
    insurance_fund_atoms: int
    operator_capital_atoms: int
    haircut_ppm: int
    stage: int
    stage_name: str
    auctions: int
    defaulters: int
    liquidations: int
    near_count: int
    failing_count: int
    near: list[NearAccount]
    scan_age_seconds: float | None
    api: dict[str, int]


class RiskScan:
    """Goes round all accounts, a few under the lock at a time, and knows who is near maintenance margin."""

    def __init__(self, lock: Lock, state: Callable[[], State], near_ppm: int) -> None:
        self._lock, self._state, self._near_ppm = lock, state, near_ppm
        self._at = 0
        self._began_s = time.monotonic()
        self._whole_s: float | None = None
        self._found: dict[int, NearAccount] = {}

    def turn(self, budget_s: float = _SCAN_BUDGET_S) -> None:
        """Look at as many accounts as fit the time, at most all of them once."""
        started, looked = time.monotonic(), 0
        while True:
            with self._lock:
                accounts = self._state().accounts
                count = len(accounts)
                for account in accounts[self._at : self._at + _CHUNK]:
                    self._judge(account)
            self._at, looked = self._at + _CHUNK, looked + _CHUNK
            if self._at >= count:
                self._at, self._whole_s = 0, self._began_s
                self._began_s = time.monotonic()
            if looked >= count or time.monotonic() - started > budget_s:
                return

    def _judge(self, account: Account) -> None:
        near = _near(account, self._near_ppm) if account.number >= ids.HOUSE_ACCOUNTS else None
        if near is None:
            self._found.pop(account.number, None)
        else:
            self._found[account.number] = near

    @property
    def age_s(self) -> float | None:
        """Seconds since the last full round began; None before the first was done."""
        return None if self._whole_s is None else time.monotonic() - self._whole_s

    def near(self) -> list[NearAccount]:
        """Everyone near maintenance, the worst first."""
        return sorted(self._found.copy().values(), key=lambda row: (row.ratio_ppm, row.account))


def _near(account: Account, near_ppm: int) -> NearAccount | None:
    if not any(slot.size for slot in account.slots.values()):
        return None
    worth, _, maintenance = assess(account)
    if maintenance <= 0 or worth * ids.PPM >= maintenance * near_ppm:
        return None
    return NearAccount(account.number, worth, maintenance, worth * ids.PPM // maintenance)


class Money:
    """The operator's ether on one vault's chain, and what an epoch costs there. `look` asks the chain."""

    def __init__(self, link: Link, poster: VaultPoster) -> None:
        self._link, self._poster = link, poster
        self.balance_wei: int | None = None
        self._outbox: Outbox | None = None
        self._first_cost_wei: int | None = None

    def look(self) -> None:
        """Raises `ChainError`."""
        client = self._link.client
        if client is None:
            return
        self.balance_wei = client.rpc.balance(client.wallet.address)
        self._outbox = self._outbox or client.sender().outbox
        if self._first_cost_wei is None and not self._poster.costs_wei:
            self._first_cost_wei = self._on_chain(self._poster.posted_epoch)

    def _on_chain(self, epoch: int) -> int | None:
        """What the last header's transaction paid, for as long as this process has posted nothing itself."""
        client = self._link.require()
        if not epoch:
            return None
        block = client.header_block(epoch)
        events = client.epochs(block, block, epoch)
        receipt = client.rpc.receipt(events[0].tx_hash) if events else None
        return receipt.paid_wei or None if receipt is not None else None

    @property
    def pending(self) -> int:
        """Transactions on their way."""
        return self._outbox.pending if self._outbox is not None else 0

    @property
    def epoch_cost_wei(self) -> int | None:
        costs = tuple(self._poster.costs_wei)
        mean = sum(costs) // len(costs) if costs else 0
        return mean or self._first_cost_wei

    @property
    def epochs_left(self) -> int | None:
        cost, balance = self.epoch_cost_wei, self.balance_wei
        return balance // cost if balance is not None and cost else None


class Gauges:
    """Reads `Figures` off the running parts. `api` gives what the public interface last told of itself, `connections`
    among it; nothing before it did."""

    def __init__(
        self,
        store: Store,
        pipeline: Pipeline,
        sequencer: Sequencer,
        book: EpochBook,
        poster: Poster,
        links: Sequence[Link],
        faults: Callable[[], dict[str, str]],
        meter: Meter,
        clock_us: Callable[[], int],
        alerts: AlertConfig,
        epoch_seconds: int,
    ) -> None:
        self._store, self._pipeline, self._sequencer, self._book = store, pipeline, sequencer, book
        self._poster, self._links, self._faults = poster, links, faults
        self.meter = meter
        self._clock_us = clock_us
        self._epoch_seconds = epoch_seconds
        self._started_s = time.monotonic()
        self.scan = RiskScan(pipeline.lock, lambda: pipeline.reducer.state, alerts.near_ppm)
        self._money = [Money(link, vault) for link, vault in zip(links, poster.vaults, strict=True)]
        self._epoch_seen = (0, 0)
        self.api: Callable[[], Mapping[str, int]] = dict

    def look(self) -> None:
        """Bring up to date what takes time: accounts and balances. Raises the last `ChainError`, after all."""
        self.scan.turn()
        fault: ChainError | None = None
        for money in self._money:
            try:
                money.look()
            except ChainError as error:
                fault = error
        if fault is not None:
            raise fault

    def read(self) -> Figures:
        """The figures now."""
        now_us, meter = self._clock_us(), self.meter
        with self._pipeline.lock:
            state = self._pipeline.reducer.state
            market = _market(state, now_us)
            epoch = state.epoch
        space = self._store.space()
        refusal = self._pipeline.committer.refusal_now
        halted = self._pipeline.halted or self._sequencer.fatal
        near = self.scan.near()
        return Figures(
            time_us=now_us,
            uptime_seconds=round(time.monotonic() - self._started_s, 3),
            entries=self._pipeline.committer.size,
            commits=meter.commits.count,
            fills=meter.fills,
            waiting=self._sequencer.waiting,
            answer_p50_seconds=meter.answers.quantile(0.5),
            answer_p99_seconds=meter.answers.quantile(0.99),
            map_used_bytes=space.map_used_bytes,
            map_size_bytes=space.map_size_bytes,
            disk_free_bytes=space.disk_free_bytes,
            disk_size_bytes=space.disk_size_bytes,
            free_ppm=space.free_ppm,
            reserve_ready=space.reserve_ready,
            refusing="" if refusal is None else refusal.code,
            halted="" if halted is None else str(getattr(halted, "code", type(halted).__name__)),
            faults=self._faults(),
            epoch=epoch,
            epoch_age_seconds=self._epoch_age_s(epoch, now_us),
            epoch_seconds=self._epoch_seconds,
            posted_epoch=self._poster.posted_epoch,
            vaults=self._vaults(epoch),
            stage=meter.stage,
            stage_name=STAGES[meter.stage],
            liquidations=sum(meter.liquidations.copy().values()),
            near_count=len(near),
            failing_count=sum(row.ratio_ppm < ids.PPM for row in near),
            near=near[:_NEAR_SHOWN],
            scan_age_seconds=self.scan.age_s,
            api=dict(self.api()),
            **market,
        )

    def _epoch_age_s(self, epoch: int, now_us: int) -> float | None:
        """Since the last close, by the journal's time."""
        if not epoch:
            return None
        if self._epoch_seen[0] != epoch and epoch <= self._book.written():
            seq = self._book.load(epoch).snapshot_seq - 1
            self._epoch_seen = epoch, _entry_time_us(self._store, seq)
        known, time_us = self._epoch_seen
        return max(0, now_us - time_us) / _SECOND_US if known == epoch else 0.0

    def _vaults(self, epoch: int) -> list[VaultFigures]:
        rows = zip(self._links, self._poster.vaults, self._money, self._poster.view(), strict=True)
        return [_vault(link, vault, money, view["attestations"], epoch) for link, vault, money, view in rows]


def _vault(
    link: Link, poster: VaultPoster, money: Money, attestations: dict[str, object] | None, epoch: int
) -> VaultFigures:
    missing = attestations["missing"] if attestations is not None else ()
    assert isinstance(missing, Sequence)
    left = poster.seconds_left if link.client is not None and not poster.frozen else None
    return VaultFigures(
        vault=link.number,
        connected=link.client is not None,
        posted_epoch=poster.posted_epoch,
        epoch_lag=0 if poster.frozen else max(0, epoch - poster.posted_epoch),
        frozen=poster.frozen,
        seconds_to_freeze=left,
        deadline_seconds=poster.hurry.deadline_s or None,
        urgency=round(poster.urgency, 4) if left is not None else 0.0,
        missing_attestations=len(missing),
        pending=money.pending,
        chain_age_seconds=poster.hurry.age_s if link.client is not None else None,
        balance_wei=money.balance_wei,
        epoch_cost_wei=money.epoch_cost_wei,
        epochs_left=money.epochs_left,
    )


def _entry_time_us(store: Store, seq: int) -> int:
    from clearing.model.codec import decode_entry

    return decode_entry(store.entry(seq)).time_us


def _age(now_us: int, then_us: int) -> float | None:
    return max(0, now_us - then_us) / _SECOND_US if then_us else None


def _market(state: State, now_us: int) -> dict[str, Any]:
    """What the state says; its lock is held."""
    return {
        "publishers": [
            PublisherFigures(number, _age(now_us, publisher.time_us))
            for number, publisher in enumerate(state.publishers)
        ],
        "oracle_quorum": state.params.oracle_quorum,
        "oracle_max_age_seconds": state.params.oracle_max_age_us / _SECOND_US,
        "instruments": [
            InstrumentFigures(
                inst.id,
                inst.spec.symbol,
                inst.mark,
                _age(now_us, inst.index_time),
                inst.open_interest,
                inst.halted,
                inst.breaker,
            )
            for inst in state.instruments.values()
        ],
        "accounts": len(state.accounts),
        "open_orders": len(state.orders),
        "insurance_fund_atoms": equity(state.accounts[ids.INSURANCE_FUND]),
        "operator_capital_atoms": equity(state.accounts[ids.OPERATOR_CAPITAL]),
        "haircut_ppm": state.haircut * ids.PPM // ids.UNIT,
        "auctions": len(state.auctions),
        "defaulters": len(state.defaulters),
    }
