# SPDX-License-Identifier: GPL-3.0-or-later
"""What the oracle says of one underlying at one moment, as the risk array needs it.

Rules:
- Prices are atoms per lot; vols, rates and confidence levels ints of 1e-12 (confidence: `UNIT` is certain).
- Inside the settlement window before expiry the forward is partly known: only its variable part moves
  with spot, so that delta fades to nothing at expiry.
- Nothing here reads a clock: `time_us` is the sequencer's.
"""

from bisect import bisect_right
from collections.abc import Mapping
from itertools import pairwise

from clearing.core.risk import kernel
from clearing.model.errors import NovateError
from clearing.model.ids import UNIT

WINDOW_US = 1_800_000_000


class Expiry:
    """One expiry: forward, rate, and vols at ascending strikes, with the confidence in each.

    `settled`: the part of the forward that the averaging window has fixed, atoms per lot; -1 takes it
    pro rata to the window's elapsed time. Raises NovateError INVALID_PARAMS if the surface has no
    shape, or the forward is not positive.
    """

    __slots__ = (
        "_knots",
        "expiry_us",
        "forward",
        "forward_confidence",
        "rate",
        "rate_confidence",
        "settled",
        "strikes",
        "vol_confidence",
        "vols",
    )

    def __init__(
        self,
        expiry_us: int,
        forward: int,
        rate: int = 0,
        forward_confidence: int = UNIT,
        rate_confidence: int = UNIT,
        vol_confidence: int = UNIT,
        strikes: tuple[int, ...] = (),
        vols: tuple[int, ...] = (),
        settled: int = -1,
    ) -> None:
        if forward <= 0:
            raise NovateError("INVALID_PARAMS", f"expiry {expiry_us}: forward {forward} is not positive")
        if len(strikes) != len(vols) or any(a >= b for a, b in pairwise(strikes)):
            raise NovateError("INVALID_PARAMS", f"expiry {expiry_us}: one vol for each of ascending strikes is needed")
        self.expiry_us = expiry_us
        self.forward = forward
        self.rate = rate
        self.forward_confidence = forward_confidence
        self.rate_confidence = rate_confidence
        self.vol_confidence = vol_confidence
        self.strikes = strikes
        self.vols = vols
        self.settled = settled
        self._knots = dict(zip(strikes, vols, strict=True))

    def vol_at(self, strike: int) -> int:
        """Implied vol in 1e-12: linear in strike between the knots (rounded down), flat outside."""
        exact = self._knots.get(strike)
        if exact is not None:
            return exact
        strikes, vols = self.strikes, self.vols
        if not strikes:
            raise NovateError("NO_MARK_PRICE", f"expiry {self.expiry_us} has no vols; publish a surface")
        right = bisect_right(strikes, strike)
        if right == 0:
            return vols[0]
        if right == len(strikes):
            return vols[-1]
        low, high = strikes[right - 1], strikes[right]
        return vols[right - 1] + (vols[right] - vols[right - 1]) * (strike - low) // (high - low)


class Market:
    """One underlying: spot, confidence levels, the moment, and its expiries by `expiry_us`."""

    __slots__ = ("expiries", "perp_confidence", "spot", "spot_confidence", "time_us", "underlying", "window_us")

    def __init__(
        self,
        underlying: str,
        spot: int,
        spot_confidence: int = UNIT,
        perp_confidence: int = UNIT,
        time_us: int = 0,
        expiries: Mapping[int, Expiry] | None = None,
        window_us: int = WINDOW_US,
    ) -> None:
        self.underlying = underlying
        self.spot = spot
        self.spot_confidence = spot_confidence
        self.perp_confidence = perp_confidence
        self.time_us = time_us
        self.expiries: dict[int, Expiry] = dict(expiries or {})
        self.window_us = window_us

    def tau_us(self, expiry_us: int) -> int:
        """Time to expiry, at least 0."""
        left = expiry_us - self.time_us
        return left if left > 0 else 0

    def split(self, price: int, expiry_us: int) -> tuple[int, int]:
        """(fixed, variable) parts of a forward or futures price, atoms per lot; they sum to the price."""
        left = expiry_us - self.time_us
        if left >= self.window_us:
            return 0, price
        known = self.expiries.get(expiry_us)
        if known is not None and known.settled >= 0:
            fixed = min(known.settled, price)
        else:
            fixed = price * (self.window_us - max(left, 0)) // self.window_us
        return fixed, price - fixed

    def expiry(self, expiry_us: int) -> Expiry:
        """The expiry's data. Raises NovateError NO_MARK_PRICE if the oracle has not published any."""
        found = self.expiries.get(expiry_us)
        if found is None:
            raise NovateError("NO_MARK_PRICE", f"{self.underlying}: no forward and vols for expiry {expiry_us} yet")
        return found

    def discount(self, expiry_us: int) -> int:
        """Q60 of e^(-max(rate, 0) t); one where nobody has published a rate."""
        known = self.expiries.get(expiry_us)
        if known is None or known.rate <= 0:
            return kernel.DISCOUNT_ONE
        return kernel.discount(known.rate, self.tau_us(expiry_us))

    def option_value(self, expiry_us: int, strike: int, is_call: bool) -> int:
        """Discounted Black-76 value, atoms per lot, rounded to nearest: what an unmoved scenario holds."""
        data = self.expiry(expiry_us)
        tau = self.tau_us(expiry_us)
        plain = kernel.value(data.forward, strike, data.vol_at(strike), tau, is_call)
        return (plain * self.discount(expiry_us) + (1 << 59)) >> 60
