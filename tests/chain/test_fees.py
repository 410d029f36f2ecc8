# SPDX-License-Identifier: GPL-3.0-or-later
"""Bids: nodes take a dearer form, the ceiling holds, and urgency moves both."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from clearing.chain.errors import ChainError
from clearing.chain.fees import GWEI, Bid, Quote, SendPolicy, current, deadline_urgency, opening, raised

WEI = st.integers(0, 250 * GWEI)
QUOTES = st.builds(Quote, WEI, st.integers(0, 10 * GWEI), st.just(0) | st.integers(1, 100 * GWEI))


def _bid(make: Callable[[], Bid]) -> Bid | None:
    """The bid, or None when the ceiling forbids it."""
    try:
        return make()
    except ChainError as error:
        if error.code != "FEE_TOO_HIGH":
            raise
        return None


@given(QUOTES, QUOTES, st.floats(0, 1))
def test_a_raised_bid_replaces_the_old_one_at_every_node(before: Quote, after: Quote, urgency: float) -> None:
    """Nodes want 10 % more of both prices, and of a blob transaction twice all three."""
    policy = SendPolicy()
    after = after._replace(blob_wei=after.blob_wei if before.blob_wei else 0)
    old = opening(before, policy, urgency)
    new = _bid(lambda: raised(old, after, policy, urgency))
    assume(new is not None)
    assert new is not None
    for fresh, was in zip(new, old, strict=True):
        assert fresh * 100 >= was * (200 if before.blob_wei else 110)
    assert new.tip_wei <= new.max_fee_wei


@given(QUOTES, st.floats(0, 1), st.integers(1, 300 * GWEI), st.integers(0, 3_000 * GWEI))
def test_nothing_above_the_ceiling_is_ever_bid(asked: Quote, urgency: float, most: int, more: int) -> None:
    policy = SendPolicy(max_fee_wei=most, urgent_max_fee_wei=most + more)
    ceiling = most + more * int(urgency * 10**6) // 10**6
    bid = _bid(lambda: opening(asked, policy, urgency))
    assert (bid is None) == (asked.base_wei > ceiling)
    steps = 0
    while bid is not None:
        assert bid.tip_wei <= bid.max_fee_wei <= ceiling
        bid, steps = _bid(lambda last=bid: raised(last, asked, policy, urgency)), steps + 1  # type: ignore[misc]
    assert steps < 400  # it grows, so it ends


@given(QUOTES, st.floats(0, 1), st.floats(0, 1))
def test_more_urgency_never_bids_less(asked: Quote, one: float, other: float) -> None:
    assume(asked.blob_wei <= 100 * GWEI)
    low, high = sorted((one, other))
    assert all(
        a <= b for a, b in zip(opening(asked, SendPolicy(), low), opening(asked, SendPolicy(), high), strict=True)
    )


def test_the_refusal_says_what_is_asked_what_is_allowed_and_what_to_do() -> None:
    with pytest.raises(ChainError) as caught:
        opening(Quote(500 * GWEI, 1, 0), SendPolicy(), 0.0)
    assert caught.value.code == "FEE_TOO_HIGH"
    for word in ("500 gwei", "300", "wait, or raise max_fee_wei"):
        assert word in caught.value.message
    assert opening(Quote(500 * GWEI, 1, 0), SendPolicy(), 1.0).max_fee_wei > 500 * GWEI


def test_a_tip_beyond_reason_is_not_believed() -> None:
    """The cap is a promise, but the tip is paid: a lying endpoint could spend all of the ceiling with it."""
    bid = opening(Quote(GWEI, 250 * GWEI, 0), SendPolicy(max_tip_wei=3 * GWEI), 0.0)
    assert (bid.tip_wei, bid.max_fee_wei) == (3 * GWEI, 5 * GWEI)


@pytest.mark.parametrize(("now_s", "wanted"), [(0, 0.0), (100, 0.0), (150, 0.0), (175, 0.5), (200, 1.0), (999, 1.0)])
def test_urgency_rises_over_the_second_half_of_the_time(now_s: float, wanted: float) -> None:
    assert deadline_urgency(100, 200, now_s) == wanted
    assert deadline_urgency(100, 100, now_s) == 1.0


def test_urgency_stays_within_its_bounds_and_may_be_a_function() -> None:
    assert (current(-3.0), current(0.25), current(7.0), current(lambda: 0.5)) == (0.0, 0.25, 1.0, 0.5)


@pytest.mark.parametrize("change", [{"bump_ppm": 99_999}, {"urgent_max_fee_wei": 1}, {"urgent_max_blob_fee_wei": 1}])
def test_a_policy_that_cannot_work_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ChainError, match="INVALID_ARGUMENT"):
        SendPolicy(**change)
