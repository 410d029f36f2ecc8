# SPDX-License-Identifier: GPL-3.0-or-later
"""A venue whose members wait for prices: the shorthand of the tests of triggers, OCO and order gates."""

from __future__ import annotations

import msgspec

from clearing.model import commands as c
from clearing.model import ids
from clearing.model import outcomes as o
from clearing.model.params import FeeTier, Instrument, Params
from tests.core import venue as v

X, Y = 1, 2
MARKET = (
    Instrument(X, "X-PERP", "X", 1, 1_000, 50_000, 30_000),
    Instrument(Y, "Y-PERP", "Y", 1, 1_000, 50_000, 30_000),
)
RICH = 10**12


def open_venue(**params: object) -> v.Venue:
    """Ann, Bob and Cat with far more money than they can use; X and Y at 1,000."""
    base = Params(fee_tiers=(FeeTier(0, 0, 0),), oracle_max_jump_ppm=20_000_000)
    venue = v.Venue(msgspec.structs.replace(base, **params), MARKET)
    for name in ("ann", "bob", "cat"):
        venue.fund(name, RICH)
    price(venue, 1_000, 1_000)
    return venue


def price(venue: v.Venue, x: int, y: int = 0) -> list[o.Outcome]:
    """A vote on X (and Y), a second after the last."""
    venue.advance(v.SECOND)
    return venue.oracle({X: x} | ({Y: y} if y else {}))


def trigger(
    venue: v.Venue,
    side: int,
    at: int,
    above: bool,
    worst: int,
    lots: int = 1,
    instrument: int = X,
    kind: int = ids.MARKET,
    reduce_only: bool = False,
    oco: int = 0,
    expiry_us: int = 0,
    client_id: int = 0,
) -> c.PlaceTrigger:
    number = client_id or venue.client_id()
    return c.PlaceTrigger(instrument, side, at, above, worst, lots, number, kind, reduce_only, oco, expiry_us)


def fired(outcomes: list[o.Outcome]) -> list[int]:
    return [x.order_id for x in outcomes if isinstance(x, o.TriggerFired)]


def cancelled(outcomes: list[o.Outcome]) -> list[tuple[int, str]]:
    return [(x.order_id, x.reason) for x in outcomes if isinstance(x, o.OrderCancelled)]


def id_of(outcomes: list[o.Outcome]) -> int:
    """The id of the trigger or order that these outcomes placed."""
    return next(x.order_id for x in outcomes if isinstance(x, o.TriggerPlaced | o.OrderPlaced))


def run_all(venue: v.Venue) -> list[o.Outcome]:
    """RunTriggers until there are none."""
    found: list[o.Outcome] = []
    for _ in range(1_000):
        out = venue.operator(c.RunTriggers())
        if v.codes(out) == ["NO_TRIGGERS"]:
            return found
        found += out
    raise AssertionError("triggers never end")
