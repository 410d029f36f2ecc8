# SPDX-License-Identifier: GPL-3.0-or-later
"""What concerns one account, as it is sent: orders, fills, events, withdrawals, margin estimates.

Rules: as in clearing.api.messages.market. An event is an outcome of the journal with `seq`, `index`, `time_us` and its
`type`; the fields are the outcome's own.
"""

from types import UnionType
from typing import Annotated, Any, Final, Literal, Union

import msgspec
from msgspec import Meta

from clearing.api.messages.common import Amount
from clearing.api.messages.market import SideName
from clearing.model import outcomes as o

OrderState = Literal["open", "filled", "cancelled", "rejected", "unknown"]
_HexText = Annotated[str, Meta(pattern="^0x([0-9a-f]{2})*$")]


class OpenOrder(msgspec.Struct, frozen=True):
    order_id: int
    client_order_id: Amount
    instrument: int
    side: SideName
    price_atoms: Amount
    open_lots: Amount
    expiry_us: int


class OpenTrigger(msgspec.Struct, frozen=True):
    """An order that waits for the mark price. `oco`: the client order id of the other half of its pair, or "0"."""

    order_id: int
    client_order_id: Amount
    instrument: int
    side: SideName
    kind: Literal["limit", "market"]
    when: Literal["or above", "or below"]
    trigger_atoms: Amount
    price_atoms: Amount
    size_lots: Amount
    oco: Amount
    expiry_us: int


class OpenOrders(msgspec.Struct, frozen=True):
    account: int
    seq: int
    orders: list[OpenOrder]
    triggers: list[OpenTrigger]


class OrderStatus(msgspec.Struct, frozen=True, gc=False):
    """What became of an order or trigger, by the client order id of its placing (the newest with that id).

    `status` "open" includes a trigger that waits (`is_trigger`). `size_lots` is what was filled and what is open (or
    was when it ended), so it follows a replace. `reason`: why it was cancelled or rejected. `seq`: the entry of its
    last change. Null: what an order did before the entries that this process has read (place, fills, size), or
    everything when "unknown".
    """

    status: OrderState
    client_order_id: Amount
    order_id: int | None = None
    account: int | None = None
    instrument: int | None = None
    side: SideName | None = None
    price_atoms: Amount | None = None
    size_lots: Amount | None = None
    filled_lots: Amount | None = None
    open_lots: Amount | None = None
    reason: str | None = None
    seq: int | None = None
    place_seq: int | None = None
    is_trigger: bool = False


class Fill(msgspec.Struct, frozen=True, gc=False):
    """An account's part in a trade. `fee_atoms` negative: a rebate. `client_order_id` is "0" for an order that the
    venue placed (liquidation, forced exit)."""

    seq: int
    index: int
    time_us: int
    instrument: int
    symbol: str
    side: SideName
    role: Literal["maker", "taker"]
    price_atoms: Amount
    size_lots: Amount
    fee_atoms: Amount
    order_id: int
    client_order_id: Amount


class Fills(msgspec.Struct, frozen=True):
    items: list[Fill]
    next: str | None


class Withdrawal(msgspec.Struct, frozen=True):
    """An acknowledged withdrawal. It is claimable on its chain once `epoch` (the first that closed after it; null: not
    yet) is posted there; `cumulative_atoms` is the owner's whole acknowledgement after it. `posted`: null when the
    sequencer cannot be asked. `claimed`: always null, since the claim happens on the chain and is read there."""

    seq: int
    index: int
    time_us: int
    vault: int
    asset: int
    symbol: str
    amount_atoms: Amount
    cumulative_atoms: Amount
    claimed: None
    epoch: int | None
    posted: bool | None


class Withdrawals(msgspec.Struct, frozen=True):
    items: list[Withdrawal]
    next: str | None


# --- events: one struct per type of outcome that names an account ------------------------------

# Whose event an outcome is: the fields that name an account. Orders, fills and margins have messages of their own.
PARTIES: Final[dict[type, tuple[str, ...]]] = {
    o.AccountOpened: ("account",),
    o.Deposited: ("account",),
    o.WithdrawalAcked: ("account",),
    o.Transferred: ("from_account", "to_account"),
    o.AssetTransferred: ("from_account", "to_account"),
    o.Liquidated: ("account",),
    o.PositionTransferred: ("from_account", "to_account"),
    o.PositionSettled: ("account",),
    o.PositionClosed: ("account",),
    o.MarginModeSet: ("account",),
    o.AuctionStarted: ("account",),
    o.AuctionFilled: ("account", "bidder"),
    o.AuctionEnded: ("account",),
    o.TrancheDrawn: ("account",),
    o.PledgeDrawn: ("account",),
    o.GainHaircut: ("account",),
    o.Deleveraged: ("account", "counterparty"),
    o.DefaultFundPledged: ("account",),
    o.CollateralSeized: ("account",),
    o.InterestCharged: ("account",),
    o.CancelAllScheduled: ("account",),
    o.ForcedRequested: ("account",),
    o.ForcedDone: ("account",),
}
# Theirs is the first account of the owner whom they name.
OF_OWNERS: Final = (o.KeyRegistered, o.KeyRevoked)


def _is_amount(name: str) -> bool:
    return name.endswith(("_atoms", "_lots"))


def _name(name: str) -> str:
    """A forced request's `index` is the inbox message's, and an event has one of its own."""
    return "inbox_index" if name == "index" else name


def _field(name: str, kind: Any) -> tuple[str, Any]:
    if kind is bytes:
        return name, _HexText
    if _is_amount(name):
        return name, Amount if kind is int else list[Amount]
    return _name(name), kind


def _event_type(outcome: type) -> Any:
    own = [_field(field.name, field.type) for field in msgspec.structs.fields(outcome)]
    common: list[tuple[str, Any]] = [("seq", int), ("index", int), ("time_us", int)]
    namespace = {"__doc__": outcome.__doc__}
    return msgspec.defstruct(
        f"{outcome.__name__}Event", common + own, tag_field="type", tag=outcome.__name__, frozen=True, gc=False,
        namespace=namespace, module=__name__,
    )  # fmt: skip


_EVENTS: Final[dict[type, Any]] = {outcome: _event_type(outcome) for outcome in (*PARTIES, *OF_OWNERS)}
AccountEvent: UnionType | Any = Union[tuple(_EVENTS.values())]  # noqa: UP007 - made of a list
_event_list: Any = list.__class_getitem__(AccountEvent)
Events: Any = msgspec.defstruct(
    "Events", [("items", _event_list), ("next", str | None)], frozen=True, module=__name__
)  # fmt: skip


def _sent(name: str, value: Any) -> Any:
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if _is_amount(name):
        return str(value) if isinstance(value, int) else [str(part) for part in value]
    return value


def event(seq: int, index: int, time_us: int, outcome: Any) -> Any:
    """The message of an outcome in `PARTIES` or `OF_OWNERS`."""
    fields = {_name(name): _sent(name, getattr(outcome, name)) for name in outcome.__struct_fields__}
    return _EVENTS[type(outcome)](seq, index, time_us, **fields)


# --- estimates ---------------------------------------------------------------------------------

Number = Annotated[str, Meta(pattern="^[0-9]{1,19}$")] | Annotated[int, Meta(ge=0)]


class EstimateOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A limit order, good till cancelled."""

    instrument: Annotated[int, Meta(ge=0)]
    side: SideName
    price_atoms: Number
    size_lots: Number


class EstimateRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    orders: Annotated[list[EstimateOrder], Meta(min_length=1, max_length=50)]


class Margin(msgspec.Struct, frozen=True):
    """`free_atoms`: equity less initial margin, fees and losses of the worst fills of all open orders: orders are
    accepted and money may leave while it is not negative."""

    equity_atoms: Amount
    margin_initial_atoms: Amount
    margin_maintenance_atoms: Amount
    free_atoms: Amount


class EstimatedOrder(msgspec.Struct, frozen=True):
    """What would become of one of the orders: filled at once, and left resting."""

    accepted: bool
    code: str | None
    filled_lots: Amount
    resting_lots: Amount
    cost_atoms: Amount
    fee_atoms: Amount


class Estimate(msgspec.Struct, frozen=True):
    """`before` and `after` as the account stands after entry `seq`, without and with the orders, in their order, as
    one batch. `accepted`: all of them; `code`: the first refusal. Nothing is reserved: the book may move."""

    account: int
    seq: int
    accepted: bool
    code: str | None
    before: Margin
    after: Margin
    orders: list[EstimatedOrder]
