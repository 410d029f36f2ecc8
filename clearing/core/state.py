# SPDX-License-Identifier: GPL-3.0-or-later
"""The state that the journal folds into: plain objects with slots, and nothing that acts.

Dicts are iterated in insertion order, which replay reproduces; where order could matter to a
reader (roots, liquidation) the keys are sorted first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from clearing.core.book import Book, Order
from clearing.core.vaults import VaultState, lane_of, vaults_of
from clearing.model import ids
from clearing.model.commands import Genesis, PlaceTrigger, Surface
from clearing.model.outcomes import Outcome
from clearing.model.params import Asset, Instrument, Params, Underlying, underlyings_of
from proofs.hashtree import StateTree

if TYPE_CHECKING:
    from clearing.core.risk.array import RiskArray
    from clearing.core.risk.market import Market


class NonceWindow:
    """Sliding window of used nonces: each once, in any order, none older than the window."""

    __slots__ = ("bits", "high")
    _MASK = (1 << ids.NONCE_WINDOW) - 1

    def __init__(self, high: int = 0, bits: int = 1) -> None:
        self.high = high
        self.bits = bits

    def is_fresh(self, nonce: int) -> bool:
        if nonce > self.high:
            return nonce <= ids.MAX_AMOUNT_ATOMS
        age = self.high - nonce
        return age < ids.NONCE_WINDOW and not (self.bits >> age) & 1

    def use(self, nonce: int) -> None:
        """Mark a fresh nonce as used."""
        shift = nonce - self.high
        if shift > 0:
            self.bits = 1 if shift >= ids.NONCE_WINDOW else ((self.bits << shift) | 1) & self._MASK
            self.high = nonce
        else:
            self.bits |= 1 << (self.high - nonce)


class SessionKey(msgspec.Struct, eq=False):
    """A delegated trading key. Revoked ones are kept, so that their nonces stay used."""

    key: bytes
    owner: Owner
    scope: int
    expiry_us: int
    revoked: bool = False
    nonces: NonceWindow = msgspec.field(default_factory=NonceWindow)


class Owner(msgspec.Struct, eq=False):
    """A wallet: several accounts, one exit leaf per vault. `exits` and `acks` are atoms per lane;
    `exits` as last committed, `acks` cumulative. Per vault: `leaves`, the leaf's index or -1, and `posted`, its
    (exits, acks) as last committed."""

    address: bytes
    number: int
    exits: list[int]
    acks: list[int]
    leaves: list[int]
    posted: list[tuple[tuple[int, ...], tuple[int, ...]] | None]
    secret: bytes = bytes(32)
    nonces: NonceWindow = msgspec.field(default_factory=NonceWindow)
    accounts: list[Account] = []
    keys: dict[bytes, SessionKey] = {}


class Slot:
    """An account's place in one instrument: the position and the sums over its open orders.

    `loss_atoms` is what would be lost at mark price `loss_mark` if every order that is worse than
    the mark were filled: the exact worst fill subset for linear contracts.
    """

    __slots__ = (
        "buy_cost", "buy_lots", "entry_cost", "funding", "inst", "loss_atoms", "loss_mark",
        "sell_cost", "sell_lots", "size",
    )  # fmt: skip

    def __init__(self, inst: InstrumentState) -> None:
        self.inst = inst
        self.size = 0
        self.entry_cost = 0
        self.funding = inst.funding_index
        self.buy_lots = 0
        self.buy_cost = 0
        self.sell_lots = 0
        self.sell_cost = 0
        self.loss_mark = 0
        self.loss_atoms = 0


class Trigger:
    """An order that waits for the mark price. Its ids are an order's, so that it is cancelled like one."""

    __slots__ = (
        "above", "account", "client_order_id", "expiry_us", "instrument", "kind", "lots", "oco", "order_id",
        "price", "reduce_only", "side", "trigger",
    )  # fmt: skip

    def __init__(self, order_id: int, account: Account, command: PlaceTrigger) -> None:
        self.order_id = order_id
        self.account = account
        self.client_order_id = command.client_order_id
        self.instrument = command.instrument
        self.side = command.side
        self.trigger = command.trigger_atoms
        self.above = command.above
        self.price = command.price_atoms
        self.lots = command.size_lots
        self.kind = command.kind
        self.reduce_only = command.reduce_only
        self.oco = command.oco
        self.expiry_us = command.expiry_us


class Holding:
    """An account's balance of a collateral asset, in its atoms; never negative."""

    __slots__ = ("amount", "asset")

    def __init__(self, asset: AssetState, amount: int = 0) -> None:
        self.asset = asset
        self.amount = amount


class Auction:
    """An account's book on offer since `start_us`; `value` its marked value then, `maintenance` likewise."""

    __slots__ = ("maintenance", "start_us", "value")

    def __init__(self, start_us: int, value: int, maintenance: int) -> None:
        self.start_us = start_us
        self.value = value
        self.maintenance = maintenance


class Account:
    """Cash is the quote balance: deposits, less withdrawals, less what positions cost.
    claim = cash + sum(size x mark) - unsettled funding; equity adds collateral after haircut and
    leaves out what is pledged to the default fund.

    `plain`: standard margin, linear positions only, no collateral, nothing pledged: the fast path.
    `wait_us`: no step of liquidation before this time. `orders` and `triggers` by client order id.
    """

    __slots__ = (
        "auction", "basis", "cancel_all_us", "cash", "day", "holdings", "interest_us", "leaf_epoch", "maker_ppm",
        "mode", "number", "orders", "owner", "plain", "pledge_us", "pledged", "slots", "sub", "taker_ppm",
        "triggers", "volume_today", "volumes", "wait_us",
    )  # fmt: skip

    def __init__(
        self, number: int, owner: Owner, sub: int, maker_ppm: int, taker_ppm: int, cash: int = 0, basis: int = 0
    ) -> None:
        self.number = number
        self.owner = owner
        self.sub = sub
        self.cash = cash
        self.basis = basis
        self.slots: dict[int, Slot] = {}
        self.orders: dict[int, Order] = {}
        self.triggers: dict[int, Trigger] = {}
        self.holdings: dict[int, Holding] = {}
        self.mode = ids.STANDARD
        self.plain = True
        self.pledged = 0
        self.pledge_us = 0
        self.wait_us = 0
        self.interest_us = 0
        self.cancel_all_us = 0
        self.auction: Auction | None = None
        self.day = 0
        self.volume_today = 0
        self.volumes: list[tuple[int, int]] = []
        self.maker_ppm = maker_ppm
        self.taker_ppm = taker_ppm
        self.leaf_epoch = 0

    def set_plain(self) -> None:
        """Renew `plain` after a change of mode, pledge, holdings or slots."""
        self.plain = (
            self.mode == ids.STANDARD
            and not self.pledged
            and not self.holdings
            and all(slot.inst.kind != ids.OPTION for slot in self.slots.values())
        )


class ExpiryState:
    """One expiry of an underlying: forward and rate as voted, and the settlement's running mean.

    `twap_sum` adds index x microseconds inside the window until `twap_us`; `price` is final once set.
    `window_us` is the window's length, fixed when it begins (0 before).
    """

    __slots__ = (
        "expiry_us", "forward", "forward_confidence", "instruments", "price", "rate", "rate_confidence", "time_us",
        "twap_sum", "twap_us", "vol_confidence", "window_us",
    )  # fmt: skip

    def __init__(self, expiry_us: int) -> None:
        self.expiry_us = expiry_us
        self.instruments: list[InstrumentState] = []
        self.forward = 0
        self.forward_confidence = 0
        self.rate = 0
        self.rate_confidence = 0
        self.vol_confidence = 0
        self.time_us = 0
        self.twap_sum = 0
        self.twap_us = 0
        self.window_us = 0
        self.price = 0


class UnderlyingState:
    """A priced thing: index and confidence level (1e-12) by vote, expiries, risk array, adaptive margin.

    `market` and `array` belong to the time `array_us` (0: none) and are rebuilt from what is kept here, so
    that a snapshot need not carry them; `vols` are by instrument id. `twap`: the slow mean that bounds jumps
    (1/1024 atoms). `variance`: EWMA of squared daily returns (1e-24).
    """

    __slots__ = (
        "adapt_index", "adapt_us", "array", "array_us", "confidence", "expiries", "factor_ppm", "id", "index",
        "index_time", "instruments", "market", "spec", "twap", "variance", "vols",
    )  # fmt: skip

    def __init__(self, spec: Underlying) -> None:
        self.spec = spec
        self.id = spec.id
        self.index = 0
        self.confidence = ids.UNIT
        self.index_time = 0
        self.twap = 0
        self.expiries: dict[int, ExpiryState] = {}
        self.vols: dict[int, int] = {}
        self.instruments: list[InstrumentState] = []
        self.market: Market | None = None
        self.array: RiskArray | None = None
        self.array_us = 0
        self.variance = 0
        self.factor_ppm = ids.PPM
        self.adapt_us = 0
        self.adapt_index = 0


class AssetState:
    """A lane: its rules, what prices it, and what its vault holds for the accounts (asset atoms).

    `settlement` lanes (asset 0 of each `vault`) are one currency: accounts have cash, wherever it lies. `under` is
    None for a settlement asset without a price of its own (then it is worth 1). `deposited`: all that was ever
    credited, which is `held` plus what was acknowledged to owners. `holders`: account number -> account, of lanes
    other than the settlement asset's.
    """

    __slots__ = ("deposited", "held", "holders", "lane", "reference", "settlement", "spec", "under", "vault", "venue")

    def __init__(self, venue: State, spec: Asset) -> None:
        self.venue = venue
        self.spec = spec
        self.lane = spec.lane
        self.vault = next(vault.number for vault in venue.vaults if spec.lane in vault.every_lane)
        self.settlement = spec.lane in venue.cash_lanes
        self.under: UnderlyingState | None = venue.symbols.get(spec.underlying)
        self.reference: UnderlyingState | None = venue.symbols.get(spec.reference)
        self.held = 0
        self.deposited = 0
        self.holders: dict[int, Account] = {}


class InstrumentState:
    """A market: its specification, prices, funding, book and holders (account number -> account).

    `imf` and `mmf` are in force (adaptive factor and open-interest scaling applied); `free_lots` is the size
    up to which size scaling adds nothing. `settle` is the settlement price once an expiry is final.
    `fired` queues triggers of this market that wait for RunTriggers; `above`/`below` sort waiting ones, next
    to fire first. `high`/`low`: marks whose triggers did not all fit into an entry yet (0: none).
    """

    __slots__ = (
        "above", "below", "book", "breaker", "ema", "ema_us", "expiry", "fired", "free_lots", "funding_carry",
        "funding_index", "funding_time", "halted", "high", "holders", "id", "imf", "impact_basis",
        "impact_us", "index", "index_time", "kind", "last", "low", "mark", "max_lots", "mmf", "open_interest",
        "premium_count", "premium_sum", "settle", "spec", "tick", "under", "venue",
    )  # fmt: skip

    def __init__(self, spec: Instrument, under: UnderlyingState, venue: State) -> None:
        self.spec = spec
        self.venue = venue
        self.under = under
        self.id = spec.id
        self.kind = spec.kind
        self.imf = spec.imf_ppm
        self.mmf = spec.mmf_ppm
        self.free_lots = ids.MAX_LOTS
        self.tick = spec.tick_atoms
        self.max_lots = min(spec.max_order_lots, ids.MAX_LOTS)
        self.expiry: ExpiryState | None = None
        self.book = Book()
        self.holders: dict[int, Account] = {}
        self.above: list[tuple[int, int]] = []
        self.below: list[tuple[int, int]] = []
        self.fired: list[Trigger] = []
        self.high = self.low = 0
        self.open_interest = 0
        self.index = 0
        self.mark = 0
        self.last = 0
        self.index_time = 0
        self.ema = 0
        self.ema_us = 0
        self.settle = 0
        self.halted = ""
        self.breaker = ""
        self.impact_us = self.impact_basis = 0
        self.funding_index = 0
        self.funding_carry = 0
        self.funding_time = 0
        self.premium_sum = 0
        self.premium_count = 0


class Publisher:
    """One oracle publisher: the head of its hash chain and its latest votes.

    `prices`: underlying id -> (price, confidence, time); `surfaces`: (underlying, expiry) -> (vote, time).
    """

    __slots__ = ("head", "key", "prices", "surfaces", "time_us")

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.head = bytes(32)
        self.time_us = 0
        self.prices: dict[int, tuple[int, int, int]] = {}
        self.surfaces: dict[tuple[int, int], tuple[Surface, int]] = {}


class Forced:
    """A forced request that waits: where it came from, what it asks (clearing.model.ids.INBOX_*), and the atoms per
    lane that were acknowledged for it so far."""

    __slots__ = ("amount", "asset", "index", "kind", "paid", "vault")

    def __init__(self, vault: int, index: int, kind: int, asset: int, amount: int, lanes: int) -> None:
        self.vault = vault
        self.index = index
        self.kind = kind
        self.asset = asset
        self.amount = amount
        self.paid = [0] * lanes


class State:
    """Everything. `out` collects the outcomes of the entry being applied; `touched` the accounts
    whose margin it changed; `dirty` the accounts whose state leaf the next epoch must renew.

    `assets` by lane, over all `vaults`; `lanes` is their number, `cash_lanes` are those of the settlement asset.
    `pending`: proposed parameters and their effective time. `auctions`: accounts whose book is on offer.
    Of the last epoch: `haircut` is the fraction of claims that was lost (1e-12), `coupled` whether members' exits
    depended on each other, `committed` the parameter hash in its leaves, `split` how the settlement asset lay over the
    vaults (parts without a common factor). `cuts`: what members paid in a waterfall and
    no outcome says yet (tranche, account, what it held, share). `defaulters`: who was declared in default since the
    start of the process; a hint for what is due, not part of what is committed. `forced`: requests that wait, by
    account; `approvals`: hashes that the governor sent in and nobody used. `winding`: why the venue is winding down
    ("": it is not); `final_epoch`: which epoch carries the payout of everything (0: not paid out yet).
    """

    # More attributes than a dict shares between instances: slots keep access as fast as elsewhere.
    __slots__ = (
        "accounts", "approvals", "assets", "auctions", "cancel_alls", "cash_lanes", "committed", "coupled", "cuts",
        "defaulters", "deployment", "dirty", "epoch", "expiries", "fills_left", "final_epoch", "forced", "genesis",
        "haircut", "instruments", "keys", "lanes", "next_order_id", "next_rank", "operator_address", "operator_key",
        "operator_nonces", "orders", "out", "owners", "params", "pending", "portfolios", "publishers", "split",
        "state_tree", "symbols", "time_us", "touched", "triggers", "underlyings", "user_exits", "vaults", "winding",
    )  # fmt: skip

    def __init__(self, genesis: Genesis) -> None:
        self.genesis = genesis
        self.deployment = genesis.deployment
        self.params: Params = genesis.params
        self.pending: tuple[Params, int] | None = None
        self.vaults: list[VaultState] = vaults_of(genesis.vaults)
        self.lanes = sum(vault.lanes for vault in self.vaults)
        self.cash_lanes = tuple(vault.first_lane for vault in self.vaults)
        self.operator_key = genesis.operator_key
        self.operator_address = genesis.operator_address
        self.operator_nonces = NonceWindow()
        self.publishers = [Publisher(key) for key in genesis.publishers]
        self.underlyings: dict[int, UnderlyingState] = {}
        self.symbols: dict[str, UnderlyingState] = {}
        self.instruments: dict[int, InstrumentState] = {}
        self.assets: list[AssetState] = []
        self.accounts: list[Account] = []
        self.owners: dict[bytes, Owner] = {}
        self.keys: dict[bytes, SessionKey] = {}
        self.orders: dict[int, Order] = {}
        self.triggers: dict[int, Trigger] = {}
        self.auctions: dict[int, Account] = {}
        self.expiries: list[tuple[int, int]] = []
        self.cancel_alls: list[tuple[int, int]] = []
        self.cuts: list[tuple[int, int, int, int]] = []
        self.defaulters: dict[int, Account] = {}
        self.portfolios = 0
        self.time_us = 0
        self.next_order_id = 1
        self.next_rank = 1
        self.user_exits: list[int] = [0] * self.lanes
        self.split: tuple[int, ...] = ()
        self.epoch = 0
        self.haircut = 0
        self.coupled = False
        self.committed = b""
        self.state_tree: StateTree
        self.out: list[Outcome] = []
        self.touched: dict[int, Account] = {}
        self.dirty: dict[int, Account] = {}
        self.fills_left = 0
        self.forced: dict[int, list[Forced]] = {}
        self.approvals: list[bytes] = []
        self.winding = ""
        self.final_epoch = 0
        self.furnish(underlyings_of(self.params, genesis.instruments), genesis.instruments)

    @property
    def wound(self) -> bool:
        """Is everything paid out, for good?"""
        return self.final_epoch > 0

    def furnish(self, underlyings: Iterable[Underlying], instruments: Iterable[Instrument]) -> None:
        """Fresh underlyings, assets and markets, in the order given; whatever was there is forgotten."""
        self.underlyings, self.symbols, self.instruments, self.assets = {}, {}, {}, []
        for under in underlyings:
            self.add_underlying(under)
        for lane in range(self.lanes):
            self.assets.append(AssetState(self, self.asset_rules(lane)))
        for instrument in instruments:
            self.add_instrument(instrument)

    def asset_rules(self, lane: int) -> Asset:
        """The rules in force; an asset without any is held and paid out, and counts for nothing."""
        found = (asset for asset in self.params.assets if asset.lane == lane)
        return next(found, Asset(lane, "", "", maintenance_haircut_ppm=0 if lane in self.cash_lanes else ids.PPM))

    @property
    def holdings(self) -> int:
        """The settlement asset that belongs to accounts, over all vaults, atoms."""
        return sum(self.assets[lane].held for lane in self.cash_lanes)

    def lane_of(self, vault: int, asset: int) -> int | None:
        """The lane of a vault's asset, or None when there is no such vault or asset."""
        return lane_of(self, vault, asset)

    def add_underlying(self, spec: Underlying) -> UnderlyingState:
        state = UnderlyingState(spec)
        self.underlyings[spec.id] = self.symbols[spec.symbol] = state
        return state

    def add_instrument(self, spec: Instrument) -> InstrumentState:
        """A market of a known underlying, in the order of listing."""
        under = self.symbols[spec.underlying]
        inst = InstrumentState(spec, under, self)
        self.instruments[spec.id] = inst
        under.instruments.append(inst)
        if spec.expiry_us:
            inst.expiry = under.expiries.get(spec.expiry_us)
            if inst.expiry is None:
                inst.expiry = under.expiries[spec.expiry_us] = ExpiryState(spec.expiry_us)
            inst.expiry.instruments.append(inst)
        return inst

    def specs(self) -> tuple[Instrument, ...]:
        """The live instruments' specifications, in the order of listing: part of the parameter hash."""
        return tuple(inst.spec for inst in self.instruments.values())
