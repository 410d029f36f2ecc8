# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate greeks`: raw Greeks of full precision, and one line with a code for every bad input."""

import json
import re

import mpmath  # type: ignore[import-untyped]
import pytest
from click.testing import CliRunner, Result
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clearing.cli.main import main

KEYS = ["price", "delta", "gamma", "vega", "theta", "rho"]
FAILURE = re.compile(r"novate: INVALID_NUMBER: --\w+ \S.+\n")


def run(forward: str, strike: str, vol: str, tau: str, kind: str, *more: str) -> Result:
    named = ["--forward", forward, "--strike", strike, "--vol", vol, "--tau", tau, "--type", kind]
    return CliRunner().invoke(main, ["greeks", *named, *more])


def numbers(*arguments: str) -> dict[str, str]:
    """The JSON of a run that succeeds."""
    shown = run(*arguments, "--json")
    assert shown.exit_code == 0, shown.output
    found: dict[str, str] = json.loads(shown.stdout)
    assert list(found) == KEYS
    return found


def exactly(forward: str, strike: str, vol: str, tau: str, kind: str, rate: str) -> dict[str, mpmath.mpf]:
    """Black-76 of the decimals themselves, 50 digits."""
    f, k, s, t, r = (mpmath.mpf(text) for text in (forward, strike, vol, tau, rate))
    root, growth = mpmath.sqrt(t), mpmath.exp(-r * t)
    d1 = mpmath.log(f / k) / (s * root) + s * root / 2
    sign = 1 if kind == "call" else -1
    near = mpmath.erfc(-sign * d1 / mpmath.sqrt(2)) / 2
    far = mpmath.erfc(-sign * (d1 - s * root) / mpmath.sqrt(2)) / 2
    price, bell = growth * sign * (f * near - k * far), growth * mpmath.npdf(d1)
    theta = r * price - f * bell * s / (2 * root)
    figures = (price, growth * sign * near, bell / (f * s * root), f * bell * root, theta, -t * price)
    return dict(zip(KEYS, figures, strict=True))


@given(
    forward=st.decimals("0.0001", "1000000", places=6), log_strike=st.floats(-4.6, 4.6),
    vol=st.decimals("0.01", "10", places=12), tau=st.floats(3.2e-8, 5), kind=st.sampled_from(["call", "put"]),
    rate=st.decimals("-0.5", "0.5", places=4),
)  # fmt: skip
@example(forward=50000, log_strike=1e-6, vol=1, tau=1 / 31_536_000, kind="call", rate=0)
@settings(max_examples=150, deadline=None)
def test_figures_are_good_to_the_last_digits(
    forward: object, log_strike: float, vol: object, tau: float, kind: str, rate: object
) -> None:
    """For any size of the forward: prices to 1e-15 F, deltas to 1e-13, the rest to 2e-15 of their scales."""
    with mpmath.workdps(50):
        f, t, s = mpmath.mpf(str(forward)), mpmath.mpf(repr(tau)), mpmath.mpf(str(vol))
        strike = mpmath.nstr(f * mpmath.exp(log_strike), 17)
        arguments = (str(forward), strike, str(vol), repr(tau), kind, str(rate))
        got = numbers(*arguments[:5], "--rate", arguments[5])
        exact = exactly(*arguments)
        growth = mpmath.exp(-mpmath.mpf(arguments[5]) * t)
        size, root = growth * (f + mpmath.mpf(strike)), mpmath.sqrt(t)
        scale = {
            "price": size / 2, "delta": 100 * growth, "gamma": 2 * growth / (f * s * root), "vega": 2 * size * root,
            "theta": 3 * size * (s / root + 1), "rho": 3 * size * t,
        }  # fmt: skip
        assert {k: got[k] for k in KEYS if abs(mpmath.mpf(got[k]) - exact[k]) > 1e-15 * scale[k]} == {}


def test_parity_survives_into_the_digits() -> None:
    """With a forward of many digits, call - put is the difference in full."""
    call, put = (numbers("123456.789012", "123456.789011", "0.65", "0.25", kind) for kind in ("call", "put"))
    with mpmath.workdps(50):
        assert abs(mpmath.mpf(call["price"]) - mpmath.mpf(put["price"]) - mpmath.mpf("0.000001")) < 1e-11
        assert abs(mpmath.mpf(call["delta"]) - mpmath.mpf(put["delta"]) - 1) < 1e-15


@pytest.mark.parametrize(
    ("kind", "forward", "price", "delta"),
    [
        ("call", "100.5", "0.5", "1"), ("put", "100.5", "0", "0"), ("call", "100", "0", "0.5"),
        ("put", "100", "0", "-0.5"), ("put", "99.25", "0.75", "-1"), ("call", "99", "0", "0"),
    ],
)  # fmt: skip
def test_expired_options_show_their_intrinsic_value(kind: str, forward: str, price: str, delta: str) -> None:
    """Exactly, and with the delta's step."""
    found = numbers(forward, "100", "0.5", "0", kind)
    assert (found["price"], found["delta"], found["gamma"], found["vega"]) == (price, delta, "0", "0")


def test_text_names_each_figure_and_its_unit() -> None:
    """Without --json: a line for each figure, with what it is the derivative of."""
    shown = run("50000", "55000", "0.65", "0.25", "call")
    assert shown.exit_code == 0
    assert [line.split()[0] for line in shown.stdout.splitlines()] == KEYS
    assert "d2V/dF2" in shown.stdout


@pytest.mark.parametrize("bad", ["", "x", "nan", "inf", "-1", "1e99", "0x10", "1_000", "1e", "--", "９", "1" * 5000])
@pytest.mark.parametrize("place", range(4))
def test_bad_numbers_are_refused_in_one_line(bad: str, place: int) -> None:
    """Exit 2 with INVALID_NUMBER, naming the option, for each argument; nothing on stdout."""
    arguments = ["100", "100", "0.5", "1"]
    arguments[place] = bad
    shown = run(*arguments, "call", "--json")
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert FAILURE.fullmatch(shown.stderr), shown.stderr
    assert len(shown.stderr) < 300


def test_the_forward_and_strike_must_be_positive_and_the_rate_sane() -> None:
    """Zero is no price, and a rate may not discount beyond what a double holds."""
    for shown in (
        run("0", "1", "1", "1", "put"),
        run("1", "0", "1", "1", "put"),
        run("1", "1", "1", "1", "put", "--rate", "101"),
        run("1", "1", "1", "1000", "put", "--rate", "-1"),
        run("1", "1", "1", "1", "put", "--rate", "x"),
    ):
        assert shown.exit_code == 2
        assert FAILURE.fullmatch(shown.stderr), shown.stderr


@pytest.mark.parametrize("kind", ["", "straddle", "CALL "])
def test_the_type_is_call_or_put(kind: str) -> None:
    """Anything else is a usage error with the choices."""
    shown = run("1", "1", "1", "1", kind)
    assert shown.exit_code == 2
    assert "'call', 'put'" in shown.stderr
