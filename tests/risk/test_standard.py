# SPDX-License-Identifier: GPL-3.0-or-later
"""Options under standard margin and the add-ons: the formulas, their bounds, and fills by brute force."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearing.core.risk import standard
from clearing.core.risk.standard import ExpiryMargin, Line, Open, expiry_margin, payoff, worst_fill
from clearing.model.ids import BUY, PPM, SELL
from clearing.model.params import StandardMargin

RULES = StandardMargin()
SPOT = 1_000

rules_st = st.builds(
    StandardMargin,
    short_im_ppm=st.integers(0, PPM),
    short_im_floor_ppm=st.integers(0, PPM),
    short_mm_ppm=st.integers(0, PPM),
    unpaired_im_ppm=st.integers(0, 2 * PPM),
    unpaired_mm_ppm=st.integers(0, 2 * PPM),
)
line_st = st.builds(
    Line,
    strike=st.integers(1, 2_000),
    is_call=st.booleans(),
    mark=st.integers(0, 400),
    size=st.integers(-30, 30),
)
lines_st = st.lists(line_st, min_size=1, max_size=5)
spots = st.integers(1, 2_000)


def call(strike: int, mark: int, size: int) -> Line:
    return Line(strike, True, mark, size)


def put(strike: int, mark: int, size: int) -> Line:
    return Line(strike, False, mark, size)


CASES = [
    # name, lines, (isolated IM, isolated MM, max-loss IM, max-loss MM), what counts (IM, MM)
    ("a long call needs its premium", [call(1_000, 40, 1)], (40, 40, 40, 40), (40, 40)),
    # At the money: 15 % x 1000 + mark. Naked: 1.2 x S, less the mark that would be kept at 0.
    ("a naked call at the money", [call(1_000, 40, -1)], (190, 130, 1_200, 1_100), (190, 130)),
    ("10 % out of the money: the floor of 13 %", [call(1_100, 15, -1)], (145, 105, 1_200, 1_100), (145, 105)),
    ("1 % out of the money: 15 % - 1 %", [call(1_010, 36, -1)], (176, 126, 1_200, 1_100), (176, 126)),
    ("in the money: OTM is nothing", [call(900, 110, -1)], (260, 200, 1_200, 1_100), (260, 200)),
    ("a short put can lose its strike", [put(100, 2, -1)], (132, 92, 98, 98), (98, 92)),
    ("ten lots", [put(1_000, 40, -10)], (1_900, 1_300, 9_600, 9_600), (1_900, 1_300)),
    # Sold the 1000 call at 40, bought the 1050 call at 20: 20 taken, at most 50 to pay.
    ("a credit spread", [call(1_000, 40, -1), call(1_050, 20, 1)], (210, 150, 30, 30), (30, 30)),
    # The other way round: 20 paid, and lost at worst.
    ("a debit spread", [call(1_000, 40, 1), call(1_050, 20, -1)], (190, 150, 20, 20), (20, 20)),
    # Only one of two calls is covered.
    (
        "a ratio spread",
        [call(1_000, 40, 1), call(1_050, 20, -2)],
        (340, 260, 1_200, 1_100),
        (340, 260),
    ),
    ("a butterfly", [call(950, 70, 1), call(1_000, 40, -2), call(1_050, 20, 1)], (470, 350, 10, 10), (10, 10)),
    ("short straddle", [call(1_000, 40, -1), put(1_000, 40, -1)], (380, 260, 920 + 1_200, 920 + 1_100), (380, 260)),
]


@pytest.mark.parametrize("name, lines, rules, counts", CASES, ids=[case[0] for case in CASES])
def test_table(name: str, lines: list[Line], rules: tuple[int, int, int, int], counts: tuple[int, int]) -> None:
    """At spot 1000: IM max(15 % - OTM, 13 %) x S + mark, MM 9 % x S + mark, or the loss at the worst point."""
    margin = expiry_margin(RULES, SPOT, lines)
    assert tuple(margin) == rules, name
    assert (margin.initial, margin.maintenance) == counts, name


def test_rounding_is_against_the_account() -> None:
    """13 % of 999 is 129.87: one lot needs 130 beside its mark, and a hundred need 12987, not 13000."""
    far = call(2_000, 1, -1)
    assert expiry_margin(RULES, 999, [far]).initial == 131
    assert expiry_margin(RULES, 999, [far._replace(size=-100)]).initial == 12_987 + 100


@given(rules=rules_st, spot=spots, lines=lines_st)
def test_maintenance_is_at_most_initial(rules: StandardMargin, spot: int, lines: list[Line]) -> None:
    """Under each rule and in what counts, whatever the parameters."""
    margin = expiry_margin(rules, spot, lines)
    assert 0 <= margin.isolated_maintenance <= margin.isolated_initial
    assert 0 <= margin.loss_maintenance <= margin.loss_initial
    assert margin.maintenance <= margin.initial


@given(lines=lines_st, spot=spots, settle=st.integers(0, 20_000))
def test_max_loss_covers_every_settlement(lines: list[Line], spot: int, settle: int) -> None:
    """Whoever holds the max-loss margin at mark can pay at any settlement price, as long as calls are covered;
    uncovered ones are good up to 120 % of spot beyond the last strike."""
    needed = expiry_margin(RULES, spot, lines).loss_initial
    value = sum(line.size * line.mark for line in lines)
    uncovered = max(0, -sum(line.size for line in lines if line.is_call))
    last = max([line.strike for line in lines if line.size], default=0)
    if uncovered:
        settle = min(settle, last + spot * 12 // 10)
    paid = sum(line.size * payoff(line, settle) for line in lines)
    assert needed - value + paid >= 0


@given(rules=rules_st, spot=spots, lines=lines_st, at=st.integers(0, 4), more=st.integers(1, 300))
def test_a_higher_mark_never_lowers_a_short_requirement(
    rules: StandardMargin, spot: int, lines: list[Line], at: int, more: int
) -> None:
    """Isolated, both requirements grow with the mark; and against equity at mark every short is worse off by
    the whole rise under either rule."""
    at %= len(lines)
    short = lines[at]._replace(size=-abs(lines[at].size))
    before_lines = [*lines[:at], short, *lines[at + 1 :]]
    after_lines = [*lines[:at], short._replace(mark=short.mark + more), *lines[at + 1 :]]
    before, after = expiry_margin(rules, spot, before_lines), expiry_margin(rules, spot, after_lines)
    assert after.isolated_initial >= before.isolated_initial
    assert after.isolated_maintenance >= before.isolated_maintenance
    lost = -short.size * more
    assert after.initial + lost >= before.initial
    assert after.maintenance + lost >= before.maintenance


@given(spot=spots, lines=lines_st, step=st.integers(0, PPM), which=st.integers(0, 4))
def test_monotone_in_the_parameters(spot: int, lines: list[Line], step: int, which: int) -> None:
    """No parameter of standard margin lowers a requirement by growing."""
    name = StandardMargin.__struct_fields__[which]
    values = {field: getattr(RULES, field) for field in StandardMargin.__struct_fields__}
    values[name] += step
    before, after = expiry_margin(RULES, spot, lines), expiry_margin(StandardMargin(**values), spot, lines)
    assert after.initial >= before.initial
    assert after.maintenance >= before.maintenance


@given(spot=spots, lines=lines_st, scale=st.integers(2, 50))
def test_splitting_a_book_never_pays(spot: int, lines: list[Line], scale: int) -> None:
    """k times the book needs at most k times the margin (rounding is the only difference)."""
    one = expiry_margin(RULES, spot, lines)
    many = expiry_margin(RULES, spot, [line._replace(size=line.size * scale) for line in lines])
    assert many.initial <= one.initial * scale <= many.initial + scale * len(lines)
    assert many.maintenance <= one.maintenance * scale <= many.maintenance + scale * len(lines)


def filled(lines: list[Line], orders: list[Open], lots: tuple[int, ...]) -> tuple[ExpiryMargin, int]:
    """Margin after these fills, and what they lost against the mark, by definition."""
    sizes = [line.size for line in lines]
    lost = 0
    for order, part in zip(orders, lots, strict=True):
        sign = 1 if order.side == BUY else -1
        sizes[order.line] += sign * part
        lost += sign * part * (order.price - lines[order.line].mark)
    after = [line._replace(size=size) for line, size in zip(lines, sizes, strict=True)]
    return expiry_margin(RULES, SPOT, after), lost


orders_st = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from((BUY, SELL)), st.integers(1, 400), st.integers(1, 12)), max_size=4
)


@settings(max_examples=300)
@given(lines=lines_st, wanted=orders_st)
def test_the_worst_fill_bounds_every_subset(lines: list[Line], wanted: list[tuple[int, int, int, int]]) -> None:
    """Brute force over whole and half fills of every order: initial margin after it and its loss against the mark
    never pass the bound. Nor is it loose: some subset attains what the isolated rule alone would need."""
    orders = [Open(at % len(lines), side, price, lots) for at, side, price, lots in wanted]
    bound = worst_fill(RULES, SPOT, lines, orders)
    isolated = 0
    for lots in product(*[(0, order.lots // 2, order.lots) for order in orders]):
        margin, lost = filled(lines, orders, lots)
        assert margin.initial + lost <= bound
        isolated = max(isolated, margin.isolated_initial + lost)
    assert bound <= isolated


@settings(max_examples=200, deadline=None)
@given(lines=lines_st, wanted=st.lists(st.tuples(st.integers(0, 4), st.integers(-30, 30), st.integers(1, 500))))
def test_the_smaller_rule_counts_although_the_other_is_not_followed_to_its_end(
    lines: list[Line], wanted: list[tuple[int, int, int]]
) -> None:
    """Max loss stops as soon as it is beyond isolated margin: that changes no result."""
    fills = [(at % len(lines), lots, lots * (price - lines[at % len(lines)].mark) * PPM) for at, lots, price in wanted]
    orders = [Open(at % len(lines), BUY if lots > 0 else SELL, price, abs(lots)) for at, lots, price in wanted if lots]
    isolated = standard._worst_isolated(RULES, SPOT, lines, fills)
    whole = standard._worst_loss(RULES, SPOT, lines, fills, 10**30)
    if orders:
        assert worst_fill(RULES, SPOT, lines, orders) == min(isolated, whole)


def test_without_orders_the_worst_fill_is_the_margin() -> None:
    lines = [call(1_000, 40, -1), call(1_050, 20, 1)]
    assert worst_fill(RULES, SPOT, lines, []) == expiry_margin(RULES, SPOT, lines).initial == 30


def test_an_order_that_pairs_does_not_help_before_it_fills() -> None:
    """Short a call, bidding for the call that would cover it: until then the naked one counts, and the premium
    is only paid once it fills."""
    lines = [call(1_000, 40, -1), call(1_050, 20, 0)]
    assert worst_fill(RULES, SPOT, lines, [Open(1, BUY, 20, 1)]) == 190 + 20
