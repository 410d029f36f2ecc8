# SPDX-License-Identifier: GPL-3.0-or-later
"""The nonce window against the obvious model: a set of used numbers and a highest one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clearing.core.state import NonceWindow
from clearing.model.ids import MAX_AMOUNT_ATOMS, NONCE_WINDOW

near_numbers = st.integers(0, 3_000) | st.integers(NONCE_WINDOW - 3, NONCE_WINDOW + 3)
far_numbers = st.sampled_from((2**40, 2**62, MAX_AMOUNT_ATOMS, MAX_AMOUNT_ATOMS + 1))


@given(st.lists(near_numbers | far_numbers, max_size=60))
def test_each_nonce_once_and_none_older_than_the_window(numbers: list[int]) -> None:
    """Fresh exactly when unused, not older than the window below the highest, and not too large."""
    window, used, high = NonceWindow(), {0}, 0
    for number in numbers:
        expected = number not in used and number > high - NONCE_WINDOW and number <= MAX_AMOUNT_ATOMS
        assert window.is_fresh(number) == expected
        if expected:
            window.use(number)
            used.add(number)
            high = max(high, number)
        assert window.high == high
        assert window.bits < 1 << NONCE_WINDOW


def test_the_oldest_number_inside_the_window_is_still_usable_once() -> None:
    window = NonceWindow()
    window.use(5_000)
    oldest = 5_000 - NONCE_WINDOW + 1
    assert window.is_fresh(oldest) and not window.is_fresh(oldest - 1)
    window.use(oldest)
    assert not window.is_fresh(oldest)
    window.use(5_001)
    assert not window.is_fresh(oldest)
