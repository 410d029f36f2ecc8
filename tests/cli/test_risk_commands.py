# SPDX-License-Identifier: GPL-3.0-or-later
"""The risk engine by command line, on a real venue with a collateral asset and three publishers: markets,
prices and surfaces, portfolio margin, triggers, pledges, auctions, parameters, keepers, reports."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clearing.cli.params import named, read_params
from clearing.cli.stage import wait_for
from clearing.model import ids
from clearing.model.params import Params
from tests.cli.venue import DEAD, WINDOW_S, Person, Result, Venue

pytestmark = pytest.mark.slow

UNIT = 1_000_000
# Thirty days from now, at eight.
EXPIRY_US = (time.time_ns() // 1_000 // ids.DAY_US + 30) * ids.DAY_US + 8 * 3_600_000_000
EXPIRY = time.strftime("%Y-%m-%dT%H:%M", time.gmtime(EXPIRY_US // 1_000_000))
CALL, PUT, FUTURE = "100", "101", "50"
PUBLISHERS = 3
_RULES = {
    "notice_us": 0,
    "oracle_max_age_us": 3_600_000_000,
    "oracle": {"fill_max_age_us": 3_600_000_000, "divergence_ppm": 1_000_000},
    "underlyings": [{"id": 1, "symbol": "BTC"}, {"id": 2, "symbol": "ETH", "lots_per_unit": 100}],
    "assets": [
        {"lane": 1, "symbol": "ETH", "underlying": "ETH", "maintenance_haircut_ppm": 200_000}
        | {"initial_weight_ppm": 930_000, "order": 1}
    ],
}


class Desk(Venue):
    """A vault of two tokens, BTC options of one expiry, and `carol`, who has no money yet."""

    def _open(self, operator: str) -> None:
        self.ok("operator", "keys", str(self.data), "--publishers", str(PUBLISHERS))
        self.deployed = self.ok(
            "vault", "deploy", "--operator", operator, "--treasury", self.payer.address, "--test-tokens", "2",
            "--window", str(WINDOW_S), "--json", who=self.payer,
        ).data  # fmt: skip
        self.env |= {"NOVATE_VAULT": self.deployed["vault"], "NOVATE_DATA": str(self.data)}
        rules = self.folder / "rules.json"
        rules.write_text(json.dumps(_RULES))
        self.ok(
            "operator", "init", str(self.data), "--confirmations", "0", "--publishers", str(PUBLISHERS),
            "--params", str(rules),
        )  # fmt: skip
        self.live()
        option = ("--underlying", "BTC", "--kind", "option", "--expiry", EXPIRY, "--strike", "60")
        self.ok("market", "list", FUTURE, "BTC-JUN", "--underlying", "BTC", "--kind", "future", "--expiry", EXPIRY)
        self.ok("market", "list", CALL, "BTC-JUN-60-C", *option, "--call")
        self.ok("market", "list", PUT, "BTC-JUN-60-P", *option, "--put")
        self.votes = [self.vote(publisher, "60") for publisher in range(PUBLISHERS)]
        self.carol = self._person("carol")
        for person in (self.alice, self.bob):
            self.ok("vault", "mint", "200000", who=person)
            self.ok("vault", "mint", str(50 * UNIT), "--asset", "1", who=person)
            self.ok("deposit", "100000", who=person)
        for person in (self.alice, self.bob):
            self.enter(person)

    def surface(self, forward: str) -> Path:
        path = self.folder / f"surface-{forward}.json"
        vols = {"50": "0.66", "60": "0.60", "70": "0.63"}
        path.write_text(json.dumps({"underlying": 1, "expiry_us": EXPIRY_US, "forward": forward, "vols": vols}))
        return path

    def vote(self, publisher: int, price: str) -> Result:
        """One publisher's prices and surface; ether stays."""
        key = self.newest_key(f"publisher-{publisher}")
        words = (f"1={price}", "2=30.00", "--surface", str(self.surface(price)), "--publisher-key", str(key))
        return self.ok("oracle", "publish", *words)

    def move(self, price: str) -> None:
        for publisher in range(PUBLISHERS):
            self.vote(publisher, price)

    def account(self, person: Person) -> dict[str, object]:
        found: dict[str, object] = self.ok("account", "show", "--json", who=person).data
        return found

    def trade(self, seller: Person, buyer: Person, instrument: str, lots: str, price: str) -> None:
        """A block between the two."""
        self.ok("order", "place", instrument, "sell", lots, price, who=seller)
        self.ok("order", "place", instrument, "buy", lots, price, "--tif", "fok", who=buyer)


@pytest.fixture(scope="module")
def _desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    venue = Desk(tmp_path_factory.mktemp("desk"))
    yield venue
    venue.close()


@pytest.fixture
def desk(_desk: Desk) -> Desk:
    """No orders or triggers of anybody."""
    for person in (_desk.alice, _desk.bob):
        with _desk.api() as client:
            found = client.account(person.account)
        if found["orders"] or found["triggers"]:
            _desk.ok("order", "cancel", "--all", who=person)
    return _desk


# --- markets and prices ---


def test_a_quorum_is_more_than_half_of_the_publishers_unless_the_file_says_otherwise(desk: Desk) -> None:
    """The first vote moves nothing, and says so; the second is the price."""
    first, second, _ = desk.votes
    assert "PriceAccepted" not in first.out and "quorum" in first.err
    assert "SurfaceAccepted" in second.out and "quorum" not in second.err
    assert "  oracle_quorum = 2\n" in desk.ok("params", "show", "oracle_quorum").out


def test_markets_show_kind_price_and_expiry(desk: Desk) -> None:
    """Text and JSON; one market with its book."""
    shown = desk.ok("market", "show").out
    assert "BTC-JUN-60-C" in shown and f"until {EXPIRY.replace('T', ' ')} UTC" in shown and "no price yet" not in shown
    rows = {row["id"]: row for row in desk.ok("market", "show", "--json").data["instruments"]}
    assert rows[int(CALL)]["strike_atoms"] == rows[int(FUTURE)]["mark_atoms"] == str(60 * UNIT)
    desk.ok("order", "place", CALL, "sell", "3", "50", who=desk.alice)
    assert "ask          50.000000            3 lots" in desk.ok("market", "show", CALL).out


def test_a_market_is_listed_halted_resumed_and_delisted(desk: Desk) -> None:
    """Each is a journalled command of the operator; halted, a market takes no orders and says why."""
    listed = desk.ok("market", "list", "7", "BTC-ALT", "--underlying", "BTC", "--tick", "0.5")
    assert "InstrumentListed: id=7, symbol=BTC-ALT, underlying=BTC, tick_atoms=500000" in listed.out
    again = desk.run("market", "list", "7", "BTC-OTHER", "--underlying", "BTC")
    assert (again.status, again.code) == (1, "INSTRUMENT_EXISTS")
    desk.ok("market", "halt", "7", "--reason", "a test")
    assert "HALTED: a test" in desk.ok("market", "show", "7").out
    refused = desk.run("order", "place", "7", "buy", "1", "60", who=desk.alice)
    assert (refused.status, refused.code) == (1, "MARKET_HALTED")
    desk.ok("market", "resume", "7")
    desk.move("60")
    desk.ok("order", "place", "7", "buy", "1", "60", who=desk.alice)
    busy = desk.run("market", "delist", "7")
    assert (busy.status, busy.code) == (1, "INSTRUMENT_IN_USE")
    desk.ok("order", "cancel", "--all", who=desk.alice)
    desk.ok("market", "delist", "7")
    gone = desk.run("market", "show", "7")
    assert (gone.status, gone.code) == (1, "UNKNOWN_INSTRUMENT")


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--underlying", "NOPE"], 1, "INVALID_INSTRUMENT: no underlying 'NOPE'; there are BTC, ETH"),
        (["--underlying", "BTC", "--tick", "0"], 1, "INVALID_INSTRUMENT: tick"),
        (["--underlying", "BTC", "--tick", "x"], 2, "--tick 'x' is not"),
        (["--underlying", "BTC", "--imf-ppm", "10", "--mmf-ppm", "20"], 1, "0 < MMF <= IMF"),
        (["--underlying", "BTC", "--kind", "future"], 2, "a future needs --expiry"),
        (["--underlying", "BTC", "--kind", "option", "--expiry", EXPIRY, "--strike", "60"], 2, "--call or --put"),
        (["--underlying", "BTC", "--strike", "60"], 2, "a perpetual has neither"),
        (["--underlying", "BTC", "--kind", "future", "--expiry", "2020-01-01"], 1, "2020-01-01 00:00:00 UTC has"),
        (["--underlying", "BTC", "--kind", "future", "--expiry", "26JUN30"], 2, "--expiry"),
        (["--underlying", "BTC", "--data", "/nonexistent"], 1, "KEY_NOT_HELD"),
        (["--underlying", "BTC", "--api", DEAD], 4, "OPERATOR_UNREACHABLE"),
    ],
)  # fmt: skip
def test_a_bad_listing_says_what_is_wrong_with_it(desk: Desk, arguments: list[str], status: int, says: str) -> None:
    """Before anything is journalled."""
    with desk.api() as client:
        size = client.status()["size"]
        refused = desk.run("market", "list", "9", "X", *arguments)
        assert refused.status == status and says in refused.err
        entries = [client.entry(seq)["outcomes"] for seq in range(size, client.status()["size"])]
    assert not any(outcome["type"] == "Rejected" for outcomes in entries for outcome in outcomes)


@pytest.mark.parametrize(
    ("content", "status", "says"),
    [
        ("{", 2, "is not a surface"),
        ('{"underlying": 1}', 2, "missing required field `expiry_us`"),
        ('{"underlying": 1, "expiry_us": %d, "forward": "60", "vols": {"x": "0.6"}}', 2, "strike 'x'"),
        ('{"underlying": 1, "expiry_us": %d, "forward": "-6", "vols": {"60": "0.6"}}', 2, "forward '-6'"),
        ('{"underlying": 1, "expiry_us": %d, "forward": "60", "vols": {"60": "much"}}', 2, "is not a surface"),
        ('{"underlying": 1, "expiry_us": %d, "forward": "60", "vols": {"60": "6000"}}', 2, "0.65 is 65 %"),
        ('{"underlying": 1, "expiry_us": %d, "forward": "60", "vols": {"60": 66}}', 1, "INVALID_SURFACE"),
        ('{"underlying": 1, "expiry_us": 17, "forward": "60", "vols": {"60": 0.6}}', 1, "UNKNOWN_INSTRUMENT"),
        ('{"underlying": 1, "expiry_us": %d, "forward": 60, "vols": {"50": 0.66, "60": 0.6}}', 0, ""),
    ],
)
def test_a_surface_file_is_read_to_the_digit_or_refused(desk: Desk, content: str, status: int, says: str) -> None:
    """Strings or numbers; what is wrong is named with the file."""
    path = desk.folder / "given.json"
    path.write_text(content % EXPIRY_US if "%d" in content else content)
    key = desk.newest_key("publisher-2")
    result = desk.run("oracle", "publish", "--surface", str(path), "--publisher-key", str(key))
    assert result.status == status and says in result.err, result.err


# --- collateral ---


def test_collateral_comes_in_counts_and_goes_out_by_its_lane(desk: Desk) -> None:
    """Amounts of another asset are its atoms everywhere; a claim pays each lane its own."""
    before = int(str(desk.account(desk.bob)["equity_atoms"]))
    paid = desk.ok("deposit", str(20 * UNIT), "--asset", "1", "--json", who=desk.bob).data
    assert (paid["amount"], paid["amount_atoms"]) == (f"{20 * UNIT} atoms", 20 * UNIT)
    wait_for(lambda: desk.account(desk.bob)["holdings"], "the collateral to arrive")
    worth = 20 * 100 * 30 * UNIT
    assert int(str(desk.account(desk.bob)["equity_atoms"])) == before + worth * 80 // 100
    shown = desk.ok("account", "show", who=desk.bob).out
    assert f"holds     {20 * UNIT} atoms of asset 1 (ETH), worth 60,000.000000 before haircut" in shown
    desk.ok("claim", who=desk.bob)
    desk.ok("withdraw", str(5 * UNIT), "--asset", "1", who=desk.bob)
    bundle = str(desk.bundle(desk.bob))
    assert f"{5 * UNIT} acknowledged" in desk.ok("verify", bundle).out
    desk.pass_time(WINDOW_S + 1)
    assert "claimable now 5 TT1" in desk.ok("claim", "--dry-run", who=desk.bob).err
    assert desk.ok("claim", "--json", who=desk.bob).data["paid_atoms"] == ["0", str(5 * UNIT)]


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["withdraw", "1.5", "--asset", "1"], 2, "not a whole number of atoms"),
        (["withdraw", "5", "--asset", "2"], 1, "UNKNOWN_ASSET"),
        (["withdraw", "5", "--asset", "4"], 2, "--asset"),
        (["withdraw", str(10**15), "--asset", "1"], 1, "INSUFFICIENT_BALANCE"),
        (["deposit", "5", "--asset", "3"], 1, "the vault has assets 0 to 1"),
        (["vault", "mint", "5", "--asset", "3"], 1, "the vault has assets 0 to 1"),
        (["vault", "mint", "x", "--asset", "1"], 2, "not a whole number of atoms"),
    ],
)
def test_a_wrong_asset_or_amount_is_refused(desk: Desk, arguments: list[str], status: int, says: str) -> None:
    """Of a lane that the vault has not, or past what is held."""
    refused = desk.run(*arguments, who=desk.bob)
    assert refused.status == status and says in refused.err


# --- portfolio margin, triggers, pledges ---


def test_an_account_on_portfolio_margin_is_reported_as_the_operator_says(desk: Desk) -> None:
    """The mode, the binding scan, and the same figures from the operator, its blocks and its files."""
    desk.ok("margin", "mode", "portfolio", who=desk.alice)
    desk.move("60")
    rows = desk.ok("market", "show", "--json").data["instruments"]
    mark = next(int(row["mark_atoms"]) for row in rows if row["id"] == int(PUT))
    desk.trade(desk.alice, desk.bob, PUT, "5", f"{mark // 1_000 / 1_000:.3f}")
    desk.trade(desk.bob, desk.alice, FUTURE, "5", "60.000")
    found = desk.account(desk.alice)
    assert found["mode"] == "portfolio"
    assert [row["symbol"] for row in found["positions"]] == ["BTC-JUN-60-P", "BTC-JUN"]  # type: ignore[attr-defined]
    served = desk.ok("risk", "account", "--json", who=desk.alice).data
    stored = desk.ok("risk", "account", "--journal", str(desk.data), "--json", who=desk.alice).data
    for report in (served, stored):
        for name in ("equity_atoms", "margin_initial_atoms", "margin_maintenance_atoms"):
            assert report[name] == str(found[name]), name
        assert report["scans"][0]["binding"] and len(report["scans"][0]["scenarios"]) == 35
    page = desk.folder / "risk.html"
    text = desk.ok("risk", "account", str(desk.alice.account), "--html", str(page)).out
    assert "  mode                  portfolio\n" in text and "all together" not in text
    assert "BTC scan" in text and "none" in text
    assert page.read_text().count("<svg") == 3 and "<script" not in page.read_text()
    desk.trade(desk.bob, desk.alice, PUT, "5", f"{mark // 1_000 / 1_000:.3f}")
    desk.trade(desk.alice, desk.bob, FUTURE, "5", "60.000")


def test_one_of_two_triggers_cancels_the_other(desk: Desk) -> None:
    """A stop and a take-profit; each says what it waits for and what it does then."""
    desk.move("60")
    desk.trade(desk.alice, desk.bob, "1", "5", "60.000")
    desk.ok("order", "trigger", "1", "sell", "5", "50.00", "--below", "55.00", "--client-id", "71", who=desk.bob)
    profit = ("order", "trigger", "1", "sell", "5", "64.00", "--above", "65.00", "--client-id", "72", "--oco", "71")
    desk.ok(*profit, "--type", "limit", who=desk.bob)
    shown = desk.ok("account", "show", who=desk.bob).out
    assert "72: sell 5 lots of 1 at or above 65.000000, then limit at 64.000000, or else 71" in shown
    assert "71: sell 5 lots of 1 at or below 55.000000, then market at 50.000000, or else 72" in shown
    gone = desk.ok("order", "cancel", "72", who=desk.bob).out
    assert "reason=USER" in gone and "reason=OCO" in gone
    assert desk.account(desk.bob)["triggers"] == []
    desk.trade(desk.bob, desk.alice, "1", "5", "60.000")


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["1", "sell", "5", "64"], 2, "--above PRICE or --below PRICE"),
        (["1", "sell", "5", "64", "--above", "65", "--below", "5"], 2, "--above PRICE or --below PRICE"),
        (["1", "sell", "5", "64", "--above", "x"], 2, "--above 'x' is not"),
        (["1", "sell", "5", "x", "--below", "5"], 2, "PRICE 'x' is not"),
        (["1", "sell", "5", "64", "--above", "70", "--oco", "x"], 2, "'x' is not a valid number"),
        (["1", "sell", "5", "64", "--above", "70", "--oco", "12345"], 1, "UNKNOWN_ORDER"),
        (["1", "sell", "5", "64", "--above", "50"], 1, "TRIGGER_ALREADY_REACHED"),
        (["999", "sell", "5", "64", "--above", "70"], 1, "UNKNOWN_INSTRUMENT"),
    ],
)
def test_a_bad_trigger_says_what_is_wrong_with_it(desk: Desk, arguments: list[str], status: int, says: str) -> None:
    """Usage errors name the option; refusals come from the reducer."""
    refused = desk.run("order", "trigger", *arguments, who=desk.bob)
    assert refused.status == status and says in refused.err


def test_a_pledge_leaves_equity_and_is_locked(desk: Desk) -> None:
    """It stays the member's, is shown with its time, and cannot be taken back at once."""
    before = int(str(desk.account(desk.alice)["equity_atoms"]))
    desk.ok("margin", "pledge", "500", who=desk.alice)
    found = desk.account(desk.alice)
    assert int(str(found["equity_atoms"])) == before - 500 * UNIT and found["pledged_atoms"] == str(500 * UNIT)
    shown = desk.ok("account", "show", who=desk.alice).out
    assert "pledged" in shown and "500.000000  to the default fund, the last at 20" in shown
    for arguments, code in ((["100", "--release"], "PLEDGE_LOCKED"), (["9999999"], "INSUFFICIENT_BALANCE"),
                            (["0"], "INVALID_AMOUNT")):  # fmt: skip
        refused = desk.run("margin", "pledge", *arguments, who=desk.alice)
        assert (refused.status, refused.code) == (1, code)
    assert desk.run("margin", "pledge", "x", who=desk.alice).status == 2


# --- auctions and keepers ---


def test_a_failing_options_book_is_auctioned_shown_priced_and_sold(desk: Desk) -> None:
    """`margin auctions` quotes what a bid for all pays; the bid gets that or better; then nothing is on offer."""
    desk.move("60")
    if desk.carol.account < 0:
        desk.ok("deposit", "2000", "--owner", desk.carol.address, who=desk.alice)
        desk.enter(desk.carol)
    desk.ok("margin", "mode", "portfolio", who=desk.carol)
    desk.ok("margin", "mode", "portfolio", who=desk.bob)
    assert desk.ok("margin", "auctions").out == "no book is on offer\n"
    nothing = desk.run("margin", "bid", str(desk.carol.account), "--max-pay", "1", who=desk.bob)
    assert (nothing.status, nothing.code) == (1, "NO_AUCTION")
    call = next(r for r in desk.ok("market", "show", "--json").data["instruments"] if r["id"] == int(CALL))
    price = f"{int(call['mark_atoms']) // 1_000 / 1_000:.3f}"
    desk.trade(desk.carol, desk.bob, CALL, "170", price)
    desk.move("68")
    with desk.api() as client:
        wait_for(client.auctions, "the auction")
    offered = desk.ok("margin", "auctions", "--json").data["auctions"][0]
    assert offered["account"] == desk.carol.account and offered["positions"][0]["symbol"] == "BTC-JUN-60-C"
    text = desk.ok("margin", "auctions").out
    assert f"account {desk.carol.account}: all of it pays its bidder " in text and " UTC, marked at -" in text
    assert "its book is on auction" in desk.ok("account", "show", str(desk.carol.account)).out
    dear = desk.run("margin", "bid", str(desk.carol.account), "--max-pay", "-999999", who=desk.bob)
    assert (dear.status, dear.code) == (1, "AUCTION_PRICE")
    most = f"{-int(offered['pay_atoms']) // UNIT}"
    sold = desk.ok("margin", "bid", str(desk.carol.account), "--max-pay", f"-{most}", "--json", who=desk.bob).data
    filled = next(outcome for outcome in sold["outcomes"] if outcome["type"] == "AuctionFilled")
    assert filled["bidder"] == desk.bob.account and int(filled["paid_atoms"]) < 0
    report = desk.ok("risk", "venue", "--json").data
    assert report["liquidations"]["AUCTION"] == 1
    desk.move("60")


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["margin", "bid", "999", "--max-pay", "1"], 1, "UNKNOWN_ACCOUNT"),
        (["margin", "bid", "1", "--max-pay", "x"], 2, "--max-pay 'x' is not"),
        (["margin", "bid", "1", "--max-pay", "1", "--share", "0"], 2, "--share"),
        (["margin", "mode", "brave"], 2, "'standard', 'portfolio'"),
        (["margin", "auctions", "--api", DEAD], 4, "OPERATOR_UNREACHABLE"),
        (["keeper", "run", "--once", "--account", "999"], 1, "UNKNOWN_ACCOUNT"),
        (["keeper", "run", "--once", "--key", "/nonexistent"], 1, "KEY_FILE_MISSING"),
        (["keeper", "run", "--once", "--fund-floor", "x"], 2, "--fund-floor 'x' is not"),
        (["keeper", "run", "--once", "--api", DEAD], 4, "OPERATOR_UNREACHABLE"),
    ],
)
def test_bids_and_keepers_refuse_what_they_cannot_do(desk: Desk, arguments: list[str], status: int, says: str) -> None:
    """Before a keeper starts to watch, it knows that it could act."""
    refused = desk.run(*arguments, who=desk.bob)
    assert refused.status == status and says in refused.err


def test_a_keeper_looks_once_from_the_interface_or_from_files(desk: Desk) -> None:
    """A calm venue needs nothing; a key that is not the account's is told before anything is read."""
    for source in ((), ("--journal", str(desk.data))):
        done = desk.ok("keeper", "run", "--once", *source, who=desk.bob)
        assert '"event": "done"' in done.err and '"submitted": 0' in done.err
    stranger = desk.run("keeper", "run", "--once", "--key", str(desk.alice.key), who=desk.bob)
    assert (stranger.status, stranger.code) == (1, "UNKNOWN_KEY")


# --- parameters ---


def test_parameters_are_shown_as_they_are_set_and_read_back_as_they_are_printed(desk: Desk) -> None:
    """`params show --json` is what `operator init --params` takes; a path shows its part."""
    shown = desk.ok("params", "show", "ladder").out
    assert "  ladder.cooldown_us = 30_000_000\n" in shown and "presets" not in shown
    assert "35 rows" in desk.ok("params", "show").out
    assert "presets.0.scenarios.34.spot = 5_000_000_000_000" in desk.ok("params", "show", "presets.0.scenarios").out
    tree = desk.ok("params", "show", "--json")
    path = desk.folder / "printed.json"
    path.write_text(tree.out)
    found = read_params(path)
    assert named(found) == tree.data["params"] and found != Params()


def test_a_change_is_checked_proposed_and_waits(desk: Desk) -> None:
    """The bound that is broken is named, and nothing is sent; a proposal shows with its time."""
    change = ("--set", "ladder.cooldown_us=60_000_000")
    digest = desk.ok("params", "check", *change, "--json").data["params_hash"]
    assert digest in desk.ok("params", "propose", *change, "--in-hours", "5").out
    assert "proposed: version 2, from the first epoch after 20" in desk.ok("params", "show").out
    for arguments, status, says in (
        (["propose", "--set", "ladder.cooldown_us=-1"], 1, "INVALID_PARAMS: the cool-down"),
        (["propose", *change, "--data", "/nonexistent"], 1, "KEY_NOT_HELD"),
        (["propose", *change, "--in-hours", "x"], 2, "--in-hours"),
        (["check", "--set", "ladder.nope=5"], 1, "UNKNOWN_PARAMETER: ladder.nope"),
        (["check", "--set", "ladder=5"], 1, "UNKNOWN_PARAMETER: ladder"),
        (["check", "--set", "ladder.cooldown_us"], 2, "not PATH=NUMBER"),
        (["check"], 2, "--set"),
        (["show", "nope"], 1, "UNKNOWN_PARAMETER"),
    ):
        refused = desk.run("params", *arguments)
        assert refused.status == status and says in refused.err, refused.err


# --- reports ---


def test_the_venue_and_its_stress_are_reported_with_pages(desk: Desk) -> None:
    """All scenarios and the reverse stress, each conserving money; pages without scripts or requests."""
    pages = desk.folder / "venue.html", desk.folder / "stress.html"
    text = desk.ok("risk", "venue", "--html", str(pages[0])).out
    assert "Default resources" in text and "cover-2" in text
    run = desk.ok("stress", "run", "--all", "--reverse", "--html", str(pages[1]), "--json").data
    names = [row["name"] for row in desk.ok("stress", "list", "--json").data["scenarios"]]
    assert [row["scenario"] for row in run["runs"]] == names
    assert all(row["conserved"] for row in run["runs"]) and len(run["reverse"]["rows"]) == 4
    for page in pages:
        html = page.read_text()
        assert "<script" not in html and "http://www" not in html and "What this rests on" in html
    assert "<h2>Overview</h2>" in pages[1].read_text()
    assert desk.ok("stress", "run", "up-50", "down-50", "--at", str(run["provenance"]["seq"])).out.count("yes") >= 2


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["risk", "account", "999"], 1, "UNKNOWN_ACCOUNT"),
        (["risk", "account", "x"], 2, "'x' is not a valid number"),
        (["risk", "account", "3", "--at", "999999"], 1, "UNKNOWN_SEQ"),
        (["risk", "account", "3", "--journal", "/nonexistent"], 2, "--journal"),
        (["risk", "account", "3", "--journal", "/"], 1, "JOURNAL_NOT_FOUND"),
        (["risk", "account", "3", "--html", "/nonexistent/x.html"], 1, "IO_ERROR"),
        (["risk", "venue", "--api", DEAD], 4, "OPERATOR_UNREACHABLE"),
        (["stress", "run", "nope"], 1, "UNKNOWN_SCENARIO"),
        (["stress", "run"], 2, "name scenarios"),
        (["stress", "run", "up-50", "--all"], 2, "name scenarios"),
    ],
)
def test_a_report_that_cannot_be_made_says_why(desk: Desk, arguments: list[str], status: int, says: str) -> None:
    """With the interface from NOVATE_API where nothing else is given."""
    refused = desk.run(*arguments)
    assert refused.status == status and says in refused.err


def test_the_journal_of_all_this_replays(desk: Desk) -> None:
    """Every outcome again, and every posted root."""
    desk.next_epoch()
    audit = desk.ok("audit", "replay", "--json").data
    assert audit["ok"] and audit["chain_compared"]
