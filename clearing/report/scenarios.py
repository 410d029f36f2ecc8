# SPDX-License-Identifier: GPL-3.0-or-later
"""Named stress scenarios as data: paths of prices, vols, rates and the settlement asset's peg.

Rules:
- A leg is a moment of the path: ratios (ppm) to the prices at the start, by class of underlying; between legs
  prices move geometrically. `hold` scenarios change more than prices; `clearing.report.stress` says how.
- Classes: btc, eth, alt (everything else that trades), staked (synthetic assets with a redemption ratio:
  a ratio on top of their reference's class), stable, settlement (the vault's settlement asset, quoted in USD).
- Historical legs are rounded moves of the large spot venues, in the words of `source`. They are severity,
  not a record: what each venue printed differed.
"""

from typing import Final

from clearing.core.state import State
from clearing.model.errors import NovateError
from clearing.model.ids import PPM
from clearing.report.provenance import Figures

BTC, ETH, ALT, STAKED, STABLE, SETTLEMENT = "btc", "eth", "alt", "staked", "stable", "settlement"
_BTC_SYMBOLS = ("BTC", "XBT", "WBTC", "CBBTC", "TBTC")
_ETH_SYMBOLS = ("ETH", "WETH")
_STABLE_SYMBOLS = ("USDT", "USDC", "DAI", "USDE", "FDUSD", "PYUSD", "TUSD", "USDS", "EURC")

# What a scenario does beside moving prices.
FUNDING: Final = "funding"
DEFAULT: Final = "default"
SILENT: Final = "silent"
LANE: Final = "lane"
HALT: Final = "halt"


class Leg(Figures, frozen=True, kw_only=True):
    """A moment: minutes from the start; ppm ratios to the start of spot by class, of vols, and of forwards
    beyond spot; `rate` is added (1e-12 a year). `jump`: nothing is published on the way to here."""

    minutes: int
    btc: int = PPM
    eth: int = PPM
    alt: int = PPM
    staked: int = PPM
    stable: int = PPM
    settlement: int = PPM
    vol: int = PPM
    forward: int = PPM
    rate: int = 0
    jump: bool = False


class Scenario(Figures, frozen=True, kw_only=True):
    """A named path. `steps`: how many price updates it takes; `hold`: one of the module's words, or ""."""

    name: str
    title: str
    source: str
    legs: tuple[Leg, ...]
    steps: int = 24
    hold: str = ""


def classes(state: State) -> dict[int, str]:
    """Class of every underlying by id."""
    synthetic = {asset.under.id for asset in state.assets if asset.reference is not None and asset.under is not None}
    settlement = state.assets[0].under
    found = {}
    for under in state.underlyings.values():
        symbol = under.spec.symbol.upper()
        if under is settlement:
            found[under.id] = SETTLEMENT
        elif under.id in synthetic:
            found[under.id] = STAKED
        elif symbol in _STABLE_SYMBOLS:
            found[under.id] = STABLE
        elif symbol in _BTC_SYMBOLS:
            found[under.id] = BTC
        else:
            found[under.id] = ETH if symbol in _ETH_SYMBOLS else ALT
    return found


def _percent(*, minutes: int, vol: int = 100, jump: bool = False, **moves: int) -> Leg:
    """A leg from moves in percent (-30 is -30 %); `vol` in percent of the start's."""
    ratios = {name: (100 + move) * PPM // 100 for name, move in moves.items()}
    return Leg(minutes=minutes, vol=vol * PPM // 100, jump=jump, **ratios)


def uniform(move_ppm: int, vol: int = PPM, minutes: int = 10) -> Scenario:
    """All traded prices move by one ratio within `minutes`, one update every half minute."""
    ratio = PPM + move_ppm
    leg = Leg(minutes=minutes, btc=ratio, eth=ratio, alt=ratio, vol=vol)
    text = f"{move_ppm / 10_000:+g} %"
    return Scenario(
        name=f"uniform{move_ppm:+d}ppm",
        title=f"All prices {text}",
        source="Hypothetical: everything moves together, nothing recovers.",
        legs=(leg,),
        steps=2 * minutes,
    )


def _shock(move: int) -> Scenario:
    base = uniform(move * PPM // 100, 2 * PPM)
    return Scenario(
        name=f"{'up' if move > 0 else 'down'}-{abs(move)}",
        title=f"All prices {move:+d} %, vols doubled",
        source="Hypothetical: one move of everything within ten minutes, implied vols twice as high at its end.",
        legs=base.legs,
        steps=base.steps,
    )


SCENARIOS: Final[tuple[Scenario, ...]] = (
    Scenario(
        name="2020-03-12",
        title="Black Thursday",
        source=(
            "12-13 March 2020: bitcoin fell from about 7,900 to 4,900 dollars within a morning and touched 3,900 "
            "in the night, ether from about 195 to below 95; blocks were full, keepers failed, implied vols tripled."
        ),
        legs=(
            _percent(minutes=60, btc=-10, eth=-12, alt=-12, vol=150),
            _percent(minutes=150, btc=-27, eth=-32, alt=-35, vol=220),
            _percent(minutes=840, btc=-51, eth=-53, alt=-58, vol=320),
            _percent(minutes=960, btc=-38, eth=-40, alt=-45, vol=280),
        ),
        steps=48,
    ),
    Scenario(
        name="2021-05-19",
        title="May 2021 deleveraging",
        source=(
            "19 May 2021: bitcoin fell from about 43,000 to 30,000 dollars in some seven hours and ether from 3,400 "
            "to 1,850, while several venues were out of reach; half of the fall was made up the same day."
        ),
        legs=(
            _percent(minutes=240, btc=-12, eth=-18, alt=-20, vol=140),
            _percent(minutes=420, btc=-30, eth=-45, alt=-50, vol=230),
            _percent(minutes=600, btc=-14, eth=-27, alt=-32, vol=180),
        ),
        steps=40,
    ),
    Scenario(
        name="2022-05-luna",
        title="Terra and LUNA",
        source=(
            "9-12 May 2022: TerraUSD lost its peg and LUNA all of its value; bitcoin fell from about 34,000 to 26,000 "
            "dollars, ether from 2,500 to 1,750, the larger alts by half; USDT traded at 0.95 for some hours."
        ),
        legs=(
            _percent(minutes=1_440, btc=-10, eth=-9, alt=-20, vol=130),
            _percent(minutes=4_200, btc=-24, eth=-30, alt=-55, stable=-5, staked=-3, vol=180),
            _percent(minutes=4_560, btc=-15, eth=-18, alt=-42, stable=-1, staked=-2, vol=150),
        ),
        steps=48,
    ),
    Scenario(
        name="2022-06-steth",
        title="stETH discount",
        source=(
            "10-18 June 2022: ether fell from about 1,790 to below 900 dollars and bitcoin from 30,000 to 17,600, "
            "while lenders sold staked ether, which traded about 6 to 7 % below ether."
        ),
        legs=(
            _percent(minutes=4_320, btc=-25, eth=-33, alt=-35, staked=-6, vol=150),
            _percent(minutes=11_520, btc=-41, eth=-50, alt=-50, staked=-7, vol=190),
        ),
        steps=48,
    ),
    Scenario(
        name="2022-11-ftx",
        title="FTX",
        source=(
            "6-9 November 2022: bitcoin fell from about 21,000 to 15,700 dollars, ether from 1,600 to 1,080, and the "
            "tokens close to the failed venue by 60 to 90 %."
        ),
        legs=(
            _percent(minutes=2_880, btc=-13, eth=-17, alt=-30, vol=150),
            _percent(minutes=4_320, btc=-25, eth=-33, alt=-62, stable=-2, staked=-2, vol=200),
        ),
        steps=48,
    ),
    Scenario(
        name="2023-03-11-usdc",
        title="USDC loses its peg",
        source=(
            "10-11 March 2023: with a reserve bank closed, USDC traded down to about 0.87 dollars over a weekend and "
            "came back on Monday; bitcoin fell by some 8 % and then rose by 20 %."
        ),
        legs=(
            _percent(minutes=360, btc=-8, eth=-9, alt=-12, settlement=-4, vol=120),
            _percent(minutes=900, btc=-3, eth=-5, alt=-8, settlement=-13, vol=140),
            _percent(minutes=2_880, btc=10, eth=8, alt=5, settlement=-1, vol=120),
        ),
        steps=40,
    ),
    Scenario(
        name="2024-08-05",
        title="Carry unwind",
        source=(
            "4-5 August 2024: with the yen rising and stocks falling, bitcoin went from about 60,000 to 49,000 dollars "
            "and ether from 2,900 to 2,120 within a day, most of it in a few hours; front vols doubled."
        ),
        legs=(
            _percent(minutes=720, btc=-9, eth=-15, alt=-15, vol=130),
            _percent(minutes=900, btc=-18, eth=-27, alt=-30, vol=200),
            _percent(minutes=1_440, btc=-9, eth=-15, alt=-17, vol=150),
        ),
        steps=40,
    ),
    Scenario(
        name="2025-10-10",
        title="Tariff evening",
        source=(
            "10 October 2025: after a tariff announcement bitcoin fell from about 117,000 to 105,000 dollars and ether "
            "from 4,300 to 3,450 within an hour, many alts by 50 to 80 % for minutes; on one venue wrapped staked "
            "ether printed 430 dollars and a synthetic dollar 0.65. The largest liquidation day on record."
        ),
        legs=(
            _percent(minutes=25, btc=-6, eth=-9, alt=-20, vol=140),
            _percent(minutes=40, btc=-14, eth=-21, alt=-65, staked=-85, stable=-3, vol=230),
            _percent(minutes=75, btc=-7, eth=-12, alt=-30, staked=-4, vol=170),
        ),
        steps=50,
    ),
    _shock(-30),
    _shock(30),
    _shock(-50),
    _shock(50),
    Scenario(
        name="vol-crush",
        title="Vol crush",
        source="Hypothetical: implied vols halve within an hour at unchanged prices, as after a feared date.",
        legs=(_percent(minutes=60, vol=50),),
        steps=12,
    ),
    Scenario(
        name="basis",
        title="Basis",
        source="Hypothetical: forwards fall 10 % below spot and then rise 10 % above it, as in a squeeze; spot stays.",
        legs=(
            Leg(minutes=60, forward=900_000),
            Leg(minutes=180, forward=1_100_000),
        ),
        steps=24,
    ),
    Scenario(
        name="funding-72h",
        title="72 hours of capped funding",
        source="Hypothetical: longs pay the funding cap at every interval for three days at unchanged prices.",
        legs=(_percent(minutes=4_320),),
        steps=72,
        hold=FUNDING,
    ),
    Scenario(
        name="top-2-default",
        title="The two most exposed accounts default",
        source=(
            "Hypothetical, after the cover-2 rule of clearinghouses: the two members whose loss in a 30 % move exceeds "
            "their initial margin by most withdraw all they may, and then the move comes."
        ),
        legs=uniform(-300_000, 2 * PPM).legs,
        steps=20,
        hold=DEFAULT,
    ),
    Scenario(
        name="oracles-half-stale",
        title="Half of the oracles fall silent",
        source=(
            "Hypothetical: every second publisher stops while prices fall by 30 % within an hour; they come back after "
            "it. Short of a quorum the index freezes, and nobody is liquidated until it is fresh."
        ),
        legs=(_percent(minutes=60, btc=-30, eth=-30, alt=-30, vol=200),),
        steps=30,
        hold=SILENT,
    ),
    Scenario(
        name="collateral-chain",
        title="One chain's collateral is worth nothing",
        source=(
            "Hypothetical, after the bridge failures of 2022: the collateral asset that counts for most is worth "
            "nothing from one moment to the next, and everything falls by 10 %."
        ),
        legs=(_percent(minutes=30, btc=-10, eth=-10, alt=-10, vol=130),),
        steps=15,
        hold=LANE,
    ),
    Scenario(
        name="halt-gap",
        title="One hour's halt, then a gap of 15 %",
        source="Hypothetical: nothing is published for an hour, and the first price after it is 15 % lower.",
        legs=(_percent(minutes=60, btc=-15, eth=-15, alt=-15, vol=150, jump=True),),
        steps=1,
        hold=HALT,
    ),
)
BY_NAME: Final = {scenario.name: scenario for scenario in SCENARIOS}


def named(name: str) -> Scenario:
    """Raises `NovateError` UNKNOWN_SCENARIO."""
    if name not in BY_NAME:
        raise NovateError("UNKNOWN_SCENARIO", f"no scenario {name[:40]!r}; there are {', '.join(BY_NAME)}")
    return BY_NAME[name]


class Tick(Figures, frozen=True, kw_only=True):
    """Prices at one moment of a path; ratios in ppm as in `Leg`."""

    minutes: float
    spot: dict[str, int]
    vol: int
    forward: int
    rate: int


_RATIOS = (BTC, ETH, ALT, STAKED, STABLE, SETTLEMENT)


def path(scenario: Scenario) -> list[Tick]:
    """The scenario's price updates, `steps` evenly spaced and one at every leg."""
    start = Leg(minutes=0)
    end = scenario.legs[-1].minutes
    moments = sorted(
        {round(end * step / scenario.steps, 6) for step in range(1, scenario.steps + 1)}
        | {float(leg.minutes) for leg in scenario.legs}
    )
    found = []
    for moment in moments:
        before, after = start, scenario.legs[-1]
        for leg in scenario.legs:
            if moment <= leg.minutes:
                after = leg
                break
            before = leg
        if not after.jump or moment == after.minutes:
            found.append(_between(before, after, moment))
    return found


def _between(before: Leg, after: Leg, moment: float) -> Tick:
    share = (moment - before.minutes) / (after.minutes - before.minutes)

    def at(name: str) -> int:
        low: int = getattr(before, name)
        high: int = getattr(after, name)
        return high if share >= 1 else round(low * (high / low) ** share)

    rate = round(before.rate + (after.rate - before.rate) * share)
    return Tick(
        minutes=moment, spot={name: at(name) for name in _RATIOS}, vol=at("vol"), forward=at("forward"), rate=rate
    )
