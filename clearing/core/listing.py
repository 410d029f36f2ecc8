# SPDX-License-Identifier: GPL-3.0-or-later
"""Listing, delisting, halting and resuming markets, by journalled commands of the operator.

- An instrument is listed with an id and a symbol that no live one has, of a known underlying, with an expiry
  in the future. It trades from its first mark price on.
- It is delisted when nobody holds it and nothing is open in it; after its expiry, only once its settlement
  price is final. Everything that knew it forgets it, empty slots of accounts too.
- In a halted market what waits may be cancelled and nothing placed. Prices, funding and triggers go on; fired
  triggers wait for the market to resume.
"""

from clearing.core import arrays
from clearing.core.positions import drop_slot
from clearing.core.state import InstrumentState, State, UnderlyingState
from clearing.model.bounds import check_instrument
from clearing.model.commands import DelistInstrument, HaltMarket, ListInstrument
from clearing.model.errors import NovateError
from clearing.model.outcomes import BreakerChanged, InstrumentDelisted, InstrumentListed

MAX_INSTRUMENTS = 4_096
MAX_REASON_CHARS = 128


def list_instrument(state: State, command: ListInstrument) -> str:
    """Open a market."""
    spec = command.instrument
    try:
        check_instrument(spec)
    except NovateError:
        return "INVALID_INSTRUMENT"
    under = state.symbols.get(spec.underlying)
    if under is None or len(state.instruments) >= MAX_INSTRUMENTS:
        return "INVALID_INSTRUMENT"
    if spec.expiry_us and spec.expiry_us <= state.time_us:
        return "INVALID_INSTRUMENT"
    if spec.id in state.instruments or any(inst.spec.symbol == spec.symbol for inst in state.instruments.values()):
        return "INSTRUMENT_EXISTS"
    state.add_instrument(spec)
    state.out.append(InstrumentListed(spec))
    _renew(state, under)
    return ""


def delist_instrument(state: State, command: DelistInstrument) -> str:
    """Close a market that nobody uses."""
    inst = state.instruments.get(command.instrument)
    if inst is None:
        return "UNKNOWN_INSTRUMENT"
    bids, asks = inst.book.sides
    if inst.holders or bids.keys or asks.keys or inst.above or inst.below or inst.fired:
        return "INSTRUMENT_IN_USE"
    if inst.expiry is not None and inst.expiry.expiry_us <= state.time_us and not inst.expiry.price:
        return "NOT_EXPIRED"
    _forget(state, inst)
    state.out.append(InstrumentDelisted(inst.id))
    _renew(state, inst.under)
    return ""


def _forget(state: State, inst: InstrumentState) -> None:
    """Take an instrument out of everything that knows it; an expiry goes with its last one."""
    under, expiry = inst.under, inst.expiry
    for account in state.accounts:
        drop_slot(state, account, inst.id)
    del state.instruments[inst.id]
    under.instruments.remove(inst)
    under.vols.pop(inst.id, None)
    if expiry is None:
        return
    expiry.instruments.remove(inst)
    if not expiry.instruments:
        del under.expiries[expiry.expiry_us]
        for publisher in state.publishers:
            publisher.surfaces.pop((under.id, expiry.expiry_us), None)


def _renew(state: State, under: UnderlyingState) -> None:
    """The risk array has a row for every instrument, and goes when none needs it."""
    arrays.renew(state, under)
    arrays.drop_unneeded(state)


def halt(state: State, command: HaltMarket) -> str:
    """Halt a market, or let it resume."""
    inst = state.instruments.get(command.instrument)
    if inst is None:
        return "UNKNOWN_INSTRUMENT"
    if not 1 <= len(command.reason) <= MAX_REASON_CHARS:
        return "INVALID_FIELD"
    inst.halted = command.reason if command.halted else ""
    kind = "HALT" if command.halted else inst.breaker or "NONE"
    state.out.append(BreakerChanged(inst.id, kind, inst.mark, inst.under.index))
    return ""
