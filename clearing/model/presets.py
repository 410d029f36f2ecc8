# SPDX-License-Identifier: GPL-3.0-or-later
"""Portfolio-margin presets: the scenarios and every number of the formula, as governed data.

Rules:
- A preset is data. No code asks which preset it has; what a preset does not use has a neutral value
  (static discount of 1, no skew scenario), and the same lines run.
- Shocks, factors and percentages are ints of 1e-12 (`UNIT`), so that published decimals fit without loss.
- `validate_preset` states the hard bounds. They imply MM <= IM and that the worst fill subset of open
  orders is never judged too mildly: a static discount may only take value away.
"""

from typing import Final

import msgspec

from clearing.model.errors import NovateError
from clearing.model.ids import DAY_US, UNIT

# How a scenario moves volatility.
VOL_SAME: Final = 0
VOL_UP: Final = 1
VOL_DOWN: Final = 2
SKEW_LINEAR: Final = 3
SKEW_ABS: Final = 4

MAX_SCENARIOS: Final = 64
# 1000 % a year.
_MAX_RATE: Final = 10 * UNIT


class _Data(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    pass


class Scenario(_Data, frozen=True):
    """`spot`: relative move (-45_000_000_000 is -4.5 %); `vol`: VOL_* or SKEW_*; `damp` scales the P&L."""

    spot: int
    vol: int
    damp: int = UNIT


class VolShock(_Data, frozen=True):
    """Vol x (1 + up x m) at least `min_vol`, or x max(0, 1 - down x m), with m = (30 d / max(t, floor))^p;
    p = `short_power` up to 30 days to expiry and `long_power` beyond."""

    up: int = 500_000_000_000
    down: int = 300_000_000_000
    min_vol: int = 400_000_000_000
    short_power: int = 300_000_000_000
    long_power: int = 130_000_000_000
    floor_us: int = DAY_US


class SkewShock(_Data, frozen=True):
    """With q = sqrt(years): cap = base x q + cap, k* = max(min_k_star, q x width x (vol_static + q x vol_scale));
    vol x (1 + k x cap / k*), no further from 1 than the cap; k = ln(K/F) (linear) or its size (abs)."""

    linear_cap: int = 0
    linear_base: int = 0
    abs_cap: int = 0
    abs_base: int = 0
    min_k_star: int = 10_000_000_000
    width: int = 0
    vol_static: int = 0
    vol_scale: int = 0


class StaticDiscount(_Data, frozen=True):
    """Factor on an expiry's shocked option value: a positive one x long_base x e^(-t(rate x long_scale + long_add)),
    a negative one x min(1 / discount, short_base x e^(t(rate x short_scale + short_add)))."""

    long_base: int = UNIT
    long_scale: int = 0
    long_add: int = 0
    short_base: int = UNIT
    short_scale: int = 0
    short_add: int = 0


class Basis(_Data, frozen=True):
    """Per expiry: (add + scale x years) x min(0, P&L at spot `up`, P&L at spot `down`), vol unmoved."""

    up: int = 45_000_000_000
    down: int = -45_000_000_000
    add: int = 500_000_000_000
    scale: int = 2 * UNIT


class Contingency(_Data, frozen=True):
    """Charges beside the scenarios, in parts of notional at spot: linear contracts (`perp`), net naked short
    options, doubtful oracle data (below `confidence_threshold`), and what a depeg adds to the IM factor.
    The `im_` numbers come on top of the `mm_` ones."""

    mm_perp: int = 30_000_000_000
    im_perp: int = 10_000_000_000
    mm_option: int = 3_000_000_000
    im_option: int = 2_000_000_000
    confidence_threshold: int = 550_000_000_000
    confidence_margin: int = UNIT
    peg_threshold: int = 990_000_000_000
    peg_factor: int = 4 * UNIT


class Preset(_Data, frozen=True):
    """One portfolio margin: MM = mm_factor x W + contingencies, IM = im_factor x W + more contingencies,
    where W is the worst loss over the scenarios and the basis."""

    name: str
    scenarios: tuple[Scenario, ...]
    vol: VolShock = VolShock()
    skew: SkewShock = SkewShock()
    discount: StaticDiscount = StaticDiscount()
    basis: Basis = Basis()
    contingency: Contingency = Contingency()
    mm_factor: int = 800_000_000_000
    im_factor: int = UNIT


_TENTH_PERCENT = UNIT // 1_000
# Far moves, each with the damping that keeps a hedged book's far wing from deciding alone.
_TAILS: Final = tuple(
    Scenario(percent * 10 * _TENTH_PERCENT, VOL_UP, damp)
    for percent, damp in (
        (-66, 210_000_000_000),
        (-33, 420_000_000_000),
        (50, 277_200_000_000),
        (100, 138_600_000_000),
        (200, 69_300_000_000),
        (300, 46_200_000_000),
        (400, 34_650_000_000),
        (500, 27_720_000_000),
    )
)


def _grid(*moves: int) -> tuple[Scenario, ...]:
    """Every move of spot (in tenths of a percent) at each of the three vols."""
    return tuple(Scenario(move * _TENTH_PERCENT, vol) for move in moves for vol in (VOL_UP, VOL_SAME, VOL_DOWN))


# 35 scenarios after Deribit. Linear: what two books lose apart bounds what they lose together, to the atom.
PRESET_A: Final = Preset(name="A", scenarios=_grid(0, 40, -40, 80, -80, 120, -120, 160, -160) + _TAILS)

# 33 scenarios after Derive's portfolio margin 2: static discount and two twists of the skew.
PRESET_B: Final = Preset(
    name="B",
    scenarios=(
        *_grid(0, 45, -45, 90, -90, 135, -135),
        Scenario(180 * _TENTH_PERCENT, VOL_UP),
        Scenario(-180 * _TENTH_PERCENT, VOL_UP),
        *_TAILS,
        Scenario(0, SKEW_LINEAR),
        Scenario(0, SKEW_ABS),
    ),
    skew=SkewShock(
        linear_cap=150_000_000_000,
        linear_base=-50_000_000_000,
        abs_cap=150_000_000_000,
        abs_base=-50_000_000_000,
        min_k_star=10_000_000_000,
        width=4 * UNIT,
        vol_static=600_000_000_000,
        vol_scale=-100_000_000_000,
    ),
    discount=StaticDiscount(
        long_base=950_000_000_000,
        long_scale=UNIT,
        long_add=80_000_000_000,
        short_base=1_040_000_000_000,
        short_scale=500_000_000_000,
        short_add=80_000_000_000,
    ),
)


def _require(preset: Preset, ok: bool, what: str) -> None:
    if not ok:
        raise NovateError("INVALID_PARAMS", f"preset {preset.name!r}: {what}; mend the parameters")


def validate_preset(preset: Preset) -> None:
    """Hard bounds. Raises `NovateError` INVALID_PARAMS naming the first one broken."""
    _require(preset, preset.name != "" and preset.name.isascii(), "it has an ASCII name")
    _require(preset, 1 <= len(preset.scenarios) <= MAX_SCENARIOS, f"it has 1..{MAX_SCENARIOS} scenarios")
    for move in preset.scenarios:
        _require(preset, -UNIT < move.spot <= 10 * UNIT, "spot moves are above -100 % and at most +1000 %")
        _require(preset, VOL_SAME <= move.vol <= SKEW_ABS, "vol is one of the five directions")
        _require(preset, 0 < move.damp <= 10 * UNIT, "damping is positive and at most 10")
        _require(preset, move.vol < SKEW_LINEAR or move.spot == 0, "a twist of the skew leaves spot alone")
    vol = preset.vol
    _require(preset, 0 <= vol.up <= 10 * UNIT and 0 <= vol.down <= 10 * UNIT, "vol ranges are 0..10")
    _require(preset, 0 <= vol.min_vol <= 10 * UNIT, "min_vol is 0..1000 %")
    _require(preset, 0 <= vol.short_power <= UNIT and 0 <= vol.long_power <= UNIT, "vol powers are 0..1")
    _require(preset, 3_600_000_000 <= vol.floor_us <= 400 * DAY_US, "the floor of time is 1 hour..400 days")
    skew = preset.skew
    for number in (skew.linear_cap, skew.abs_cap, skew.width, skew.vol_static):
        _require(preset, 0 <= number <= 10 * UNIT, "skew caps, width and vol_static are 0..10")
    for number in (skew.linear_base, skew.abs_base, skew.vol_scale):
        _require(preset, -20 * UNIT <= number <= 20 * UNIT, "skew slopes are -20..20")
    _require(preset, UNIT // 1_000 <= skew.min_k_star <= 10 * UNIT, "min_k_star is 0.001..10")
    _validate_charges(preset)


def _validate_charges(preset: Preset) -> None:
    cut = preset.discount
    _require(preset, 0 <= cut.long_base <= UNIT <= cut.short_base <= 10 * UNIT, "long_base <= 1 <= short_base <= 10")
    for number in (cut.long_scale, cut.long_add, cut.short_scale, cut.short_add):
        _require(preset, 0 <= number <= _MAX_RATE, "discount rates are 0..10")
    basis = preset.basis
    _require(preset, -UNIT < basis.down < 0 < basis.up <= 10 * UNIT, "basis moves straddle 0")
    _require(preset, 0 <= basis.add <= 10 * UNIT and 0 <= basis.scale <= 10 * UNIT, "basis factors are 0..10")
    extra = preset.contingency
    for number in (extra.mm_perp, extra.im_perp, extra.mm_option, extra.im_option, extra.confidence_threshold):
        _require(preset, 0 <= number <= UNIT, "contingencies and the confidence threshold are 0..100 %")
    _require(preset, 0 <= extra.confidence_margin <= 10 * UNIT, "confidence_margin is 0..10")
    _require(preset, 0 <= extra.peg_threshold <= UNIT, "peg_threshold is at most 1")
    _require(preset, 0 <= extra.peg_factor <= 100 * UNIT, "peg_factor is 0..100")
    _require(preset, 0 < preset.mm_factor <= preset.im_factor <= 10 * UNIT, "0 < mm_factor <= im_factor <= 10")
