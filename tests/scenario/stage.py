# SPDX-License-Identifier: GPL-3.0-or-later
"""Plays a scenario on a real venue: sentences become signed commands, outcomes become words.

Rules:
- Everything that happened is said, and compared: a cell `so` that leaves something out fails.
- Not said, because it always happens: OrderPlaced, MarginChanged, AccountOpened.
- `who` is a name, a sub-account (`ann/1`), or another of her keys (`ann+desk`); empty is the venue.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from clearing.core.margin import equity
from clearing.core.state import Account
from clearing.model import commands as c
from clearing.model import ids
from clearing.model import outcomes as o
from clearing.model.errors import Refused
from clearing.model.params import FeeTier, Instrument, Params
from clearing.model.signature import public_key_of
from tests.core import venue as v
from tests.scenario.language import Scenario, ScenarioError, Table, atoms, duration_us, usd

MARKETS = {"BTC": 1, "ETH": 2}
NAMES = {number: name for name, number in MARKETS.items()}
INSTRUMENTS = tuple(
    Instrument(number, f"{name}-PERP", name, 10_000, 100_000, 100_000, 50_000) for name, number in MARKETS.items()
)
HOUSE = {"fees": ids.FEES, "insurance": ids.INSURANCE_FUND, "capital": ids.OPERATOR_CAPITAL}
STP = {
    "stp-none": ids.STP_NONE,
    "stp-taker": ids.STP_CANCEL_TAKER,
    "stp-maker": ids.STP_CANCEL_MAKER,
    "stp-both": ids.STP_CANCEL_BOTH,
}
TIF = {"IOC": ids.IOC, "FOK": ids.FOK}
SCOPES = {"trade": ids.SCOPE_TRADE, "withdraw": ids.SCOPE_WITHDRAW, "transfer": ids.SCOPE_TRANSFER}
_ORDER = re.compile(r"(buy|sell) (\d+) (\w+) at ([\d.,]+) as (\w+)((?: [\w=-]+)*)$")


class Stage:
    """Runs the tables of one scenario in order; `words` turns outcomes into what `so` compares."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.labels: dict[str, int] = {}
        self.orders: dict[int, str] = {}
        self.settings: dict[str, int] = {"funding_interest_ppm": 0}
        self.tiers: tuple[FeeTier, ...] = (FeeTier(0, 0, 0),)
        self.publishers = 1
        self._venue: v.Venue | None = None

    @property
    def venue(self) -> v.Venue:
        """Opened on first use, when the settings are known."""
        if self._venue is None:
            params = Params(fee_tiers=self.tiers, **self.settings)
            self._venue = v.Venue(params, INSTRUMENTS, self.publishers)
        return self._venue

    def run(self) -> None:
        """All tables. Raises AssertionError or `ScenarioError` with file and line."""
        for table in self.scenario.tables:
            for line, row in table.rows:
                where = f"{self.scenario.path.name}:{line}"
                try:
                    self._play(table, row, where)
                except (KeyError, ValueError, StopIteration) as error:
                    raise ScenarioError(f"{where}: {row}: {type(error).__name__} {error}") from error
            if table.heading.startswith("then book"):
                self._whole_book(table)

    def _play(self, table: Table, row: dict[str, str], where: str) -> None:
        match table.heading.split():
            case ["given", "venue"]:
                self._setting(row["setting"], row["value"])
            case ["given", "fee", "tiers"]:
                tier = FeeTier(atoms(row["volume"]), int(row["maker ppm"]), int(row["taker ppm"]))
                self.tiers = (*(t for t in self.tiers if t.volume_atoms != tier.volume_atoms), tier)
            case ["given", "accounts"]:
                self._fund(row["name"], atoms(row["deposit"]))
            case ["given", "prices"]:
                self._everywhere({MARKETS[row["market"]]: atoms(row["price"])})
            case ["when"]:
                said = ", ".join(self.does(row["who"], row["does"])) or "nothing"
                assert said == row["so"], f"{where}: {row['who']} {row['does']}: {said}, not {row['so']}"
            case ["then", "book", _]:
                pass
            case ["then", "accounts"]:
                self._compare(row, where, self._account(row["name"]))
            case ["then", "exits"]:
                exit_now = self.venue.state.owners[v.address_of(row["name"])].exits[0]
                assert usd(exit_now) == row["exit"], f"{where}: exit of {row['name']} is {usd(exit_now)}"
            case _:
                raise ScenarioError(f"{where}: unknown heading {table.heading!r}")

    # --- given -------------------------------------------------------------------------------

    def _setting(self, name: str, value: str) -> None:
        if name == "publishers":
            self.publishers = int(value)
        elif name.endswith("_us"):
            self.settings[name] = duration_us(value)
        else:
            self.settings[name] = int(value)

    def _fund(self, name: str, deposit: int) -> None:
        if name in HOUSE:
            self.venue.deposit("treasury", deposit)
            if name != "capital":
                out = self.venue.operator(c.HouseTransfer(ids.OPERATOR_CAPITAL, HOUSE[name], deposit))
                assert not v.codes(out)
        else:
            self.venue.fund(name, deposit)

    def _everywhere(self, prices: dict[int, int]) -> list[o.Outcome]:
        out: list[o.Outcome] = []
        for publisher in range(self.publishers):
            out += self.venue.oracle(prices, publisher)
        return out

    # --- when --------------------------------------------------------------------------------

    def does(self, who: str, sentence: str) -> list[str]:
        """Play one sentence; what happened, in words."""
        try:
            out = self._member(who, sentence) if who else self._venue_does(sentence)
        except Refused as error:
            return [f"not admitted {error.code}"]
        return self.words(out)

    def _member(self, who: str, sentence: str) -> list[o.Outcome]:
        name, label, sub = who, "session", 0
        if "+" in who:
            name, label = who.split("+")
        if "/" in who:
            name, sub = who.split("/")[0], int(who.split("/")[1])
        words = sentence.split()
        match words:
            case ["deposit", amount]:
                return self.venue.deposit(name, atoms(amount))
            case ["register", *options]:
                scope = sum(SCOPES[word] for word in options if word in SCOPES) or ids.SCOPE_ALL
                lasts = [duration_us(w.removeprefix("for=")) for w in options if w.startswith("for=")]
                expiry = self.venue.now_us + lasts[0] if lasts else v.FOREVER
                return self.venue.register(name, scope, expiry, label)
            case ["revoke"]:
                return self.venue.revoke(name, label)
            case _:
                command, expiry = self._command(sentence)
        number = self._account(f"{name}/{sub}" if sub else name).number
        signer = "treasury" if name in HOUSE else name
        raw = self.venue.batch(signer, [command], number, expiry_us=expiry, label=label)
        return self.venue.submit(raw)

    def _command(self, sentence: str) -> tuple[c.MemberCommand, int]:
        """(command, expiry of its envelope)."""
        body, _, late = sentence.partition(" signed until ")
        expiry = self.venue.now_us + duration_us(late) if late else v.FOREVER
        if order := _ORDER.match(body):
            return self._place(order), expiry
        match body.split():
            case ["cancel", "all"]:
                return c.CancelAll(), expiry
            case ["cancel", "all", market]:
                return c.CancelAll(MARKETS[market]), expiry
            case ["cancel", label]:
                return c.CancelOrder(self.labels.get(label, 999)), expiry
            case ["replace", label, "with", lots, "at", price]:
                return c.ReplaceOrder(self.labels.get(label, 999), atoms(price), int(lots)), expiry
            case ["withdraw", amount]:
                return c.Withdraw(0, 0, atoms(amount)), expiry
            case ["transfer", amount, "to", "sub", sub]:
                return c.Transfer(int(sub), atoms(amount)), expiry
        raise ScenarioError(f"no such sentence: {sentence}")

    def _place(self, order: re.Match[str]) -> c.PlaceOrder:
        side, lots, market, price, label, rest = order.groups()
        words = rest.split()
        lasts = [duration_us(w.removeprefix("for=")) for w in words if w.startswith("for=")]
        known = {"market", "post-only", "reduce-only", *STP, *TIF}
        unknown = [w for w in words if w not in known and not w.startswith("for=")]
        if unknown:
            raise ScenarioError(f"no such option: {unknown}")
        return self.venue.order(
            ids.BUY if side == "buy" else ids.SELL,
            atoms(price),
            int(lots),
            MARKETS[market],
            ids.MARKET if "market" in words else ids.LIMIT,
            ids.GTT if lasts else next((TIF[w] for w in words if w in TIF), ids.GTC),
            "post-only" in words,
            "reduce-only" in words,
            next((STP[w] for w in words if w in STP), ids.STP_CANCEL_TAKER),
            self.venue.now_us + lasts[0] if lasts else 0,
            self.labels.setdefault(label, len(self.labels) + 1),
        )

    def _venue_does(self, sentence: str) -> list[o.Outcome]:
        match sentence.split():
            case ["wait", time]:
                self.venue.advance(duration_us(time))
                return []
            case ["price", market, price, *options]:
                return self._price(MARKETS[market], atoms(price), options)
            case ["funding"]:
                return self.venue.operator(c.FundingTick())
            case ["sweep"]:
                return self.venue.operator(c.ExpireOrders())
            case ["liquidate", name]:
                return self.venue.operator(c.Liquidate(self._account(name).number))
            case ["close", "epoch"]:
                return [self.venue.close_epoch()]
            case ["close", "epoch", number]:
                return self.venue.operator(c.CloseEpoch(int(number), ((1, bytes(32)),)))
            case ["move", amount, "from", source, "to", target]:
                return self.venue.operator(c.HouseTransfer(HOUSE[source], HOUSE[target], atoms(amount)))
            case ["rotate", "operator", *keep]:
                return self._rotate_operator(bool(keep))
            case ["rotate", "publisher", number, *keep]:
                return self._rotate_publisher(int(number), bool(keep))
        raise ScenarioError(f"no such sentence: {sentence}")

    def _price(self, instrument: int, price: int, options: list[str]) -> list[o.Outcome]:
        given = dict(option.split("=") for option in options)
        if not given:
            return self._everywhere({instrument: price})
        dated = self.venue.now_us + duration_us(given["dated"]) if "dated" in given else None
        prev = bytes([7]) * 32 if given.get("chain") == "broken" else None
        publisher = int(given.get("by", "0"))
        return self.venue.oracle({instrument: price}, publisher, int(given.get("confidence", "1")), dated, prev)

    def _rotate_operator(self, keep_signing_with_the_old: bool) -> list[o.Outcome]:
        seed = v.seed_of("operator/next")
        out = self.venue.operator(c.RotateOperator(public_key_of(seed), v.address_of("operator/next")))
        if not keep_signing_with_the_old:
            self.venue.operator_seed = seed
        return out

    def _rotate_publisher(self, number: int, keep_signing_with_the_old: bool) -> list[o.Outcome]:
        seed = v.seed_of(f"publisher/{number}/next")
        out = self.venue.operator(c.RotatePublisher(number, public_key_of(seed)))
        if not keep_signing_with_the_old and not v.codes(out):
            self.venue.publisher_seeds[number] = seed
        return out

    # --- then --------------------------------------------------------------------------------

    def _account(self, name: str) -> Account:
        if name in HOUSE:
            return self.venue.state.accounts[HOUSE[name]]
        owner, _, sub = name.partition("/")
        return self.venue.account(owner, int(sub or 0))

    def _compare(self, row: dict[str, str], where: str, account: Account) -> None:
        shown: dict[str, Callable[[], str]] = {
            "name": lambda: row["name"],
            "cash": lambda: usd(account.cash),
            "equity": lambda: usd(equity(account)),
            "open orders": lambda: str(len(account.orders)),
            **{name: (lambda i=number: self._size(account, i)) for name, number in MARKETS.items()},  # type: ignore[misc]
        }
        for column, cell in row.items():
            found = shown[column]()
            assert found == cell, f"{where}: {column} of {row['name']} is {found}, not {cell}"

    def _size(self, account: Account, instrument: int) -> str:
        slot = account.slots.get(instrument)
        return str(slot.size if slot else 0)

    def _whole_book(self, table: Table) -> None:
        market = self.venue.state.instruments[MARKETS[table.heading.split()[2]]]
        found = [
            (name, self.orders[order.order_id], str(order.open_lots), usd(order.price))
            for name, side in (("buy", ids.BUY), ("sell", ids.SELL))
            for order in market.book.sides[side].orders()
        ]
        wanted = [(r["side"], r["id"], r["size"], r["price"]) for _, r in table.rows]
        where = f"{self.scenario.path.name}:{table.line}"
        assert found == wanted, f"{where}: the book is {found}"

    # --- outcomes in words -------------------------------------------------------------------

    def words(self, outcomes: list[o.Outcome]) -> list[str]:
        """What was said, and `rests N` for an order that was placed or moved and is in the book."""
        said: list[str] = []
        arrived: list[int] = []
        for outcome in outcomes:
            if isinstance(outcome, o.OrderPlaced):
                labels = {number: label for label, number in self.labels.items()}
                self.orders[outcome.order_id] = labels.get(outcome.client_order_id, "close-out")
                arrived.append(outcome.order_id)
            elif isinstance(outcome, o.OrderReplaced):
                arrived.append(outcome.order_id)
            phrase = self._phrase(outcome)
            if phrase:
                said.append(phrase)
        for order_id in arrived:
            order = self.venue.state.orders.get(order_id)
            if order is not None:
                said.append(f"rests {order.open_lots}")
        return said

    def _phrase(self, outcome: o.Outcome) -> str:
        match outcome:
            case o.Rejected():
                return f"refused {outcome.code}"
            case o.TradeNovated():
                maker = self.orders[outcome.maker_order_id]
                return f"trades {outcome.size_lots} at {usd(outcome.price_atoms)} with {maker}"
            case o.OrderCancelled():
                return f"{self.orders[outcome.order_id]} cancelled {outcome.open_lots} {outcome.reason}"
            case o.OrderReplaced():
                return "priority kept" if outcome.kept_priority else "priority lost"
            case o.Deposited():
                return f"deposited {usd(outcome.amount_atoms)}"
            case o.WithdrawalAcked():
                return f"acked {usd(outcome.amount_atoms)} of {usd(outcome.cumulative_atoms)}"
            case o.Transferred():
                return f"moved {usd(outcome.amount_atoms)}"
            case o.KeyRegistered():
                return "registered"
            case o.KeyRevoked():
                return "revoked"
            case o.PriceAccepted():
                return f"index {usd(outcome.index_atoms)}"
            case o.FundingApplied():
                per_lot = usd(outcome.per_lot_atoms)
                return f"{NAMES[outcome.instrument]} longs pay {per_lot} a lot at {outcome.rate_ppm} ppm"
            case o.Liquidated():
                return f"liquidated fee {usd(outcome.fee_atoms)} covered {usd(outcome.covered_atoms)}"
            case o.PositionTransferred():
                return f"fund takes {outcome.size_lots} at {usd(outcome.price_atoms)}"
            case o.EpochClosed():
                return f"epoch {outcome.epoch} shortfall {usd(outcome.shortfall_atoms)}"
            case o.OperatorRotated() | o.PublisherRotated():
                return "rotated"
            case _:
                return ""
