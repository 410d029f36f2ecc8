# SPDX-License-Identifier: GPL-3.0-or-later
"""Derive the coefficients of the option kernel: `python -m tools.fit_kernel` prints its tables.

Rules:
- Every table is an interpolant of the function at Chebyshev nodes, solved with 60 digits and rounded to
  doubles once, at the end. No exchange algorithm: one more coefficient than the minimax fit needs buys the
  same accuracy, and anybody can redo the computation.
- The fits' own errors stay an order below half an ulp (1.1e-16), so that rounding dominates; each is
  measured on a grid of its own and printed.
- Output is the text of the tables in hexadecimal, which says exactly which doubles are meant.

The three functions:
- MILLS: M(z) = (1 - Phi(z)) / phi(z) on 0 <= z <= 60 as a ratio of polynomials of degree 10 and 11, in
  z itself. M is a Stieltjes function of z, so all coefficients come out positive: evaluating it on
  z >= 0 cancels nothing.
- EXP: r coth(r/2) = 2 + v P(v), v = r^2, on |r| <= ln(2)/2; then e^r = 1 + 2 r / (r coth(r/2) - r).
- LOG: 2 atanh(w) = 2 w + w v P(v), v = w^2, on |w| <= 3 - 2 sqrt(2), which is ln over a factor of 2.
"""

from collections.abc import Callable, Sequence
from typing import Any

import mpmath  # type: ignore[import-untyped]

Real = Any
"""mpmath.mpf; the library has no types."""

DIGITS = 60
MILLS_DEGREE = 10
# Nodes are spread evenly in (z - c) / (z + c); this c makes the error smallest.
MILLS_CENTRE = 5
MILLS_END = 60
EXP_TERMS = 5
LOG_TERMS = 7
_GRID = 500


def mills_ratio(z: Real) -> Real:
    """(1 - Phi(z)) / phi(z) of the standard normal, at the working precision."""
    return mpmath.sqrt(mpmath.pi / 2) * mpmath.erfc(z / mpmath.sqrt(2)) * mpmath.exp(z * z / 2)


def exp_even(v: Real) -> Real:
    """(r coth(r/2) - 2) / v at v = r^2 > 0."""
    r = mpmath.sqrt(v)
    return (r * mpmath.coth(r / 2) - 2) / v


def log_even(v: Real) -> Real:
    """(2 atanh(w) - 2 w) / (w v) at v = w^2 > 0."""
    w = mpmath.sqrt(v)
    return (2 * mpmath.atanh(w) - 2 * w) / (w * v)


def _nodes(count: int) -> list[Real]:
    """Chebyshev nodes on [0, 1]."""
    return [(mpmath.cos(mpmath.pi * (2 * i + 1) / (2 * count)) + 1) / 2 for i in range(count)]


def polynomial(function: Callable[[Real], Real], end: Real, terms: int) -> list[Real]:
    """Coefficients, lowest first, of the polynomial that meets `function` at Chebyshev nodes of [0, end]."""
    nodes = [end * node for node in _nodes(terms)]
    powers = mpmath.matrix(terms, terms)
    for i, node in enumerate(nodes):
        for j in range(terms):
            powers[i, j] = node**j
    return list(mpmath.lu_solve(powers, mpmath.matrix([function(node) for node in nodes])))


def _mills_point(node: Real) -> Real:
    """The z of a node in [0, 1]: even steps of (z - c) / (z + c), from 0 to the end."""
    last = mpmath.mpf(MILLS_END - MILLS_CENTRE) / (MILLS_END + MILLS_CENTRE)
    w = node * (last + 1) - 1
    return MILLS_CENTRE * (1 + w) / (1 - w)


def mills() -> tuple[list[Real], list[Real]]:
    """Numerator and denominator of M, lowest coefficient first; the denominator begins with 1."""
    top, bottom = MILLS_DEGREE + 1, MILLS_DEGREE + 1
    rows = mpmath.matrix(top + bottom, top + bottom)
    right = mpmath.matrix(top + bottom, 1)
    for i, node in enumerate(_nodes(top + bottom)):
        z = _mills_point(node)
        value = mills_ratio(z)
        for j in range(top):
            rows[i, j] = z**j
        for j in range(bottom):
            rows[i, top + j] = -value * z ** (j + 1)
        right[i] = value
    solved = list(mpmath.lu_solve(rows, right))
    return solved[:top], [mpmath.mpf(1), *solved[top:]]


def tables() -> dict[str, tuple[float, ...]]:
    """Name in the kernel -> coefficients, lowest first."""
    with mpmath.workdps(DIGITS):
        half_log = mpmath.log(2) / 2
        edge = 3 - 2 * mpmath.sqrt(2)
        top, bottom = mills()
        exact = {
            "MILLS_TOP": top,
            "MILLS_BOTTOM": bottom,
            "EXP": polynomial(exp_even, half_log * half_log, EXP_TERMS),
            "LOG": polynomial(log_even, edge * edge, LOG_TERMS),
        }
        return {name: tuple(float(c) for c in row) for name, row in exact.items()}


def _value(table: Sequence[Real], at: Real) -> Real:
    return mpmath.polyval(list(reversed(table)), at)


def errors() -> dict[str, float]:
    """Largest relative error of each function made of the unrounded fits, on a grid between the nodes."""
    with mpmath.workdps(DIGITS):
        top, bottom = mills()
        half_log, edge = mpmath.log(2) / 2, 3 - 2 * mpmath.sqrt(2)
        exp_table = polynomial(exp_even, half_log * half_log, EXP_TERMS)
        log_table = polynomial(log_even, edge * edge, LOG_TERMS)
        worst = {"MILLS": mpmath.mpf(0), "EXP": mpmath.mpf(0), "LOG": mpmath.mpf(0)}
        for i in range(1, _GRID):
            part = mpmath.mpf(i) / _GRID
            z = _mills_point(part)
            ratio = _value(top, z) / _value(bottom, z) / mills_ratio(z)
            r = half_log * (2 * part - 1)
            v = r * r
            power = (1 + 2 * r / (2 + v * _value(exp_table, v) - r)) / mpmath.exp(r)
            w = edge * part
            log = (2 * w + w**3 * _value(log_table, w * w)) / (2 * mpmath.atanh(w))
            for name, got in (("MILLS", ratio), ("EXP", power), ("LOG", log)):
                worst[name] = max(worst[name], abs(got - 1))
        return {name: float(error) for name, error in worst.items()}


def main() -> None:
    """Print the tables as Python, and each fit's error."""
    for name, row in tables().items():
        print(f"_{name} = _exactly(")
        for start in range(0, len(row), 4):
            print("    " + " ".join(f'"{coefficient.hex()}",' for coefficient in row[start : start + 4]))
        print(")  # fmt: skip")
    for name, error in errors().items():
        print(f"# {name}: fit error {error:.1e}")


if __name__ == "__main__":
    main()
