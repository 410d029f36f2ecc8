# SPDX-License-Identifier: GPL-3.0-or-later
"""Products with Q60 factors over int64 arrays, exact where int64 alone would overflow.

A Q60 factor f stands for f / 2^60. `scaled` is to the bit what Python's ints give:
floor(value x factor / 2^60 + 1/2), or the ceiling.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[Any]
"""int64, or Python ints (dtype object) where an account would overflow int64."""

ONE = 1 << 60
_HALF = 1 << 59
_LOW31 = (1 << 31) - 1
_LOW29 = (1 << 29) - 1
_LIMIT = 1 << 62


def scaled(values: NDArray[np.int64], factors: Sequence[int], up: bool = False) -> NDArray[np.int64]:
    """Row i of `values` (>= 0, below 2^62) x factors[i] (Q60, >= 0), rounded to nearest or up.

    A single factor serves all rows. Raises OverflowError if a result does not fit int64.
    """
    if values.size == 0:
        return values.copy()
    shape = (len(factors),) + (1,) * (values.ndim - 1)
    largest = max(factors)
    carry = ONE - 1 if up else _HALF
    if int(values.max()) * largest >> 60 >= _LIMIT:
        raise OverflowError(f"a product with {largest} / 2^60 does not fit 62 bits; use a larger lot or atom")
    if largest >= _LIMIT:
        wide = np.array(factors, dtype=object).reshape(shape)
        exact: NDArray[np.int64] = ((values.astype(object) * wide + carry) >> 60).astype(np.int64)
        return exact
    factor = np.array(factors, dtype=np.int64).reshape(shape)
    value_high, value_low = values >> 31, values & _LOW31
    factor_high, factor_low = factor >> 31, factor & _LOW31
    middle = value_high * factor_low + value_low * factor_high
    fraction = ((middle & _LOW29) << 31) + value_low * factor_low + carry
    result: NDArray[np.int64] = ((value_high * factor_high) << 2) + (middle >> 29) + (fraction >> 60)
    return result


def scaled_signed(values: NDArray[np.int64], factors: Sequence[int]) -> NDArray[np.int64]:
    """`scaled` of either sign: the size is rounded to nearest, so a long and a short round alike."""
    sizes = scaled(np.abs(values), factors)
    result: NDArray[np.int64] = np.where(values < 0, -sizes, sizes)
    return result
