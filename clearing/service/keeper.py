# SPDX-License-Identifier: GPL-3.0-or-later
"""The keeper: an agent outside the operator that watches the venue and acts with a key of its own.

Rules:
- It believes nobody: it replays the journal (from a directory, or block by block over HTTP), compares every
  outcome, and computes margin itself. A journal that does not reproduce ends it: JOURNAL_DIVERGED.
- Whoever fails maintenance is proposed for liquidation with the witness, once per state: not again before the
  proposal itself was replayed. The reducer judges; a keeper can only be early, never wrong at anybody's cost.
- With bidding on, it takes what it can margin of books on auction, once the discount is worth it.
- In stress (many accounts below maintenance, or the insurance fund below a floor) and with the operator's keys at
  hand, it closes an epoch out of turn, which the operator's node posts at once. Not while an epoch waits to be
  posted, and not more often than `emergency_seconds`.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clearing.audit.replay import Replayer, replay
from clearing.client.http import ApiClient
from clearing.client.session import Session
from clearing.core import auction, liquidation
from clearing.core.backstop import is_stale
from clearing.core.margin import assess, equity
from clearing.core.state import Account, State
from clearing.core.sweep import sweep
from clearing.model import ids
from clearing.model.commands import BidAuction, CloseEpoch, OperatorBatch, ProposeLiquidation
from clearing.model.errors import NovateError
from clearing.model.signature import sign
from clearing.service import config as configuration
from clearing.service.doorbell import Stop
from clearing.service.layout import KeyRing, Layout
from clearing.service.links import Link, close_links, connect
from journal import JournalError, Store
from journal.block import decode
from journal.replay import entries

# Entries from a sequence number on, as far as there are any now.
Source = Callable[[int], Iterator[tuple[int, bytes]]]

_MAX_PROPOSALS = 100
_SMALLEST_SHARE_PPM = 10_000


def now_us() -> int:
    """Microseconds UTC."""
    return time.time_ns() // 1_000


@dataclass(frozen=True, slots=True)
class Settings:
    """`min_discount_ppm` of a book's gross makes a bid worth it, `slack_ppm` of it is how much more may be paid
    than computed. Stress: `stress_ppm` of the accounts with positions below maintenance, or a fund below
    `fund_floor_atoms`; 0 switches either off."""

    bid: bool = False
    min_discount_ppm: int = 50_000
    slack_ppm: int = 10_000
    stress_ppm: int = 0
    fund_floor_atoms: int = 0
    emergency_seconds: int = 300
    check_signatures: bool = True


# --- following ---------------------------------------------------------------------------------


def from_directory(path: Path, map_bytes: int | None = None) -> Source:
    """Entries of a journal's directory, or the data directory that holds it, read beside its writer."""
    inner = path / "journal"
    chosen = inner if inner.is_dir() else path

    def read(seq: int) -> Iterator[tuple[int, bytes]]:
        options = {} if map_bytes is None else {"map_bytes": map_bytes}
        with Store.open(chosen, True, **options) as store:
            if seq < store.head().next_seq:
                yield from entries(store, seq)

    return read


def from_api(client: ApiClient) -> Source:
    """Entries of the blocks that the operator serves. Their content is judged by the replay."""

    def read(seq: int) -> Iterator[tuple[int, bytes]]:
        while blocks := client.blocks(seq):
            for raw in blocks:
                block = decode(raw)
                first = max(0, seq - block.first_seq)
                yield from enumerate(block.entries[first:], block.first_seq + first)
                seq = block.first_seq + block.count

    return read


class Follower:
    """The venue's state as this process computes it."""

    def __init__(self, source: Source, check_signatures: bool = True) -> None:
        self._source = source
        self._check_signatures = check_signatures
        self._replayer = Replayer()

    @property
    def size(self) -> int:
        """Entries replayed."""
        return self._replayer.size

    @property
    def state(self) -> State | None:
        """None before the genesis was read."""
        return self._replayer.reducer.state if self._replayer.reducer is not None else None

    def turn(self) -> int:
        """Catch up; how many entries that were. Raises `NovateError` JOURNAL_DIVERGED, JOURNAL_UNREADABLE,
        `ApiError`."""
        try:
            report = replay(self._source(self.size), check_signatures=self._check_signatures, replayer=self._replayer)
        except JournalError as error:
            raise NovateError("JOURNAL_UNREADABLE", f"{error.code}: {error.message}") from None
        if report.divergence is not None:
            raise NovateError("JOURNAL_DIVERGED", f"{report.divergence}; the operator's journal cannot be trusted")
        return report.entries


# --- acting ------------------------------------------------------------------------------------


class Keeper:
    """Watches and acts, one `turn` after the other. `emergency`: what closes an epoch; None cannot."""

    def __init__(
        self,
        follower: Follower,
        session: Session,
        settings: Settings,
        log: Any,
        emergency: "EmergencyEpochs | None" = None,
        clock_us: Callable[[], int] = now_us,
    ) -> None:
        self._follower = follower
        self._session = session
        self._settings = settings
        self._log = log
        self._emergency = emergency
        self._clock_us = clock_us
        self._acted: dict[int, int] = {}
        self._emergency_us = 0

    def turn(self) -> int:
        """Catch up, then do what is to be done; how many commands were submitted."""
        self._follower.turn()
        state = self._follower.state
        if state is None:
            return 0
        found = sweep(state)
        count = self._propose(state, found)
        if self._settings.bid:
            count += self._bid(state)
        return count + self._stress(state, found)

    def run(self, stop: Stop, interval_s: float) -> None:
        """Turn until `stop`. What a later attempt may mend is logged and tried again; a divergence is raised."""
        last = ""
        while not stop.is_set():
            try:
                self.turn()
                last = ""
            except NovateError as error:
                if error.code == "JOURNAL_DIVERGED":
                    raise
                if error.code != last:
                    self._log.error("fault", code=error.code, message=error.message)
                last = error.code
            stop.wait(interval_s)

    def _is_settled(self, number: int) -> bool:
        """Has what we did to this account last been replayed?"""
        return self._acted.get(number, -1) < self._follower.size

    def _propose(self, state: State, found: list[tuple[int, int]]) -> int:
        now, count = self._clock_us(), 0
        for number, scenario in found:
            account = state.accounts[number]
            if count >= _MAX_PROPOSALS:
                break
            if not self._is_settled(number) or is_stale(state, account, now):
                continue
            if not liquidation.is_ready(state, account, now):
                continue
            receipt = self._session.submit(ProposeLiquidation(number, scenario))
            self._acted[number] = int(receipt["seq"])
            self._say("proposed", account, receipt, scenario=scenario)
            count += 1
        return count

    def _say(self, what: str, account: Account, receipt: dict[str, Any], **more: Any) -> None:
        now, _, maintenance = assess(account)
        refused = [row["code"] for row in receipt["rejected"]]
        fields = {"account": account.number, "equity": now, "maintenance": maintenance, "seq": receipt["seq"]}
        self._log.info(what, **fields, **more, refused=refused)

    def _bid(self, state: State) -> int:
        now, count = self._clock_us(), 0
        mine = state.accounts[self._session.account]
        for number, seller in list(state.auctions.items()):
            if seller is mine or not self._is_settled(number):
                continue
            if is_stale(state, seller, now) or is_stale(state, mine, now) or auction.is_healthy(state, seller):
                continue
            command = self._offer(state, seller, mine, now)
            if command is not None:
                receipt = self._session.submit(command)
                self._acted[number] = int(receipt["seq"])
                self._say("bid", seller, receipt, share_ppm=command.share_ppm, max_pay=command.max_pay_atoms)
                count += 1
        return count

    def _offer(self, state: State, seller: Account, mine: Account, now: int) -> BidAuction | None:
        """The largest share that we can margin, by halves, if the discount is worth it."""
        settings = self._settings
        gross = max(abs(auction.marked_value(seller)), assess(seller)[2])
        if auction.whole_discount(state, seller, now) * ids.PPM < settings.min_discount_ppm * gross:
            return None
        share = ids.PPM
        while share >= _SMALLEST_SHARE_PPM:
            found = auction.cut(state, seller, share, now)
            if found.lots and auction.fits(mine, found):
                pay = -(-found.pay * share // found.share_ppm)
                return BidAuction(seller.number, share, pay + gross * settings.slack_ppm // ids.PPM)
            share //= 2
        return None

    def _stress(self, state: State, found: list[tuple[int, int]]) -> int:
        why = stress(state, len(found), self._settings)
        now = self._clock_us()
        waited = now - self._emergency_us >= self._settings.emergency_seconds * 1_000_000
        if not why or self._emergency is None or not waited:
            return 0
        epoch = self._emergency.close(state)
        if not epoch:
            return 0
        self._emergency_us = now
        self._log.warning("emergency epoch", epoch=epoch, why=why)
        return 1


def stress(state: State, below: int, settings: Settings) -> str:
    """Why the venue is in stress, or "". `below`: accounts below maintenance."""
    if settings.fund_floor_atoms and len(state.accounts) >= ids.HOUSE_ACCOUNTS:
        fund = equity(state.accounts[ids.INSURANCE_FUND])
        if fund < settings.fund_floor_atoms:
            return f"insurance fund {fund} below {settings.fund_floor_atoms} atoms"
    if settings.stress_ppm and below:
        exposed: dict[int, Account] = {}
        for inst in state.instruments.values():
            exposed.update(inst.holders)
        members = sum(1 for number in exposed if number >= ids.HOUSE_ACCOUNTS)
        if below * ids.PPM >= settings.stress_ppm * members:
            return f"{below} of {members} accounts below maintenance"
    return ""


class EmergencyEpochs:
    """Closes epochs with the operator's keys of a data directory; the node posts what is closed. `rpc_urls`
    replace the first configured endpoints of the vaults' chains."""

    def __init__(self, directory: Path, client: ApiClient, rpc_urls: Sequence[str] = ()) -> None:
        self._client = client
        given = {"rpc_urls": tuple(rpc_urls)}
        self._config = configuration.override(configuration.load(directory), given)
        self._ring = KeyRing(Layout(directory).keys)

    def close(self, state: State) -> int:
        """Close the next epoch; its number, or 0 if one still waits to be posted or somebody else was
        faster. Raises `NovateError` (KEY_NOT_HELD, ...), `ApiError`, `ChainError`."""
        status = self._client.status()
        if int(status["posted_epoch"]) < int(status["epoch"]) or int(status["epoch"]) != state.epoch:
            return 0
        epoch = state.epoch + 1
        # Above all nonces in use, and not so far that what the node signs meanwhile would be too old.
        nonce = state.operator_nonces.high + ids.NONCE_WINDOW // 2
        command = CloseEpoch(epoch, tuple(self._l1_block(state, number) for number in range(len(state.vaults))))
        body = OperatorBatch(state.deployment, nonce, (command,))
        receipt = self._client.submit(sign(body, self._ring.ed25519(state.operator_key).seed))
        return 0 if receipt["rejected"] else epoch

    def _l1_block(self, state: State, number: int) -> tuple[int, bytes]:
        """As the node's own poster names it."""
        if state.vaults[number].frozen is not None:
            return 0, bytes(32)
        chosen, spec = self._config.vault(number), state.genesis.vaults[number]
        link = Link(number, spec, connect(chosen, spec.address), chosen)
        try:
            return link.l1_block()
        finally:
            close_links([link])
