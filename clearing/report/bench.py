# SPDX-License-Identifier: GPL-3.0-or-later
"""Instantaneous what-ifs: move prices and vols of a copied state, ask margin again, put everything back.

Rules:
- A move is a ratio on spot; forwards follow it, and a basis ratio on top. Only the part of a price that its
  settlement window has not fixed yet moves. Vols are scaled at every strike; time does not pass.
- Linear marks move with their price. An option's mark moves by what the model's value moves, so that an
  unmoved market leaves every mark as it is. Options that nobody has given a vol stay where they are.
- Risk arrays are built anew from the moved market. Margin fractions (`imf`) stay: adaptive margin and
  open-interest scaling react to votes, and a what-if is none.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from clearing.core.risk.array import RiskArray, build
from clearing.core.risk.market import Expiry, Market
from clearing.core.state import InstrumentState, State, UnderlyingState
from clearing.model import ids
from clearing.model.ids import PPM


class Move(NamedTuple):
    """Ratios in ppm (1,000,000: unmoved): of spot by underlying id, of forwards beyond spot, of vols."""

    spot: Mapping[int, int]
    forward: int = PPM
    vol: int = PPM


class _Base(NamedTuple):
    under: UnderlyingState
    spot: int
    market: Market | None
    array: RiskArray | None
    marks: tuple[tuple[InstrumentState, int, int], ...]
    forwards: tuple[tuple[int, int], ...]


class Bench:
    """The priced underlyings of a state (or those of `only`), to be moved from where they stood."""

    def __init__(self, state: State, only: Iterable[int] | None = None) -> None:
        self.state = state
        chosen = state.underlyings if only is None else dict.fromkeys(only)
        self._bases = [_base(state.underlyings[number]) for number in chosen if state.underlyings[number].index]

    @property
    def underlyings(self) -> list[int]:
        """Ids of what can be moved."""
        return [base.under.id for base in self._bases]

    def move(self, move: Move) -> None:
        """Move everything, from where it stood at first."""
        for base in self._bases:
            _moved(self.state, base, move.spot.get(base.under.id, PPM), move)

    def spot(self, ratio: int, vol: int = PPM) -> None:
        """Move all spots by one ratio."""
        self.move(Move(dict.fromkeys(self.underlyings, ratio), vol=vol))

    def reset(self) -> None:
        """Everything as it was."""
        for base in self._bases:
            under = base.under
            under.index, under.market, under.array = base.spot, base.market, base.array
            for inst, mark, index in base.marks:
                inst.mark, inst.index = mark, index
            for expiry_us, forward in base.forwards:
                under.expiries[expiry_us].forward = forward


def _base(under: UnderlyingState) -> _Base:
    marks = tuple((inst, inst.mark, inst.index) for inst in under.instruments)
    forwards = tuple((expiry.expiry_us, expiry.forward) for expiry in under.expiries.values())
    return _Base(under, under.index, under.market, under.array, marks, forwards)


def _scaled(price: int, ratio: int) -> int:
    """price x ratio, to the nearest atom; a price is never nothing."""
    return max(1, (price * ratio + PPM // 2) // PPM)


def _moved(state: State, base: _Base, ratio: int, move: Move) -> None:
    under = base.under
    under.index = _scaled(base.spot, ratio)
    market = under.market = _market(base.market, ratio, move) if base.market is not None else None
    for expiry_us, forward in base.forwards:
        expiry = under.expiries[expiry_us]
        if forward and not expiry.price:
            expiry.forward = _scaled(forward, ratio * move.forward // PPM)
    for inst, mark, index in base.marks:
        if mark and not inst.settle and not (inst.expiry is not None and inst.expiry.price):
            inst.mark = _mark(base, inst, mark, ratio, move)
            inst.index = _scaled(index, ratio)
    if base.array is not None and market is not None:
        columns = [c._replace(mark=state.instruments[c.instrument_id].mark) for c in base.array.columns]
        under.array = build(state.params.presets[under.spec.preset], market, columns)


def _market(market: Market, ratio: int, move: Move) -> Market:
    expiries = {}
    for expiry_us, known in market.expiries.items():
        fixed, variable = market.split(known.forward, expiry_us)
        forward = fixed + _scaled(variable, ratio * move.forward // PPM)
        vols = tuple(vol * move.vol // PPM for vol in known.vols)
        expiries[expiry_us] = Expiry(
            expiry_us, forward, known.rate, known.forward_confidence, known.rate_confidence, known.vol_confidence,
            known.strikes, vols, known.settled,
        )  # fmt: skip
    return Market(
        market.underlying, _scaled(market.spot, ratio), market.spot_confidence, market.perp_confidence,
        market.time_us, expiries, market.window_us,
    )  # fmt: skip


def _mark(base: _Base, inst: InstrumentState, mark: int, ratio: int, move: Move) -> int:
    """The mark after the move; atoms, at least one."""
    if inst.kind == ids.PERPETUAL:
        return _scaled(mark, ratio)
    spec, before, after = inst.spec, base.market, base.under.market
    if inst.kind == ids.FUTURE:
        fixed, variable = before.split(mark, spec.expiry_us) if before is not None else (0, mark)
        return fixed + _scaled(variable, ratio * move.forward // PPM)
    if before is None or after is None or not has_vols(before, spec.expiry_us):
        return mark
    worth = [market.option_value(spec.expiry_us, spec.strike_atoms, spec.is_call) for market in (before, after)]
    return max(1, mark + worth[1] - worth[0])


def has_vols(market: Market, expiry_us: int) -> bool:
    """Can options of this expiry be valued?"""
    known = market.expiries.get(expiry_us)
    return known is not None and bool(known.strikes)
