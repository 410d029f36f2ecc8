# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate greeks`: Black-76 price and Greeks of one option, from the kernel that margins are made of.

Rules:
- Inputs are decimals. The intrinsic value and ln(strike / forward) are computed of the decimals, since near
  expiry the Greeks magnify what rounding a price to a double changes; everything else of doubles.
- Figures are raw derivatives (per 1.00 of vol and rate, per year), not the quantised ones of the reducer.
"""

import re
from decimal import Decimal, localcontext
from typing import NoReturn

import click

from clearing.cli.options import json_option
from clearing.cli.output import USAGE, emit, fail, reports_errors

_NUMBER = re.compile(r"[+-]?(\d{1,40}\.?\d{0,40}|\.\d{1,40})([eE][+-]?\d{1,3})?", re.ASCII)
# name -> (smallest, largest, may be zero); within them nothing overflows a double.
_BOUNDS = {
    "--forward": ("1e-12", "1e15", False),
    "--strike": ("1e-12", "1e15", False),
    "--vol": ("1e-12", "1e4", True),
    "--tau": ("1e-15", "1e4", True),
}
_MAX_RATE = Decimal(100)
_MAX_GROWTH = Decimal(500)
_UNITS = {
    "price": "discounted, in the forward's currency",
    "delta": "dV/dF",
    "gamma": "d2V/dF2",
    "vega": "dV/dvol, per 1.00 of vol",
    "theta": "-dV/dtau, per year",
    "rho": "dV/drate at a fixed forward, per 1.00 of rate",
}


@click.command()
@click.option("--forward", required=True, metavar="F", help="Forward price of the expiry, > 0.")
@click.option("--strike", required=True, metavar="K", help="Strike price, > 0.")
@click.option("--vol", required=True, metavar="S", help="Volatility per year, 0.65 for 65 %.")
@click.option("--tau", required=True, metavar="YEARS", help="Time to expiry in years of 365 days.")
@click.option("--type", "kind", required=True, type=click.Choice(["call", "put"]), help="Which option.")
@click.option("--rate", default="0", metavar="R", show_default=True, help="Interest rate per year, continuous.")
@json_option
@reports_errors
def greeks(forward: str, strike: str, vol: str, tau: str, kind: str, rate: str, as_json: bool) -> None:
    """Price a European option on a forward and show its Greeks.

    Raw units: gamma = d2V/dF2, vega per 1.00 of vol, theta = -dV/dtau per year, rho per 1.00 of rate with the
    forward held fixed. Without vol or time left the price is the intrinsic value, and delta at the money half.
    """
    price, exercise = _positive(forward, "--forward"), _positive(strike, "--strike")
    deviation, years = _positive(vol, "--vol"), _positive(tau, "--tau")
    yearly = _number(rate, "--rate")
    if abs(yearly) > _MAX_RATE or abs(yearly * years) > _MAX_GROWTH:
        _refuse("--rate", rate, f"must lie within +-{_MAX_RATE}, and its product with --tau within +-{_MAX_GROWTH}")
    figures = _figures(price, exercise, deviation, years, kind == "call", yearly)
    width = max(map(len, figures.values()))
    lines = [f"{name.ljust(5)}  {text.rjust(width)}  {_UNITS[name]}" for name, text in figures.items()]
    emit(figures, as_json, lines)


def _figures(
    forward: Decimal, strike: Decimal, vol: Decimal, tau: Decimal, is_call: bool, rate: Decimal
) -> dict[str, str]:
    from clearing.core.risk.kernel import raw_greeks

    with localcontext(prec=120):
        f, k = float(forward), float(strike)
        raw = raw_greeks(f, k, float(vol), float(tau), is_call, float(rate), float((strike / forward).ln()))
        growth = Decimal(raw.discount)
        intrinsic = max(Decimal(0), forward - strike if is_call else strike - forward)
        # The kernel's value is of the option out of the money (at the money: the call).
        step = 0
        if is_call and k < f:
            step = 1
        elif not is_call and k >= f:
            step = -1
        exact = {
            "price": Decimal(raw.otm) + growth * intrinsic,
            "delta": Decimal(raw.otm_delta) + growth * step,
            "gamma": Decimal(raw.gamma),
            "vega": Decimal(raw.vega),
            "theta": Decimal(raw.theta),
            "rho": Decimal(raw.rho),
        }
        # Adding zero turns -0 into 0.
        return {name: _text(figure + 0) for name, figure in exact.items()}


def _text(figure: Decimal) -> str:
    """17 significant digits, which tell doubles apart, without trailing zeros."""
    text = format(figure, ".17g")
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def _number(text: str, name: str) -> Decimal:
    if not _NUMBER.fullmatch(text):
        _refuse(name, text, "is not a decimal number such as 0.65")
    return Decimal(text)


def _positive(text: str, name: str) -> Decimal:
    smallest, largest, may_be_zero = _BOUNDS[name]
    number = _number(text, name)
    if number == 0 and may_be_zero:
        return Decimal(0)
    if not Decimal(smallest) <= number <= Decimal(largest):
        _refuse(name, text, f"must lie between {smallest} and {largest}{' or be 0' if may_be_zero else ''}")
    return number


def _refuse(name: str, text: str, reason: str) -> NoReturn:
    fail("INVALID_NUMBER", f"{name} {text[:40]!r} {reason}", USAGE)
