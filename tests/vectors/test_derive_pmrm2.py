# SPDX-License-Identifier: GPL-3.0-or-later
"""Preset B reproduces portfolios that Derive published for its portfolio margin 2.

Every *.json of $NOVATE_DERIVE_CASES is one portfolio with its market, its parameters and the expected result.
The numbers become presets, columns and positions of ours, with so fine a lot and atom that nothing is rounded
that matters, and run through `build` and `portfolio_margin` like any account. Each scenario P&L, each part of
the requirement, MM and IM agree to 1e-6 x max(|expected|, 1 USD). Presets of cases are not validated: some
cases set a parameter beyond what we would let govern.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Decimal, localcontext
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from clearing.core.risk.array import Column, build
from clearing.core.risk.market import Expiry, Market
from clearing.core.risk.portfolio import CollateralLine, PortfolioMargin, portfolio_margin
from clearing.model import ids
from clearing.model.ids import UNIT
from clearing.model.presets import (
    PRESET_B,
    SKEW_ABS,
    SKEW_LINEAR,
    VOL_DOWN,
    VOL_SAME,
    VOL_UP,
    Basis,
    Contingency,
    Preset,
    Scenario,
    SkewShock,
    StaticDiscount,
    VolShock,
)

_DEFAULT = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "derive-pmrm2"
_FOLDER = Path(os.environ.get("NOVATE_DERIVE_CASES") or _DEFAULT)
_CASES = sorted(_FOLDER.glob("*.json")) if _FOLDER.is_dir() else []

_TOLERANCE = Decimal("1e-6")
_NOW_US = 10**15
_PERP = 1
_DIRECTIONS = {
    "NONE": VOL_SAME,
    "UP": VOL_UP,
    "DOWN": VOL_DOWN,
    "LINEAR": SKEW_LINEAR,
    "ABS": SKEW_ABS,
    "0": VOL_SAME,
    "1": VOL_UP,
    "-1": VOL_DOWN,
}


def _number(value: object) -> Decimal:
    """A JSON number or numeric text, exactly as written."""
    return Decimal(str(value))


def _unit(value: object) -> int:
    return int((_number(value) * UNIT).to_integral_value(ROUND_HALF_EVEN))


def _seconds(value: object) -> int:
    return int((_number(value) * 1_000_000).to_integral_value(ROUND_HALF_EVEN))


def _direction(value: object) -> int:
    text = str(value).upper()
    return _DIRECTIONS[text.rsplit(".", 1)[-1]]


def _preset(parameters: dict[str, dict[str, Any]], skews: Iterable[str]) -> Preset:
    vol, skew = parameters["VolShock"], parameters["SkewShock"]
    margin, basis, other = parameters["Margin"], parameters["BasisContingency"], parameters["OtherContingency"]
    listed: list[Any] = parameters["Scenarios"]  # type: ignore[assignment]
    moves = [
        Scenario(_unit(move["SpotShock"]) - UNIT, _direction(move["VolShockDirection"]), _unit(move["DampeningFactor"]))
        for move in listed
    ]
    twists = {move.vol: move for move in moves if move.vol >= SKEW_LINEAR}
    ordered = [move for move in moves if move.vol < SKEW_LINEAR]
    ordered += [twists.get(_direction(name), Scenario(0, _direction(name))) for name in skews]
    return msgspec.structs.replace(
        PRESET_B,
        scenarios=tuple(ordered),
        vol=VolShock(
            _unit(vol["VOLRANGEUP"]),
            _unit(vol["VOLRANGEDOWN"]),
            _unit(vol["MIN_VOL_EVAL_SHOCKED"]),
            _unit(vol["SHORTTERMPOWER"]),
            _unit(vol["LONGTERMPOWER"]),
            _seconds(_number(vol["DTE_FLOOR"]) * 86_400),
        ),
        skew=SkewShock(
            *(_unit(skew[name]) for name in ("LINEAR_SCALE_CAP", "LINEAR_CBASE", "ABS_SCALE_CAP", "ABS_CBASE")),
            *(_unit(skew[name]) for name in ("MIN_K_STAR", "MIN_WIDTH_SCALE", "VOL_PARAM_STATIC", "VOL_PARAM_SCALE")),
        ),
        discount=StaticDiscount(
            _unit(margin["BASE_STATIC_DISCOUNT"]),
            _unit(margin["LONG_RATE_MULTSCALE"]),
            _unit(margin["LONG_RATE_ADDSCALE"]),
            _unit(margin["BASE_STATIC_DISCOUNT_NEG"]),
            _unit(margin["SHORT_RATE_MULTSCALE"]),
            _unit(margin["SHORT_RATE_ADDSCALE"]),
        ),
        basis=Basis(
            _unit(basis["SCENARIO_SPOT_UP"]) - UNIT,
            _unit(basis["SCENARIO_SPOT_DOWN"]) - UNIT,
            _unit(basis["BASIS_CONT_ADD_FACTOR"]),
            _unit(basis["BASIS_CONT_MULT_FACTOR"]),
        ),
        contingency=Contingency(
            *(_unit(other[name]) for name in ("MM_PERP_PERCENT", "IM_PERP_PERCENT")),
            *(_unit(other[name]) for name in ("MM_OPTION_PERCENT", "IM_OPTION_PERCENT")),
            *(_unit(other[name]) for name in ("CONF_THRESHOLD", "CONF_MARGIN")),
            *(_unit(other[name]) for name in ("PEG_LOSS_THRESHOLD", "PEG_LOSS_FACTOR")),
        ),
        mm_factor=_unit(margin["MM_LOSS_FACTOR"]),
        im_factor=_unit(margin["IM_LOSS_FACTOR"]),
    )


class _Scale(NamedTuple):
    """Powers of ten: a price of 1 USD is 10^price atoms per lot, one contract 10^size lots."""

    price: int
    size: int

    def atoms_per_lot(self, usd: object) -> int:
        return int((_number(usd) * Decimal(10) ** self.price).to_integral_value(ROUND_HALF_EVEN))

    def lots(self, contracts: object) -> int:
        return int(_number(contracts) * 10**self.size)

    def atoms(self, usd: Decimal) -> int:
        return int((usd * Decimal(10) ** (self.price + self.size)).to_integral_value(ROUND_FLOOR))

    def usd(self, atoms: int) -> Decimal:
        return Decimal(atoms) * Decimal(10) ** -(self.price + self.size)


def _scale(scenario: dict[str, Any], preset: Preset) -> _Scale:
    """The finest price that leaves a shocked, undamped value below 2^53, and lots for every decimal."""
    rise = max(UNIT, *(UNIT + move.spot for move in (*preset.scenarios, Scenario(preset.basis.up, VOL_SAME))))
    damp = max(UNIT, *(move.damp for move in preset.scenarios))
    prices = [scenario["SpotPrice"], scenario["PerpPrice"], *(option["Strike"] for option in scenario["Options"])]
    prices += [feed["Forward"] for feed in scenario["OptionFeeds"]]
    largest = max(Decimal(1), *(abs(_number(price)) for price in prices)) * rise * damp / UNIT / UNIT
    sizes = [_number(scenario["NumPerps"]), *(_number(option["Amount"]) for option in scenario["Options"])]
    decimals = max(-int(size.normalize().as_tuple().exponent) for size in sizes)
    return _Scale(15 - largest.adjusted() - 1, max(0, decimals))


def _confidence(value: object) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return min((_unit(entry) for entry in value), default=UNIT)
    return _unit(value)


def _market(scenario: dict[str, Any], scale: _Scale) -> Market:
    surfaces: dict[int, dict[int, int]] = {}
    for option in scenario["Options"]:
        surface = surfaces.setdefault(_seconds(option["Expiry"]), {})
        vol = _unit(option["MarkVol"])
        assert surface.setdefault(scale.atoms_per_lot(option["Strike"]), vol) == vol
    expiries = {}
    for feed in scenario["OptionFeeds"]:
        until = _seconds(feed["FeedExpiry"])
        surface = surfaces.get(until, {})
        expiries[_NOW_US + until] = Expiry(
            _NOW_US + until,
            scale.atoms_per_lot(feed["Forward"]),
            _unit(feed["Rate"]),
            _confidence(feed["ForwardConfidence"]),
            _confidence(feed["RateConfidence"]),
            _confidence(feed["OptionVolConfidences"]),
            tuple(sorted(surface)),
            tuple(surface[strike] for strike in sorted(surface)),
        )
    return Market(
        "X",
        scale.atoms_per_lot(scenario["SpotPrice"]),
        _confidence(scenario["SpotConfidence"]),
        _confidence(scenario["PerpConfidence"]),
        _NOW_US,
        expiries,
    )


def _columns(scenario: dict[str, Any], scale: _Scale, market: Market) -> tuple[list[Column], list[tuple[int, int]]]:
    columns: list[Column] = []
    positions: list[tuple[int, int]] = []
    if _number(scenario["NumPerps"]):
        columns.append(Column(_PERP, ids.PERPETUAL, 0, 0, False, scale.atoms_per_lot(scenario["PerpPrice"])))
        positions.append((_PERP, scale.lots(scenario["NumPerps"])))
    known: dict[tuple[int, int, bool], int] = {}
    for option in scenario["Options"]:
        key = (
            _NOW_US + _seconds(option["Expiry"]),
            scale.atoms_per_lot(option["Strike"]),
            bool(_number(int(option["IsCall"]))),
        )
        if key not in known:
            known[key] = _PERP + 1 + len(known)
            columns.append(Column(known[key], ids.OPTION, *key, market.option_value(*key)))
        positions.append((known[key], scale.lots(option["Amount"])))
    return columns, positions


def _collateral(scenario: dict[str, Any], scale: _Scale) -> list[CollateralLine]:
    stable = _number(scenario["StablePrice"])
    return [
        CollateralLine(
            scale.atoms(_number(line["Amount"]) * _number(line["Price"]) / stable),
            _unit(line["MMHaircut"]),
            _unit(line["IMHaircut"]),
            _confidence(line["Confidence"]),
            bool(line["IsRiskCancelling"]),
        )
        for line in scenario["Collaterals"]
    ]


class _Outcome(NamedTuple):
    preset: Preset
    scale: _Scale
    margin: PortfolioMargin
    equity: int


def _run(case: dict[str, Any]) -> _Outcome:
    scenario = case["Scenario"]
    preset = _preset(case["Parameters"], [name for name, *_ in case["Result"]["skew_losses"]])
    scale = _scale(scenario, preset)
    market = _market(scenario, scale)
    columns, positions = _columns(scenario, scale, market)
    array = build(preset, market, columns)
    collateral = _collateral(scenario, scale)
    margin = portfolio_margin(preset, array, market, positions, collateral, _unit(scenario["StablePrice"]))
    marks = {column.instrument_id: column.mark for column in columns}
    equity = sum(lots * marks[instrument] for instrument, lots in positions if instrument != _PERP)
    equity += sum(line.value_atoms for line in collateral)
    cash = _number(scenario["Cash"]) + _number(scenario["UnrealisedPerpPNL"])
    if _number(scenario["NumPerps"]):
        cash += _number(scenario["UnrealisedFunding"])
    return _Outcome(preset, scale, margin, equity + scale.atoms(cash))


def _expected_pnl(result: dict[str, Any], preset: Preset) -> list[Decimal]:
    """Published P&L in the order of the preset's scenarios, matched by what the scenario does."""
    published: dict[tuple[Decimal, int], list[Decimal]] = {}
    for move, vol, pnl in [*result["reg_losses"], *result["tail_losses"]]:
        published.setdefault((round(_number(move), 9), _direction(vol)), []).append(_number(pnl))
    for kind, pnl in result["skew_losses"]:
        published.setdefault((Decimal(0), _direction(kind)), []).append(_number(pnl))
    out = [published[(round(Decimal(move.spot) / UNIT, 9), move.vol)].pop(0) for move in preset.scenarios]
    assert not any(published.values()), "a published scenario is not among the parameters"
    return out


def _assert_close(name: str, found: Decimal, expected: object) -> Decimal:
    """Returns the error in parts of what is allowed."""
    wanted = _number(expected)
    error = abs(found - wanted) / max(abs(wanted), Decimal(1))
    assert error <= _TOLERANCE, f"{name}: {found} instead of {wanted} (error {error:.3g})"
    return error


@pytest.mark.skipif(not _CASES, reason=f"no Derive cases in {_FOLDER}; set NOVATE_DERIVE_CASES")
@pytest.mark.parametrize("path", _CASES, ids=lambda path: path.stem)
def test_derive_portfolio(path: Path) -> None:
    case = json.loads(path.read_text(), parse_float=Decimal)
    with localcontext() as context:
        context.prec = 100
        outcome = _run(case)
        result, usd, margin = case["Result"], outcome.scale.usd, outcome.margin
        expected = _expected_pnl(result, outcome.preset)
        errors = [
            _assert_close(f"scenario {index}", usd(pnl), wanted)
            for index, (pnl, wanted) in enumerate(zip(margin.pnl, expected, strict=True))
        ]
        parts = {
            "ForwardContingency": margin.basis,
            "MMPerpCont": -margin.charges.perp_mm,
            "IMPerpCont": -margin.charges.perp_im,
            "MMOptionCont": -margin.charges.option_mm,
            "IMOptionCont": -margin.charges.option_im,
            "MMBaseCont": -margin.charges.collateral_mm,
            "IMBaseCont": -margin.charges.collateral_im,
            "OracleCont": -margin.charges.confidence_im,
            "MM": outcome.equity - margin.maintenance,
            "IM": outcome.equity - margin.initial,
        }
        for name, atoms in parts.items():
            if name in result:
                errors.append(_assert_close(name, usd(atoms), result[name]))
        worst = min(min(expected), _number(result["ForwardContingency"]))
        errors.append(_assert_close("W", usd(-margin.loss), worst))
        print(f"largest relative error {max(errors):.2g}")
