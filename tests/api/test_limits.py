# SPDX-License-Identifier: GPL-3.0-or-later
"""Rate limits: nobody gets more than the bucket allows, whoever waits as told is served, and nobody pays for others."""

from hypothesis import given
from hypothesis import strategies as st

from clearing.api.http.limits import Buckets

STEPS = st.lists(st.tuples(st.floats(0, 5), st.integers(1, 12), st.sampled_from("ab")), max_size=60)


@given(STEPS, st.floats(0.5, 20), st.integers(1, 20))
def test_never_more_than_the_burst_and_the_rate_allow(
    steps: list[tuple[float, int, str]], rate: float, burst: int
) -> None:
    """Over any stretch of time an asker gets at most burst + rate x time, whatever others do."""
    now = [0.0]
    buckets = Buckets(rate, burst, lambda: now[0])
    taken: dict[str, list[tuple[float, int]]] = {"a": [], "b": []}
    for pause, count, who in steps:
        now[0] += pause
        verdict = buckets.take(who, count)
        assert 0 <= verdict.remaining <= burst and verdict.limit == burst
        if verdict.allowed:
            taken[who].append((now[0], count))
    for grants in taken.values():
        for first, (start, _) in enumerate(grants):
            total = 0
            for then, count in grants[first:]:
                total += count
                assert total <= burst + rate * (then - start) + 1e-6


@given(STEPS, st.floats(0.5, 20), st.integers(12, 30))
def test_who_waits_as_told_is_served(steps: list[tuple[float, int, str]], rate: float, burst: int) -> None:
    """retry_s is enough, and a refusal takes nothing."""
    now = [0.0]
    buckets = Buckets(rate, burst, lambda: now[0])
    for pause, count, who in steps:
        now[0] += pause
        verdict = buckets.take(who, count)
        if not verdict.allowed:
            assert verdict.retry_s >= 1 and verdict.headers()["retry-after"] == str(verdict.retry_s)
            now[0] += verdict.retry_s
            assert buckets.take(who, count).allowed


def test_the_table_is_bounded() -> None:
    """A crowd of askers does not grow it for ever; who is forgotten starts anew."""
    buckets = Buckets(1.0, 1, lambda: 0.0, most=10)
    for who in range(1_000):
        assert buckets.take(who).allowed
    assert len(buckets._held) == 10
    assert not buckets.take(999).allowed and buckets.take(0).allowed
