# SPDX-License-Identifier: GPL-3.0-or-later
"""A member's journey on a real venue, by command line: deposit, delegate, trade, withdraw, verify."""

import json
import re
from pathlib import Path

import pytest

from clearing.cli.output import usd
from tests.cli.venue import DEAD, WINDOW_S, Person, Venue

pytestmark = pytest.mark.slow

UNIT = 1_000_000


def account(venue: Venue, person: Person) -> dict[str, object]:
    found: dict[str, object] = venue.ok("account", "show", "--json", who=person).data
    return found


def place(venue: Venue, person: Person, *arguments: str) -> dict[str, object]:
    venue.fresh()
    found: dict[str, object] = venue.ok("order", "place", *arguments, "--json", who=person).data
    return found


@pytest.fixture
def calm(venue: Venue) -> Venue:
    """A fresh price, and no orders and no positions of anybody."""
    assert venue.publish("60.00").status == 0
    venue.flatten()
    return venue


# --- deposit and accounts ---


def test_a_deposit_becomes_equity_and_text_and_json_say_the_same(calm: Venue) -> None:
    """What was paid in is what `account show` shows, with the account from NOVATE_ACCOUNT."""
    before = int(str(account(calm, calm.alice)["cash_atoms"]))
    paid = calm.ok("deposit", "12.34", "--json", who=calm.alice).data
    assert paid["amount"] == "12.340000" and paid["owner"] == calm.alice.address
    calm.next_epoch()
    found = account(calm, calm.alice)
    assert int(str(found["cash_atoms"])) == before + 12_340_000
    text = calm.ok("account", "show", who=calm.alice).out
    rows = dict(line.split() for line in text.splitlines()[2:7])
    for name, shown in rows.items():
        assert shown == usd(int(str(found[f"{name}_atoms"])))
    assert f"account {calm.alice.account} of {calm.alice.address}" in text


def test_an_owner_shows_accounts_and_keys(venue: Venue) -> None:
    """--owner wins over NOVATE_ACCOUNT; two explicit choices are a usage error."""
    shown = venue.ok("account", "show", "--owner", venue.alice.address, who=venue.alice).out
    assert f"account {venue.alice.account} (sub 0)" in shown and "trade,withdraw,transfer until 20" in shown
    assert venue.run("account", "show", "3", "--owner", venue.alice.address).status == 2
    nobody = venue.run("account", "show", "--owner", "0x" + "11" * 20)
    assert (nobody.status, nobody.code) == (1, "UNKNOWN_OWNER")


def test_the_vault_says_why_it_refuses_a_deposit(venue: Venue) -> None:
    """More than the wallet holds; and a first deposit below the minimum."""
    poor = venue.run("deposit", "99999", who=venue.alice)
    assert (poor.status, poor.code) == (1, "TX_REVERTED") and "holds less of the token" in poor.err
    small = venue.run("deposit", "1", "--owner", "0x" + "11" * 20, who=venue.alice)
    assert (small.status, small.code) == (1, "TX_REVERTED") and "minimum=10000000" in small.err


# --- keys ---


def test_a_key_does_what_its_scope_says_and_nothing_after_its_revocation(calm: Venue) -> None:
    """A trading key may not withdraw; a revoked one may do nothing."""
    key = calm.folder / "trading.key"
    public = calm.ok("key", "new", str(key), "--json").data["public_key"]
    trader = Person(calm.bob.wallet, key, calm.bob.address, calm.bob.account)
    unknown = calm.run("order", "place", "1", "buy", "1", "50.00", who=trader)
    assert (unknown.status, unknown.code) == (1, "UNKNOWN_KEY")
    calm.ok("key", "register", "--scope", "trade", "--days", "2", who=trader)
    place(calm, trader, "1", "buy", "1", "50.00", "--client-id", "7")
    refused = calm.run("withdraw", "1", who=trader)
    assert (refused.status, refused.code) == (1, "OUT_OF_SCOPE")
    calm.ok("key", "revoke", "--public", public, who=trader)
    gone = calm.run("order", "place", "1", "buy", "1", "50.00", who=trader)
    assert (gone.status, gone.code) == (1, "UNKNOWN_KEY")
    assert f"key {public}: revoked" in calm.ok("account", "show", "--owner", calm.bob.address).out


def test_keys_are_never_overwritten_and_never_read_when_others_can(venue: Venue) -> None:
    """Both kinds of key file, for reading and for writing."""
    again = venue.run("key", "new", str(venue.alice.key))
    assert (again.status, again.code) == (1, "KEY_FILE_EXISTS")
    again = venue.run("key", "new", str(venue.alice.wallet), "--wallet")
    assert (again.status, again.code) == (1, "KEY_FILE")
    open_key, open_wallet = venue.folder / "open.key", venue.folder / "open.wallet"
    for source, copy in ((venue.alice.key, open_key), (venue.alice.wallet, open_wallet)):
        copy.write_text(source.read_text())
        copy.chmod(0o644)
    session = venue.run("withdraw", "1", "--key", str(open_key), who=venue.alice)
    assert (session.status, session.code) == (1, "KEY_FILE_UNSAFE") and "chmod 600" in session.err
    wallet = venue.run("deposit", "1", "--wallet", str(open_wallet), who=venue.alice)
    assert (wallet.status, wallet.code) == (1, "KEY_FILE") and "chmod 600" in wallet.err


# --- orders ---


def test_limit_and_market_orders_meet_and_both_accounts_show_it(calm: Venue) -> None:
    """A resting limit order, a market order against it, the positions, and closing them again."""
    resting = place(calm, calm.alice, "1", "sell", "5", "60.10", "--client-id", "100")
    assert resting["outcomes"][0]["type"] == "OrderPlaced"  # type: ignore[index]
    assert "order     100: sell 5 lots of 1 at 60.100000" in calm.ok("account", "show", who=calm.alice).out
    taken = place(calm, calm.bob, "1", "buy", "5", "61.00", "--type", "market", "--tif", "ioc")
    fill = next(o for o in taken["outcomes"] if o["type"] == "TradeNovated")  # type: ignore[attr-defined]
    assert (fill["price_atoms"], fill["size_lots"]) == ("60100000", "5")
    assert "instrument 1: -5 lots at mark" in calm.ok("account", "show", who=calm.alice).out
    assert "instrument 1: +5 lots at mark" in calm.ok("account", "show", who=calm.bob).out
    place(calm, calm.bob, "1", "sell", "5", "60.10")
    place(calm, calm.alice, "1", "buy", "5", "60.10", "--reduce-only")
    assert account(calm, calm.alice)["positions"] == account(calm, calm.bob)["positions"] == []


def test_a_post_only_order_rests_or_is_refused(calm: Venue) -> None:
    """It never takes: refused when it would, with the outcome shown and the code at the end."""
    place(calm, calm.alice, "1", "sell", "2", "60.50")
    refused = calm.run("order", "place", "1", "buy", "2", "60.50", "--post-only", who=calm.bob)
    assert (refused.status, refused.code) == (1, "POST_ONLY_WOULD_CROSS")
    assert "Rejected: index=0, code=POST_ONLY_WOULD_CROSS" in refused.out
    place(calm, calm.bob, "1", "buy", "2", "60.40", "--post-only")
    assert len(account(calm, calm.bob)["orders"]) == 1  # type: ignore[arg-type]


def test_orders_are_cancelled_one_by_one_or_all_together(calm: Venue) -> None:
    """By the id that their owner gave them."""
    for number in ("21", "22", "23"):
        lives = ("--tif", "gtt", "--expires-in", "600") if number == "22" else ()
        place(calm, calm.alice, "1", "buy", "1", f"5{number[1]}.00", "--client-id", number, *lives)
    calm.ok("order", "cancel", "22", who=calm.alice)
    left = account(calm, calm.alice)["orders"]
    assert [order["client_order_id"] for order in left] == ["21", "23"]  # type: ignore[attr-defined]
    calm.ok("order", "cancel", "--all", who=calm.alice)
    assert account(calm, calm.alice)["orders"] == []
    gone = calm.run("order", "cancel", "22", who=calm.alice)
    assert (gone.status, gone.code) == (1, "UNKNOWN_ORDER")


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["0", "60.00"], 1, "INVALID_SIZE"),
        (["1000000000000", "60.00"], 1, "ORDER_TOO_LARGE"),
        (["9" * 30, "60.00"], 2, "LOTS"),
        (["1", "60.0001"], 1, "INVALID_PRICE"),
        (["1", "9" * 30], 2, "too large"),
        (["1", "9" * 5_000], 2, "too large"),
        (["900", "60.00"], 1, "INSUFFICIENT_MARGIN"),
        (["1", "60.00", "--client-id", "9" * 30], 2, "--client-id"),
        (["1", "60.00", "--tif", "gtt"], 2, "--expires-in"),
        (["1", "60.00", "--account", "0"], 1, "UNKNOWN_KEY"),
        (["1", "60.00", "--account", "77"], 1, "UNKNOWN_ACCOUNT"),
        (["1", "60.00", "--account", "9" * 30], 2, "--account"),
        (["1", "60.00", "--api", DEAD], 4, "OPERATOR_UNREACHABLE"),
    ],
)  # fmt: skip
def test_a_bad_order_says_what_is_wrong_with_it(venue: Venue, arguments: list[str], status: int, says: str) -> None:
    """Usage errors before anything is sent; refusals with the reducer's code."""
    refused = venue.run("order", "place", "1", "buy", *arguments, who=venue.alice)
    assert refused.status == status and says in refused.err


# --- withdraw and claim ---


def test_a_withdrawal_is_paid_once_when_its_epoch_is_final(calm: Venue) -> None:
    """Acknowledged at once, posted, waiting through the window, then paid to the atom, and not again."""
    more = calm.run("withdraw", "999999", who=calm.alice)
    assert (more.status, more.code) == (1, "INSUFFICIENT_BALANCE")
    calm.ok("claim", who=calm.alice)
    calm.ok("withdraw", "10.50", who=calm.alice)
    calm.next_epoch()
    early = calm.ok("claim", "--json", who=calm.alice)
    assert early.data["paid_atoms"] == ["0"] and "is posted and final in 0 h 59 min" in early.err
    calm.pass_time(WINDOW_S + 1)
    planned = calm.ok("claim", "--dry-run", "--json", who=calm.alice).data
    assert planned["steps"][0]["step"].startswith("claim: 10500000 atoms") and planned["steps"][0]["gas"] > 50_000
    assert calm.ok("claim", "--json", who=calm.alice).data["paid_atoms"] == [str(10_500_000)]
    assert calm.ok("claim", who=calm.alice).out == "nothing can be paid now\n"


def test_leaving_while_the_operator_is_alive_says_when_it_will_be_possible(venue: Venue) -> None:
    """The status before the deadline; and who pays must be known before anything is read."""
    status = venue.ok("exit", "--dry-run", "--owner", venue.bob.address)
    assert re.search(r"without another epoch anyone may freeze in 16[67] h \d+ min", status.err)
    assert venue.run("exit", "--owner", venue.bob.address).status == 2
    assert venue.run("exit", "--all", "--dry-run", who=venue.bob).status == 2


# --- proofs ---


def tampered(bundle: Path, name: str) -> Path:
    """The bundle with one atom more on the exit leaf."""
    data = json.loads(bundle.read_text())
    data["exit"]["exits"][0] = str(int(data["exit"]["exits"][0]) + 1)
    other = bundle.with_suffix(f".{name}")
    other.write_text(json.dumps(data))
    return other


def test_a_bundle_verifies_offline_and_against_the_chain_and_nothing_else_does(venue: Venue) -> None:
    """0 when it holds; 3 when it does not; 4 when it could not be checked against the chain."""
    bundle = str(venue.bundle(venue.alice))
    key = "0x" + json.loads(Path(bundle).read_text())["operator_key"]
    whole = venue.ok("verify", bundle, "--operator-key", key, "--json").data
    assert whole["ok"] and whole["complete"]
    offline = venue.ok("verify", bundle, "--json", env={"NOVATE_RPC": ""}).data
    assert offline["ok"] and not offline["complete"]
    assert [s["name"] for s in offline["steps"] if s["status"] == "skipped"] == ["chain"]
    wrong = venue.run("verify", str(tampered(Path(bundle), "tampered")))
    assert (wrong.status, wrong.code) == (3, "PROOF_INVALID") and "FAILED" in wrong.out
    other = venue.run("verify", bundle, env={"NOVATE_VAULT": venue.deployed["token"]})
    assert (other.status, other.code) == (3, "WRONG_VAULT")
    forged = venue.run("verify", bundle, "--operator-key", "0x" + "11" * 32)
    assert (forged.status, forged.code) == (3, "PROOF_INVALID") and "FAILED   checkpoint" in forged.out
    down = venue.run("verify", bundle, "--rpc", DEAD)
    assert (down.status, down.code) == (4, "RPC_UNREACHABLE") and "skipped  chain" in down.out
    both = venue.run("verify", str(tampered(Path(bundle), "both")), "--rpc", DEAD)
    assert both.status == 3, "a proof that is wrong is wrong, whether or not the chain answers"


def test_a_bundle_shows_what_the_account_holds(calm: Venue) -> None:
    """The amounts on the exit leaf are the account's equity and what was acknowledged."""
    bundle = json.loads(calm.bundle(calm.bob).read_text())
    shown = calm.ok("account", "show", "--owner", calm.bob.address, "--json").data
    assert bundle["exit"]["exits"] == [str(x) for x in shown["exits_atoms"]]
    assert bundle["exit"]["owner"] == calm.bob.address[2:]
    nobody = calm.run("proof", "get", "0x" + "11" * 20)
    assert (nobody.status, nobody.code) == (1, "UNKNOWN_OWNER")
