# SPDX-License-Identifier: GPL-3.0-or-later
"""The mark price of every market, and what follows from it: margin fractions, breakers, triggers, the array.

Rules:
- Perpetuals and futures: median(index + EMA150s(mid - index), median(bid, ask, last), index). A future's index is
  what its expiry is expected to settle at: the voted forward (the underlying's index while nobody has voted), and
  inside the settlement window only as far as the window has not fixed the price yet.
- A book without both a bid and an ask, or of a halted market, says nothing: the mark is the index, and the EMA
  decays. Without a trade the mid stands for the last price. Marks move with votes alone, never with an order.
- The EMA (`InstrumentState.ema`, in 1/1024 atoms) is sampled at votes. A sample is at most +-100 % of the index, and
  stands for at most `oracle_max_age_us`: an absurd or a fleeting quote moves little.
- Further from the index than `divergence_ppm` the mark is held at that distance and the market is DIVERGED.
- Options: Black-76 on the expected settlement price with the voted vol, discounted at the voted rate if it is
  positive; at least one atom, since orders need a mark. They have no mark before the first surface. The vol is taken
  until expiry: that the window averages makes an option in it a little dearer, never cheaper.
- Once the settlement price is final the mark is the payoff, zero too: paying out must change nobody's equity.
- A dated contract's price is as old as the older of index and surface.
"""

from collections.abc import Sequence

from clearing.core import adaptive, arrays, breakers, expiry, triggers
from clearing.core.funding import sample_premium
from clearing.core.risk import kernel
from clearing.core.risk.market import Market
from clearing.core.state import InstrumentState, State, UnderlyingState
from clearing.model import ids

# Slow means are kept in fractions of an atom, so that they also follow cheap lots and small steps.
FINE = 1_024
_HALF = 1 << 59


def renew(state: State, under: UnderlyingState) -> None:
    """Renew all markets of an underlying whose index or surface was just voted, in the order of listing."""
    market = arrays.market_of(state, under, state.time_us) if under.expiries else None
    options = []
    for inst in under.instruments:
        inst.index_time = under.index_time
        if inst.expiry is not None:
            if inst.expiry.price:
                inst.index, inst.mark = inst.expiry.price, expiry.payoff(inst.spec, inst.expiry.price)
                continue
            assert market is not None, "a dated contract has an expiry"
            inst.index = market.expiries[inst.expiry.expiry_us].forward
            if inst.expiry.forward:
                inst.index_time = min(under.index_time, inst.expiry.time_us)
            if inst.kind == ids.OPTION:
                options.append(inst)
                continue
        else:
            inst.index = under.index
        _mark_linear(state, inst)
        adaptive.scale(under, inst)
    if market is not None:
        _mark_options(under, market, options)
    arrays.renew(state, under, market)
    for inst in under.instruments:
        triggers.check(state, inst)


def _mark_options(under: UnderlyingState, market: Market, options: Sequence[InstrumentState]) -> None:
    """All options of an underlying that have a vol, by one call of the kernel; `Market.option_value` of each."""
    priced = [inst for inst in options if inst.id in under.vols]
    if not priced:
        return
    specs = [inst.spec for inst in priced]
    dates = {spec.expiry_us: market.expiries[spec.expiry_us] for spec in specs}
    discounts = {expiry_us: market.discount(expiry_us) for expiry_us in dates}
    plain = kernel.values(
        [dates[spec.expiry_us].forward for spec in specs],
        [spec.strike_atoms for spec in specs],
        [under.vols[inst.id] for inst in priced],
        [market.tau_us(spec.expiry_us) for spec in specs],
        [spec.is_call for spec in specs],
    ).tolist()
    for inst, spec, value in zip(priced, specs, plain, strict=True):
        inst.mark = max(1, (value * discounts[spec.expiry_us] + _HALF) >> 60)


def _mark_linear(state: State, inst: InstrumentState) -> None:
    """The rule of perpetuals and futures, once the index is set."""
    index = inst.index
    fair = _fair(state, inst)
    limit = index * state.params.oracle.divergence_ppm // ids.PPM
    inst.mark = max(1, index - limit, min(index + limit, fair))
    breakers.note(state, inst, fair != inst.mark)
    if inst.kind == ids.PERPETUAL:
        if not inst.funding_time:
            inst.funding_time = state.time_us
        sample_premium(inst)


def _fair(state: State, inst: InstrumentState) -> int:
    """Median of index, index + EMA of the basis, and the book; renews the EMA."""
    index, bid, ask = inst.index, inst.book.best(ids.BUY), inst.book.best(ids.SELL)
    has_view = bid > 0 and ask > 0 and not inst.halted
    basis = 0
    if has_view:
        basis = max(-index * FINE, min(index * FINE, (bid + ask - 2 * index) * (FINE // 2)))
    passed = state.time_us - inst.ema_us if inst.ema_us else 0
    inst.ema_us = state.time_us
    if inst.ema != basis:
        passed = min(passed, state.params.oracle_max_age_us)
        inst.ema += ema_step(basis - inst.ema, passed, state.params.oracle.mark_ema_us)
    if not has_view:
        return index
    traded = sorted((bid, ask, inst.last or (bid + ask) // 2))[1]
    return sorted((index, index + inst.ema // FINE, traded))[1]


def ema_step(gap: int, passed_us: int, tau_us: int) -> int:
    """The part of a gap that an EMA closes in this time: gap x dt / (tau + dt), rounded toward zero, so that it
    never overshoots and both directions are alike."""
    part = abs(gap) * passed_us // (tau_us + passed_us)
    return part if gap >= 0 else -part
