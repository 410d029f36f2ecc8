# SPDX-License-Identifier: GPL-3.0-or-later
"""The user page against a running venue: orders, fills, proofs, withdrawals, leaving, and what it says when the venue
is gone. Real processes, a real chain, real keys; the only thing injected is a wallet."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from clearing.model import ids
from clearing.model.signature import public_key_of
from tests.browser.live import UserTab, user
from tests.browser.sites import PHONE
from tests.browser.venue import PRICE, WINDOW_S, LiveVenue
from tests.service.chains import DEADLINE_S
from tests.service.world import USD, owner_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveVenue]:
    made = LiveVenue(tmp_path_factory.mktemp("venue"))
    try:
        made.open()
        with made.feeding():
            yield made
    finally:
        made.close()


@pytest.fixture
def alice(chromium: Browser, venue: LiveVenue) -> Iterator[UserTab]:
    """Alice's page with a key that her wallet has allowed."""
    with user(chromium, venue) as made:
        made.connect()
        made.make_key()
        yield made


# -- keys


def test_a_key_is_registered_by_the_wallet(chromium: Browser, venue: LiveVenue, tmp_path: Path) -> None:
    """One EIP-712 signature, and the journal has the key with the scope that was ticked; the saved file is the
    command line's and works in another page without a wallet."""
    with user(chromium, venue) as page:
        page.connect()
        page.make_key("withdraw")
        assert page.wallet.asked.count("eth_signTypedData_v4") == 1
        assert page.wallet.sent == []
        assert page.facts("key-facts")["May"] == "trade"
        with page.page.expect_download() as saving:
            page.page.click("#key-save")
        file = tmp_path / "session.key"
        saving.value.save_as(file)
    seed = bytes.fromhex(file.read_text().strip())
    keys = {one["key"]: one for one in venue.api.owner(owner_of("alice"))["keys"]}
    assert keys["0x" + public_key_of(seed).hex()]["scope"] == ids.SCOPE_TRADE
    with user(chromium, venue, wallet=False) as page:
        expect(page.page.locator("#connect")).to_be_hidden()
        page.page.fill("#owner", "0x" + owner_of("alice").hex())
        page.page.click("#look")
        page.wait_text("#balance", "Equity")
        page.page.set_input_files("#key-file", file)
        page.wait_text("#key-facts", "trade")
        assert "Buy BTC-PERP" in page.order("buy", "1", "1.00")
        assert "cancelled" in page.send("cancel-all", "orders-said")
        page.page.fill("#withdraw-amount", "1")
        assert "may not do that" in page.send("withdraw-send", "withdraw-said")


def test_a_refusing_wallet_changes_nothing(chromium: Browser, venue: LiveVenue) -> None:
    """Said in words, and the key stays unusable until it is allowed."""
    before = len(venue.api.owner(owner_of("alice"))["keys"])
    with user(chromium, venue) as page:
        page.connect()
        page.page.click("#key-new")
        page.wallet.refuses.add("eth_signTypedData_v4")
        assert "refused it in the wallet" in page.send("key-allow", "key-said")
        assert "allow it with your wallet first" in page.order("buy", "1", "1.00")
        assert len(venue.api.owner(owner_of("alice"))["keys"]) == before
        page.page.fill("#owner", "0x" + owner_of("bob").hex())
        page.send("look", "who-said")
        page.wallet.refuses.clear()
        assert "the account belongs to" in page.send("key-allow", "key-said")


# -- orders


def test_an_order_is_placed_and_its_fill_is_seen(alice: UserTab, venue: LiveVenue) -> None:
    """Through the page's own interface, live: receipt, position, fill, entry of the journal, and the other way out."""
    venue.place("bob", ids.SELL, PRICE, 2)
    alice.wait_rows("asks", "500.00 . 2")
    said = alice.order("buy", "2", "500.00")
    assert "Buy BTC-PERP: filled 2 of 2 lots" in said
    seq = alice.entry(said)
    fill = alice.wait_rows("fills", f"buy . 500.00 . 2 . .* taker . {seq}")[0]
    assert fill[1] == "BTC-PERP"
    assert alice.wait_rows("positions", "BTC-PERP . 2")
    assert venue.api.receipt(seq)["seq"] == seq
    venue.place("bob", ids.BUY, PRICE, 2)
    assert "filled 2 of 2" in alice.order("sell", "2", "500.00", "market")
    alice.wait_rows("positions", "No position")


def test_a_resting_order_is_seen_and_cancelled(alice: UserTab, venue: LiveVenue) -> None:
    """It appears without a reload, from this page or from elsewhere, and the row's own button takes it away."""
    said = alice.order("buy", "4", "450.00")
    assert "it rests in the book" in said
    alice.wait_rows("orders", "buy . 450.00 . 4")
    alice.page.click("#orders button")
    alice.wait_text("#orders-said", "Cancelled: buy BTC-PERP at 450.00")
    alice.wait_rows("orders", "No open order")
    assert venue.api.account(venue.session("alice").account)["orders"] == []


def test_margin_is_told_before_sending(alice: UserTab) -> None:
    """What an order would do is there while it is typed; one that would be refused is said to be, and then is."""
    alice.page.fill("#size", "2")
    alice.page.fill("#price", "400")
    alice.wait_text("#estimate", "Free after")
    assert alice.facts("estimate")["Value"] == "800.00"
    alice.page.fill("#size", "100000")
    alice.wait_text("#estimate-said", "INSUFFICIENT_MARGIN")
    assert "INSUFFICIENT_MARGIN" in alice.send("place", "ticket-said")


@pytest.mark.parametrize(
    ("size", "price", "text"),
    [
        ("", "500", "The size is not a whole number"), ("0", "500", "The size must be more than zero"),
        ("1", "x", "The price is not a number"), ("1", "500.001", "The price must be a multiple of 0.01"),
        ("1", "500.0000001", "The price has more than 6 decimal places"),
    ],
)  # fmt: skip
def test_a_field_says_what_is_wrong(alice: UserTab, size: str, price: str, text: str) -> None:
    """In words, at the field, with the focus there; nothing is sent."""
    assert text in alice.order("buy", size, price)
    wrong = "size" if "size" in text else "price"
    assert alice.page.get_attribute(f"#{wrong}", "aria-invalid") == "true"
    assert alice.page.evaluate("document.activeElement.id") == wrong


def test_an_order_by_keyboard_alone(chromium: Browser, venue: LiveVenue) -> None:
    """From the top of the page with Tab, arrows, space and Enter: connect, make a key, allow it, order."""
    with user(chromium, venue) as page:
        keyboard = page.page.keyboard

        def reach(name: str) -> None:
            for _ in range(80):
                active = "document.activeElement.id || document.activeElement.value"
                if page.page.evaluate(active) == name:
                    return
                keyboard.press("Tab")
            raise AssertionError(f"Tab never came to {name}")

        reach("connect")
        keyboard.press("Enter")
        page.wait_text("#balance", "Equity")
        reach("key-new")
        keyboard.press("Space")
        page.wait_text("#key-said", "allow it")
        assert page.page.evaluate("document.activeElement.id") == "key-allow", "the focus goes on to the next step"
        keyboard.press("Enter")
        page.wait_text("#key-said", "you can trade now")
        reach("buy")
        keyboard.press("ArrowRight")
        reach("size")
        keyboard.type("1")
        reach("price")
        keyboard.type("612.5")
        keyboard.press("Enter")
        page.wait_text("#ticket-said", "Sell BTC-PERP: it rests in the book")
        page.wait_rows("orders", "sell . 612.50 . 1")
        assert "cancelled" in page.send("cancel-all", "orders-said")


# -- proofs


def test_a_bundle_is_downloaded_and_verified_and_a_tampered_one_refused(
    alice: UserTab, venue: LiveVenue, tmp_path: Path
) -> None:
    """With the chain asked through the wallet. A changed amount, or somebody else's bundle, never looks good."""
    venue.next_epoch()
    alice.page.click("#proof-verify")
    alice.wait_text("#proof-verdict", "proof holds")
    page = alice.page
    page.click("#proof-details summary")
    assert page.locator("#proof-steps .badge.failed").count() == 0
    assert "The vault has this header, by your-wallet" in alice.text("#proof-steps")
    assert "TUSD" in alice.text("#proof-summary")
    with page.expect_download() as saving:
        page.click("#proof-save")
    file = tmp_path / "bundle.json"
    saving.value.save_as(file)
    assert saving.value.suggested_filename.startswith("novate-" + owner_of("alice").hex()[:8])
    page.set_input_files("#proof-file", file)
    alice.wait_text("#proof-verdict", "proof holds")
    bundle = json.loads(file.read_text())
    bundle["exit"]["exits"][0] = str(int(bundle["exit"]["exits"][0]) + 1)
    tampered = tmp_path / "tampered.json"
    tampered.write_text(json.dumps(bundle))
    page.set_input_files("#proof-file", tampered)
    alice.wait_text("#proof-verdict", "This proof does not hold")
    assert "EXIT_PROOF_INVALID" in alice.text("#proof-verdict")
    other = tmp_path / "bob.json"
    other.write_bytes(venue.api.bundle(owner_of("bob")))
    page.set_input_files("#proof-file", other)
    alice.wait_text("#proof-verdict", "WRONG_OWNER")
    nothing = tmp_path / "nothing.json"
    nothing.write_text("{}")
    page.set_input_files("#proof-file", nothing)
    alice.wait_text("#proof-verdict", "BUNDLE_MALFORMED")


def test_a_final_bundle_is_green(alice: UserTab, venue: LiveVenue, tmp_path: Path) -> None:
    """A kept bundle, once its epoch is final on the chain, is good without reservation."""
    venue.next_epoch()
    file = tmp_path / "bundle.json"
    file.write_bytes(venue.api.bundle(owner_of("alice")))
    venue.deployed.places[0].pass_time(WINDOW_S + 1)
    alice.page.fill("#rpc", venue.node.url)
    alice.page.set_input_files("#proof-file", file)
    alice.wait_text("#proof-verdict", "proof holds")
    assert "final: nobody can void it" in alice.text("#proof-summary")
    alice.page.fill("#rpc", "not an address")
    assert "RPC_URL" in alice.send("proof-verify", "proof-said")


# -- money out


def test_money_is_withdrawn_and_claimed(alice: UserTab, venue: LiveVenue) -> None:
    """Signed here, acknowledged, posted, final, claimed by the wallet with the exact calldata shown; paid to the
    token's atom."""
    before = venue.tokens("alice")
    alice.page.fill("#withdraw-amount", "12.345678")
    said = alice.send("withdraw-send", "withdraw-said")
    assert "Acknowledged in entry" in said
    alice.wait_rows("withdrawals", "12.345678")
    venue.next_epoch()
    alice.wait_rows("withdrawals", "12.345678 .* posted: claim it")
    venue.deployed.places[0].pass_time(WINDOW_S + 1)
    alice.page.click("#chain-look")
    alice.wait_text("#leave-said", "As of block time")
    assert alice.facts("chain-facts")["Vault"] == "open"
    alice.page.wait_for_selector("#call-claim")
    alice.page.click(".call:has(#call-claim) summary")
    shown = alice.text(".call:has(#call-claim) pre")
    alice.page.click("#call-claim")
    alice.wait_text("#claim-said", "Done in block")
    assert venue.tokens("alice") - before == 12_345_678
    (sent,) = alice.wallet.sent
    assert sent["to"] in shown and sent["data"] in shown and sent["value"] == "0x0"
    alice.wait_rows("owed", r"12\.345678 . 12\.345678 . 0\.00$")
    alice.page.click("#call-claim")
    alice.wait_text("#claim-said", "NothingToClaim")
    assert len(alice.wallet.sent) == 1, "what would be refused is not sent, so that it costs nothing"


def test_a_withdrawal_is_forced_at_the_vault(alice: UserTab, venue: LiveVenue) -> None:
    """Past the operator: from the wallet to the contract, whose inbox has the request; the operator obeys."""
    before = venue.deployed.vault.inbox_count()
    alice.page.click("#chain-look")
    alice.page.click("#call-force-withdrawal")
    alice.wait_text("#force-withdrawal-said", "Done in block")
    assert venue.deployed.vault.inbox_count() == before + 1
    alice.wait_rows("withdrawals", r"\d")
    assert f"--vault 0x{venue.deployed.vault.address.hex()}" in alice.text("#exit-command")


def test_too_much_is_refused_in_words(alice: UserTab) -> None:
    """The venue's code with what to do about it."""
    alice.page.fill("#withdraw-amount", str(10**6))
    said = alice.send("withdraw-send", "withdraw-said")
    assert "INSUFFICIENT_BALANCE" in said and "free balance" in said


# -- when the venue is gone


def test_staleness_is_shown_and_goes_away(chromium: Browser, venue: LiveVenue) -> None:
    """kill -9: the page says so with an age that grows, keeps the last figures and never shows them as live; after a
    restart it comes back by itself and has missed nothing."""
    with user(chromium, venue, "bob") as page, page.offline_expected():
        page.connect()
        page.wait_text("#fresh", "live")
        shown = page.facts("balance")
        venue.kill()
        page.wait_text("#fresh", "reconnecting")
        page.wait_text("#stale", "The connection to the venue is lost")
        assert page.facts("balance") == shown
        page.wait_text("#fresh", "5 s old")
        assert "not answer" in page.send("look", "who-said")
        venue.start()
        page.wait_text("#fresh", "live", 40_000)
        expect(page.page.locator("#stale")).to_be_hidden()
        venue.publish(PRICE)
        receipt = venue.place("bob", ids.SELL, PRICE * 2, 1)
        page.wait_rows("orders", "sell . 1,000.00 . 1")
        assert receipt["seq"]
        venue.place("bob", ids.BUY, PRICE // 2, 1)
        page.wait_rows("orders", "buy . 250.00 . 1")


def test_a_stopped_sequencer_is_told(chromium: Browser, venue: LiveVenue) -> None:
    """The interface still answers, but hears nothing new: that is not shown as live."""
    assert venue.process is not None
    with user(chromium, venue, "bob") as page:
        page.connect()
        page.wait_text("#fresh", "live")
        venue.process.send_signal(signal.SIGSTOP)
        try:
            page.wait_text("#fresh", "stale")
            page.wait_text("#stale", "does not hear from its sequencer")
        finally:
            venue.process.send_signal(signal.SIGCONT)
        page.wait_text("#fresh", "live")
        expect(page.page.locator("#stale")).to_be_hidden()


def test_one_leaves_when_the_operator_is_gone(chromium: Browser, tmp_path: Path) -> None:
    """The page that is open and a bundle that was verified in it are enough: freeze after the deadline, then escape
    with everything, both from the wallet, with no server left."""
    venue = LiveVenue(tmp_path, epoch_seconds=8)
    try:
        venue.open()
        venue.next_epoch()
        with user(chromium, venue) as page, page.offline_expected():
            page.connect()
            page.page.click("#proof-verify")
            page.wait_text("#proof-verdict", "")
            page.page.wait_for_selector("#proof-verdict:not([hidden])")
            venue.kill()
            venue.deployed.places[0].pass_time(DEADLINE_S + 1)
            page.page.click("#chain-look")
            page.wait_text("#advice", "anyone may freeze the vault now")
            page.page.click("#call-freeze")
            page.wait_text("#freeze-said", "Done in block")
            assert venue.deployed.vault.frozen()
            page.page.click("#chain-look")
            page.wait_text("#advice", "escape now")
            page.page.click("#call-escape")
            page.wait_text("#escape-said", "Done in block")
            assert venue.tokens("alice") == 1_000 * USD
            page.page.click("#chain-look")
            page.wait_text("#advice", "You have left")
    finally:
        venue.close()


def test_a_page_opened_on_a_phone_needs_no_sideways_scrolling(chromium: Browser, venue: LiveVenue) -> None:
    """360 px: the page itself fits; only tables scroll, inside their cards."""
    with user(chromium, venue, viewport=PHONE, has_touch=True, is_mobile=True) as page:
        page.connect()
        wide = page.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide[0] <= wide[1] == PHONE["width"]
