# SPDX-License-Identifier: GPL-3.0-or-later
"""Black-76 a second time, in Python integers alone: the oracle of the kernel's tests.

Rules:
- Nothing is shared with the kernel but the formula: no floats, no Mills ratio, no fitted coefficients. Series
  with whole-number coefficients, in Q256 fixed point, textbook form F N(d1) - K N(d2).
- Slow and plain. Its own error is below 2^-110 of the larger price, hence negligible.
"""

from math import isqrt

BITS = 256
ONE = 1 << BITS
UNIT = 10**12
YEAR_US = 365 * 86_400 * 10**6
# Phi(-13) is below 2^-126; nearer, phi(x) of 256 bits leaves more than 2^-120 to multiply its inverse with.
FAR = 13 * ONE


def divided(a: int, b: int) -> int:
    """a / b to the nearest integer, half to even, b > 0."""
    whole, rest = divmod(a, b)
    return whole + (2 * rest > b or (2 * rest == b and whole & 1))


def ln(above: int, below: int) -> int:
    """ln(above / below) in Q256, by 2 atanh((u - 1) / (u + 1)) after halving until 1 <= u < 2."""
    shift = above.bit_length() - below.bit_length()
    over, under = (above, below << shift) if shift >= 0 else (above << -shift, below)
    return shift * _atanh2(1, 3) + _atanh2(over - under, over + under)


def _atanh2(above: int, below: int) -> int:
    w = (above << BITS) // below
    square = w * w >> BITS
    total, n = 0, 1
    while abs(w) > 1:
        total += w // n
        w = w * square >> BITS
        n += 2
    return 2 * total


def exp(x: int) -> int:
    """e^x in Q256 of x in Q256, x <= 0, by Taylor's series of x / 2^k, squared k times."""
    halvings = max(0, (-x).bit_length() - BITS + 8)
    guard = 2 * halvings + 16
    r = x << guard >> halvings
    one = ONE << guard
    total, term, n = one, one, 1
    while abs(term) > 1:
        term = (term * r >> (BITS + guard)) // n
        total += term
        n += 1
    for _ in range(halvings):
        total = total * total >> (BITS + guard)
    return total >> guard


def density(x: int) -> int:
    """phi(x) = e^(-x^2/2) / sqrt(2 pi) in Q256."""
    if abs(x) > FAR:
        return 0
    return (exp(-(x * x >> (BITS + 1))) << BITS) // isqrt(2 * pi() << BITS)


def pi() -> int:
    """Machin: pi = 16 atan(1/5) - 4 atan(1/239)."""
    return 16 * _atan_inverse(5) - 4 * _atan_inverse(239)


def _atan_inverse(n: int) -> int:
    term, total, k, sign = ONE // n, 0, 1, 1
    while term:
        total += sign * (term // k)
        term //= n * n
        k, sign = k + 2, -sign
    return total


def below(x: int) -> int:
    """Phi(x) in Q256 by 1/2 + phi(x) (x + x^3/3 + x^5/15 + ...): all terms have the sign of x.

    The series grows to 1 / phi(x), and with it the truncation of phi(x): a unit becomes at most 2^124 units.
    """
    if abs(x) > FAR:
        return ONE if x > 0 else 0
    square = x * x >> BITS
    term, total, n = x, 0, 1
    while abs(term) > 1:
        total += term
        n += 2
        term = (term * square >> BITS) // n
    return ONE // 2 + (density(x) * total >> BITS)


def _terms(forward: int, strike: int, vol: int, tau_us: int) -> tuple[int, int, int]:
    """(d1, d2, stdev) in Q256."""
    stdev = vol * isqrt((tau_us << (2 * BITS)) // YEAR_US) // UNIT
    d1 = (ln(forward, strike) << BITS) // stdev + stdev // 2
    return d1, d1 - stdev, stdev


def value(forward: int, strike: int, vol: int, tau_us: int, is_call: bool) -> int:
    """Undiscounted value in Q256 atoms; vol and tau_us > 0."""
    d1, d2, _ = _terms(forward, strike, vol, tau_us)
    if is_call:
        return forward * below(d1) - strike * below(d2)
    return strike * below(-d2) - forward * below(-d1)


def greeks(forward: int, strike: int, vol: int, tau_us: int, is_call: bool) -> tuple[int, int, int, int, int]:
    """Undiscounted (delta, gamma, vega, theta, rho) in the kernel's units, each in Q256."""
    d1, _, stdev = _terms(forward, strike, vol, tau_us)
    phi = density(d1)
    delta = below(d1) - (0 if is_call else ONE)
    gamma = (phi << BITS) // stdev // 100
    root = isqrt((tau_us << (2 * BITS)) // YEAR_US)
    vega = (forward * phi * root >> BITS) // 100
    theta = -(forward * phi * vol // UNIT << BITS) // (2 * root) // 365
    rho = -value(forward, strike, vol, tau_us, is_call) * tau_us // YEAR_US // 100
    return delta * UNIT, gamma * UNIT, vega, theta, rho
