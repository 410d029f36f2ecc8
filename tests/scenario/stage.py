# SPDX-License-Identifier: GPL-3.0-or-later
"""Plays a scenario on a real venue: tables become signed commands, and what came of them is compared.

Rules:
- Everything that happened is said, and compared: a cell `so` that leaves something out fails.
- Not said, because it always happens: OrderPlaced, MarginChanged, AccountOpened, RiskArrayBuilt.
- `who` is a name, a sub-account (`ann/1`), or another of her keys (`ann+desk`); empty is the venue.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from clearing.core.state import Account
from clearing.model import commands as c
from clearing.model import ids
from clearing.model.errors import NovateError, Refused
from clearing.model.params import Asset, FeeTier, Instrument, Params, Underlying
from tests.core import venue as v
from tests.core.several import Several
from tests.scenario import checks, sentences, words
from tests.scenario.language import Scenario, ScenarioError, Table, atoms, changed, duration_us, part

HOUSE = {"fees": ids.FEES, "insurance": ids.INSURANCE_FUND, "capital": ids.OPERATOR_CAPITAL}
KINDS = {"future": ids.FUTURE, "call": ids.OPTION, "put": ids.OPTION}
_FIRST_ID = 10


class House(Several):
    """A venue with as many tokens as the scenario has assets, whose exits are checked in every lane."""

    def __init__(self, params: Params, instruments: tuple[Instrument, ...], publishers: int, lanes: int) -> None:
        tokens = tuple(f"token {lane}" for lane in range(lanes))
        v.Venue.__init__(self, params, instruments, publishers, tokens)


@dataclass
class Setting:
    """What is said of the venue before it opens."""

    params: Params = field(default_factory=lambda: Params(funding_interest_ppm=0))
    tiers: tuple[FeeTier, ...] = (FeeTier(0, 0, 0),)
    publishers: int = 1
    instruments: list[Instrument] = field(
        default_factory=lambda: [
            Instrument(v.BTC, "BTC", "BTC", 10_000, 100_000, 100_000, 50_000),
            Instrument(v.ETH, "ETH", "ETH", 10_000, 100_000, 100_000, 50_000),
        ]
    )
    assets: list[Asset] = field(default_factory=list)
    underlyings: dict[str, Underlying] = field(
        default_factory=lambda: {"BTC": Underlying(v.BTC, "BTC", 1), "ETH": Underlying(v.ETH, "ETH", 1)}
    )

    def feed(self, name: str) -> str:
        """An underlying that something names, made if it is new."""
        if name and name not in self.underlyings:
            self.underlyings[name] = Underlying(len(self.underlyings) + 1, name, 1)
        return name


class Stage:
    """Runs the tables of one scenario in order."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.setting = Setting()
        self.labels: dict[str, int] = {}
        self.orders: dict[int, str] = {}
        self.names: dict[bytes, str] = {}
        self._venue: House | None = None

    @property
    def venue(self) -> House:
        """Opened on first use, when the settings are known."""
        if self._venue is None:
            said = self.setting
            values = {"fee_tiers": said.tiers, "underlyings": tuple(said.underlyings.values())}
            params = msgspec.structs.replace(said.params, **values, assets=tuple(said.assets))
            self._venue = House(params, tuple(said.instruments), said.publishers, max(1, len(said.assets)))
        return self._venue

    def run(self) -> None:
        """All tables. Raises AssertionError or `ScenarioError` with file and line."""
        for table in self.scenario.tables:
            if not table.columns:
                raise ScenarioError(f"{self.scenario.path.name}:{table.line}: no table under {table.heading!r}")
            for line, row in table.rows:
                where = f"{self.scenario.path.name}:{line}"
                try:
                    self._play(table, row, where)
                except (ScenarioError, KeyError, ValueError, TypeError, StopIteration, NovateError) as error:
                    raise ScenarioError(f"{where}: {row}: {type(error).__name__} {error}") from error
            checks.whole(self, table)

    def _play(self, table: Table, row: dict[str, str], where: str) -> None:
        match table.heading.split():
            case ["given", "venue"]:
                self._set(row["setting"], row["value"])
            case ["given", "fee", "tiers"]:
                tier = FeeTier(atoms(row["volume"]), int(row["maker ppm"]), int(row["taker ppm"]))
                self.setting.tiers = (
                    *(t for t in self.setting.tiers if t.volume_atoms != tier.volume_atoms),
                    tier,
                )
            case ["given", "underlyings"]:
                self._underlying(row)
            case ["given", "instruments"]:
                self.setting.instruments.append(self.instrument(row))
            case ["given", "assets"]:
                self._asset(row)
            case ["given", "accounts"]:
                self._fund(row)
            case ["given", "prices"]:
                options = [f"{name}={row[name]}" for name in row if name not in ("market", "price") and row[name]]
                for refused in v.codes(sentences.price(self, row["market"], row["price"], options)):
                    raise ScenarioError(f"{where}: refused {refused}")
            case ["when"]:
                said = ", ".join(self.does(row["who"], row["does"])) or "nothing"
                assert said == row["so"], f"{where}: {row['who']} {row['does']}: {said}, not {row['so']}"
            case ["then", "accounts"]:
                checks.account(self, row, where)
            case ["then", "exits"]:
                checks.exits(self, row, where)
            case ["then", "markets"]:
                checks.market(self, row, where)
            case ["then", "book", _] | ["then", "line", "for", _, "in", _] | ["then", "scenarios", "of", _, "in", _]:
                pass  # compared as a whole, after the last row
            case _:
                raise ScenarioError(f"{where}: unknown heading {table.heading!r}")

    def does(self, who: str, sentence: str) -> list[str]:
        """Play one sentence; what happened, in words."""
        try:
            out = sentences.member(self, who, sentence) if who else sentences.venue(self, sentence)
        except Refused as error:
            return [f"not admitted {error.code}"]
        return words.said(self, out, by_venue=not who)

    # --- given -------------------------------------------------------------------------------

    def _set(self, name: str, value: str) -> None:
        if name == "publishers":
            self.setting.publishers = int(value)
        else:
            self.setting.params = changed(self.setting.params, name, value)

    def _underlying(self, row: dict[str, str]) -> None:
        name = self.setting.feed(row["name"])
        self.setting.underlyings[name] = Underlying(
            self.setting.underlyings[name].id,
            name,
            1,
            int(row.get("preset") or "0"),
            int(row.get("depth") or "0"),
            atoms(row.get("oi lower") or "0"),
            atoms(row.get("oi upper") or "0"),
            part(row.get("size factor") or "0", ids.UNIT),
        )

    def instrument(self, row: dict[str, str]) -> Instrument:
        """A row of `given instruments`, with the next id."""
        kind = KINDS[row["kind"]]
        option = kind == ids.OPTION
        return Instrument(
            _FIRST_ID + len(self.setting.instruments),
            row["name"],
            self.setting.feed(row["on"]),
            atoms(row.get("tick") or "0.01"),
            100_000,
            part(row.get("imf") or "10%", ids.PPM),
            part(row.get("mmf") or "5%", ids.PPM),
            kind,
            v.START_US + duration_us(row["expiry"]),
            atoms(row["strike"]) if option else 0,
            row["kind"] == "call",
        )

    def _asset(self, row: dict[str, str]) -> None:
        assets = self.setting.assets
        assets.append(
            Asset(
                len(assets),
                row["name"],
                self.setting.feed(row["priced by"]),
                1_000_000,
                part(row.get("haircut") or "0", ids.PPM),
                part(row.get("weight") or "100%", ids.PPM),
                atoms(row.get("cap") or "0"),
                int(row.get("order") or "0"),
                row.get("cancels risk") == "yes",
                self.setting.feed(row.get("reference") or ""),
                part(row.get("redemption") or "100%", ids.PPM),
                part(row.get("band") or "0", ids.PPM),
            )
        )

    def _fund(self, row: dict[str, str]) -> None:
        name, deposit = row["name"], atoms(row["deposit"] or "0")
        if name in HOUSE:
            self.venue.deposit("treasury", deposit)
            if name != "capital":
                out = self.venue.operator(c.HouseTransfer(ids.OPERATOR_CAPITAL, HOUSE[name], deposit))
                assert not v.codes(out)
            return
        self.know(name)
        if deposit:
            self.venue.deposit(name, deposit)
        for column in row:
            if column not in ("name", "deposit") and row[column]:
                self.venue.deposit(name, atoms(row[column]), asset=self.lane(column))
        self.venue.register(name)

    # --- names -------------------------------------------------------------------------------

    def know(self, name: str) -> None:
        self.names[v.address_of(name)] = name

    def account(self, name: str) -> Account:
        """`ann`, `ann/1`, or one of the house's."""
        if name in HOUSE:
            return self.venue.state.accounts[HOUSE[name]]
        owner, _, sub = name.partition("/")
        return self.venue.account(owner, int(sub or 0))

    def name_of(self, number: int) -> str:
        """The other way round."""
        if number < ids.HOUSE_ACCOUNTS:
            return next(name for name, house in HOUSE.items() if house == number)
        account = self.venue.state.accounts[number]
        name = self.names[account.owner.address]
        return f"{name}/{account.sub}" if account.sub else name

    def market(self, name: str) -> int:
        """The id of a listed instrument."""
        return next(inst.id for inst in self.venue.state.instruments.values() if inst.spec.symbol == name)

    def symbol(self, instrument: int) -> str:
        """Also of one that is no longer listed."""
        return next(spec.symbol for spec in self.setting.instruments if spec.id == instrument)

    def under(self, name: str) -> int:
        return self.setting.underlyings[name].id

    def lane(self, name: str) -> int:
        """The vault's lane of an asset; USD is the settlement asset of a scenario that names none."""
        if name == "USD" and not self.setting.assets:
            return 0
        return next(asset.lane for asset in self.setting.assets if asset.symbol == name)

    def label(self, order_id: int) -> str:
        """What the scenario calls an order."""
        return self.orders[order_id]
