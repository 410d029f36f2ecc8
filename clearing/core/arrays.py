# SPDX-License-Identifier: GPL-3.0-or-later
"""From voted prices to the market that the risk engine sees, and its array.

Rules:
- An underlying has an array when an option or a dated future of it is listed, or some account is under portfolio
  margin. It is built at every accepted vote, at that entry's time; time to expiry does not run between votes, so
  that all checks between two votes see one array.
- It has a row for every market that has a mark; a settled one, whatever its payoff, no longer moves. An expiry that
  nobody has voted on takes the underlying's index for its forward, and its confidence.
- Market and array are functions of what the state keeps (and a snapshot carries) and of `array_us`; building them
  again gives the same bits.
- The bounds of prices and presets keep every number inside the array's 64 bits.
- `inputs_hash` = SHA-256("novate/risk-inputs/v1\\n" | msgpack([symbol, spot, confidence, time_us, window_us,
  expiries])), an expiry being [expiry_us, forward, rate, confidences, settled, strikes, vols].
"""

import hashlib

from clearing.core import expiry as expiries
from clearing.core.risk.array import Column, RiskArray, build
from clearing.core.risk.market import Expiry, Market
from clearing.core.state import ExpiryState, State, UnderlyingState
from clearing.model import ids
from clearing.model.codec import encode
from clearing.model.outcomes import RiskArrayBuilt


def is_needed(state: State, under: UnderlyingState) -> bool:
    """See the module's rules."""
    return state.portfolios > 0 or bool(under.expiries)


def renew(state: State, under: UnderlyingState, market: Market | None = None) -> None:
    """Build market and array at `state.time_us` and say so (RiskArrayBuilt), or forget them if nothing needs them.

    `market`: what `market_of` gives now, when the caller has it already. Without an index there is nothing to do.
    """
    if not under.index:
        return
    if not is_needed(state, under):
        _forget(under)
        return
    market = market or market_of(state, under, state.time_us)
    under.market, under.array, under.array_us = market, _array(state, under, market), state.time_us
    state.out.append(RiskArrayBuilt(under.id, inputs_hash(market), under.array.digest))


def ensure(state: State) -> None:
    """Arrays for all priced underlyings that need one and have none yet."""
    for under in state.underlyings.values():
        if under.array is None:
            renew(state, under)


def drop_unneeded(state: State) -> None:
    """Forget arrays that nothing needs any more."""
    for under in state.underlyings.values():
        if under.array_us and not is_needed(state, under):
            _forget(under)


def _forget(under: UnderlyingState) -> None:
    under.array_us, under.market, under.array = 0, None, None


def rebuild(state: State, under: UnderlyingState) -> None:
    """Build them again as they were at `under.array_us` (0: there are none), silently."""
    if under.array_us:
        under.market = market_of(state, under, under.array_us)
        under.array = _array(state, under, under.market)


def _array(state: State, under: UnderlyingState, market: Market) -> RiskArray:
    columns = []
    for inst in under.instruments:
        spec, kind = inst.spec, inst.kind
        settled = inst.expiry is not None and inst.expiry.price > 0
        if (inst.mark or settled) and (kind != ids.OPTION or inst.id in under.vols):
            columns.append(Column(inst.id, kind, spec.expiry_us, spec.strike_atoms, spec.is_call, inst.mark))
    return build(state.params.presets[under.spec.preset], market, columns)


def market_of(state: State, under: UnderlyingState, time_us: int) -> Market:
    """The underlying at a moment, as the votes have it. An index is there."""
    found = {dated.expiry_us: _expiry(under, dated, time_us) for dated in under.expiries.values()}
    # A window that runs keeps its length when the rule changes.
    window = max([state.params.oracle.expiry_window_us, *(dated.window_us for dated in under.expiries.values())])
    return Market(under.spec.symbol, under.index, under.confidence, under.confidence, time_us, found, window)


def _expiry(under: UnderlyingState, dated: ExpiryState, time_us: int) -> Expiry:
    """The expiry as the array sees it: forward = fixed + open share x voted forward (see expiry.fixed_part)."""
    fixed, share = expiries.fixed_part(dated, under, time_us)
    forward = max(1, fixed + (dated.forward or under.index) * share // ids.UNIT)
    by_strike = {inst.spec.strike_atoms: under.vols[inst.id] for inst in dated.instruments if inst.id in under.vols}
    strikes = tuple(sorted(by_strike))
    voted = dated.forward > 0
    return Expiry(
        dated.expiry_us,
        forward,
        dated.rate,
        dated.forward_confidence if voted else under.confidence,
        dated.rate_confidence if voted else ids.UNIT,
        dated.vol_confidence if voted else ids.UNIT,
        strikes,
        tuple(by_strike[strike] for strike in strikes),
        fixed,
    )


def inputs_hash(market: Market) -> bytes:
    """SHA-256 of everything that the array is built from, but the instruments (32 bytes)."""
    rows = [
        (
            data.expiry_us,
            data.forward,
            data.rate,
            data.forward_confidence,
            data.rate_confidence,
            data.vol_confidence,
            data.settled,
            data.strikes,
            data.vols,
        )
        for data in market.expiries.values()
    ]
    body = (market.underlying, market.spot, market.spot_confidence, market.time_us, market.window_us, rows)
    return hashlib.sha256(b"novate/risk-inputs/v1\n" + encode(body)).digest()
