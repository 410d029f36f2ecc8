# SPDX-License-Identifier: GPL-3.0-or-later
"""Console, auditor's page and start page against a running venue; every page under axe-core, in both themes and at a
phone's width."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect

from clearing.model import ids
from tests.browser.live import UserTab, user
from tests.browser.sites import DESKTOP, PHONE, Tab, tab
from tests.browser.venue import PRICE, LiveVenue, patiently
from tests.cli.venue import command_line

pytestmark = pytest.mark.slow
AXE = Path(__file__).resolve().parents[2] / "clearing/web/node_modules/axe-core/axe.min.js"


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveVenue]:
    made = LiveVenue(tmp_path_factory.mktemp("venue"))
    try:
        made.open()
        made.register("alice")
        with made.feeding():
            for lots in range(1, 4):
                made.place("bob", ids.SELL, PRICE + 50_000 * lots, lots)
                made.place("alice", ids.BUY, PRICE - 50_000 * lots, lots)
            made.place("bob", ids.SELL, PRICE - 50_000, 1)
            made.next_epoch()
            yield made
    finally:
        made.close()


@pytest.fixture
def console(chromium: Browser, venue: LiveVenue) -> Iterator[UserTab]:
    with tab(chromium, UserTab) as made:
        made.page.goto(venue.private_url + "/")
        made.wait_text("#health-facts", "Commands")
        yield made


@pytest.fixture
def auditor(chromium: Browser, venue: LiveVenue) -> Iterator[UserTab]:
    with tab(chromium, UserTab) as made:
        made.page.goto(venue.url + "/auditor")
        made.wait_text("#checkpoint-tag", "signed")
        yield made


# -- the console


def test_the_console_shows_the_private_figures(console: UserTab, venue: LiveVenue) -> None:
    """What /v1/operator tells: posting, freeze, gas, oracle, risk, waterfall; each with its age of a second."""
    figures = httpx.get(venue.private_url + "/v1/operator", trust_env=False).json()["figures"]
    health, risk = console.facts("health-facts"), console.facts("risk-facts")
    assert health["Commands"] == "taken" and health["Waterfall"] == figures["stage_name"]
    assert "min" in health["Time to freeze"]
    assert int(health["Epochs of gas left"].replace(",", "")) > 0
    assert risk["Defaulters"] == "0" and risk["Near maintenance"] == str(figures["near_count"])
    assert console.facts("oracle-facts")["Fresh publishers"] == "1 of 1"
    vault = console.rows("vaults")[0]
    assert vault[0] == "0" and "ether" in vault[7]
    before = int(console.facts("process-facts")["Journal entries"].replace(",", ""))
    venue.publish(PRICE)
    script = "n => +[...document.querySelectorAll('#process-facts dd')][2].innerText.replace(/,/g, '') > n"
    console.page.wait_for_function(script, arg=before)
    console.wait_text("#private-fresh", "figures: ")
    assert "live" in (console.page.get_attribute("#private-fresh", "class") or "")


def test_the_console_has_the_market_from_the_public_port(console: UserTab, venue: LiveVenue) -> None:
    """Mark and last, live over the stream, and a chart that draws them."""
    console.wait_text("#fresh", "market: live")
    console.wait_text("#ticker", "Mark")
    console.page.wait_for_selector("#chart canvas")
    venue.place("bob", ids.SELL, PRICE - 100_000, 1)
    console.page.wait_for_function(
        "() => [...document.querySelectorAll('#ticker dd')][2].innerText === '499.90'", timeout=15_000
    )
    drawn = """() => {
        const canvas = document.querySelector('#chart canvas');
        const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        const colours = Array.from({ length: pixels.length / 4 }, (_, at) => pixels[4 * at] + 256 * pixels[4 * at + 2]);
        return new Set(colours).size;
    }"""
    assert console.page.evaluate(drawn) > 10, "lines, labels and a grid"


def test_the_console_shows_a_fault_and_an_alert(chromium: Browser, tmp_path: Path) -> None:
    """Without a fresh price the oracle's alert stands, and so it is on the page, with what to do."""
    venue = LiveVenue(tmp_path)
    try:
        venue.start()
        with tab(chromium, UserTab) as page:
            page.page.goto(venue.private_url + "/")
            page.wait_rows("alerts", "critical . NovateOracleQuorumLost")
            page.wait_text("#health-tag", "act now")
            page.wait_rows("publishers", "stale")
    finally:
        venue.close()


def test_the_console_says_when_the_process_is_gone(chromium: Browser, tmp_path: Path) -> None:
    """Both ports die with it: both ages grow, both banners come, the last figures stay."""
    venue = LiveVenue(tmp_path)
    try:
        venue.start()
        with tab(chromium, UserTab) as page, page.offline_expected():
            page.page.goto(venue.private_url + "/")
            page.wait_text("#fresh", "market: live")
            shown = page.facts("epoch-facts")
            venue.kill()
            page.wait_text("#private-stale", "does not answer")
            page.wait_text("#stale", "connection to the venue is lost")
            assert page.facts("epoch-facts")["Closes every"] == shown["Closes every"]
            venue.start()
            expect(page.page.locator("#private-stale")).to_be_hidden(timeout=20_000)
            expect(page.page.locator("#stale")).to_be_hidden(timeout=40_000)
    finally:
        venue.close()


# -- the auditor's page


def test_checkpoints_are_verified_as_they_come(auditor: UserTab, venue: LiveVenue) -> None:
    """The signature of the newest one, again and again, in the browser."""
    size = int(auditor.facts("checkpoint-facts")["Journal entries"].replace(",", ""))
    venue.publish(PRICE)
    script = "n => +document.querySelector('#checkpoint-facts dd').innerText.replace(/,/g, '') > n"
    auditor.page.wait_for_function(script, arg=size)
    assert auditor.text("#checkpoint-tag") == "✓ signed"


def test_a_forged_checkpoint_is_refused(chromium: Browser, venue: LiveVenue) -> None:
    """A note whose signature is not the operator's is refused with its code, in red, and so is a smaller journal."""
    note = venue.api.checkpoint()
    lines = note.split("\n")
    forged = "\n".join([lines[0], str(int(lines[1]) + 1), *lines[2:]])
    with tab(chromium, UserTab) as page:
        page.page.route("**/v1/checkpoint", lambda route: route.fulfill(body=forged))
        page.page.route_web_socket("**/v1/stream", lambda _: None)
        page.page.goto(venue.url + "/auditor")
        page.wait_text("#checkpoint-tag", "refused")
        assert "CHECKPOINT_INVALID" in page.text("#checkpoint-said")


def test_epochs_with_header_hashes_and_posted_state(auditor: UserTab, venue: LiveVenue) -> None:
    """As the vault has them, newest first, and new ones come by themselves."""
    number = venue.next_epoch()
    auditor.wait_rows("epochs", rf"^{number} . 0 . posted")
    rows = auditor.rows("epochs")
    for epoch, vault, _, shown in rows[:3]:
        assert vault == "0"
        if int(epoch) <= number:
            assert shown == "0x" + venue.deployed.vault.header_hash(int(epoch)).hex()
    assert [int(row[0]) for row in rows] == sorted((int(row[0]) for row in rows), reverse=True)


def test_the_audit_report_is_shown(chromium: Browser, venue: LiveVenue) -> None:
    """None at first, said as such; then the real `novate audit run --report` in the data directory."""
    with tab(chromium, UserTab) as page:
        page.page.goto(venue.url + "/auditor")
        page.wait_text("#report-said", "published no report")
        assert f"--vault 0x{venue.deployed.vault.address.hex()}" in page.text("#reproduce")
        assert f"--api {venue.url}" in page.text("#reproduce")
        done = command_line(
            "audit", "run", "--api", venue.url, "--rpc", venue.node.url,
            "--vault", "0x" + venue.deployed.vault.address.hex(),
            "--report", str(venue.data / "audit.json"), "--report", str(venue.data / "audit.html"),
        )  # fmt: skip
        written = json.loads((venue.data / "audit.json").read_text())
        page.page.reload()
        page.wait_text("#report-facts", "Entries replayed")
        shown = page.facts("report-facts")
        assert int(shown["Entries replayed"].replace(",", "")) == written["entries"]
        assert shown["Chains compared"] == "1 of 1"
        assert ("agrees" in page.text("#report-tag")) == written["ok"] == (done.returncode == 0), done.stderr
        page.page.click("#report-html")
        page.page.wait_for_load_state()
        assert page.page.url.endswith("/auditor/report") and written["root"][2:18] in page.page.content()


# -- the start page


def test_the_start_page_has_state_and_markets(chromium: Browser, venue: LiveVenue) -> None:
    """Links to every page, the venue's state, and prices that move by themselves."""
    with tab(chromium, UserTab) as page:
        page.page.goto(venue.url + "/")
        page.wait_text("#fresh", "live")
        assert page.facts("state")["Venue"] == "open"
        page.wait_rows("markets", r"BTC-PERP . \d")
        links = page.page.eval_on_selector_all("nav a", "all => all.map((one) => one.getAttribute('href'))")
        assert links == ["/", "/user", "/auditor", "/verify/"]
        said = venue.place("alice", ids.BUY, PRICE + 50_000, 1)
        page.wait_rows("markets", r"BTC-PERP . \d+\.\d+ . 500\.05")
        entries = "n => [...document.querySelectorAll('#state dd')].some((one) => +one.innerText.replace(/,/g, '') > n)"
        page.page.wait_for_function(entries, arg=said["seq"])


# -- everybody


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_axe_finds_nothing_serious(chromium: Browser, venue: LiveVenue, theme: str, size: str) -> None:
    """Every page, filled, in both themes and at 360 px: no serious or critical issue; the pages fit the width."""
    if not AXE.is_file():
        pytest.skip("npm packages are not installed: run `npm ci` in clearing/web")
    viewport = PHONE if size == "phone" else DESKTOP
    source = AXE.read_text()
    with user(chromium, venue, viewport=viewport, color_scheme=theme) as page:
        page.connect()
        page.make_key()
        page.page.fill("#size", "1")
        page.page.fill("#price", "480")
        page.wait_text("#estimate", "Free after")
        page.page.click("#proof-verify")
        page.wait_text("#proof-verdict", "proof holds")
        page.page.click("#proof-details summary")
        page.page.click("#chain-look")
        page.page.wait_for_selector("#call-force-exit")
        page.order("buy", "1", "bad")
        examine(page, source, f"user {theme} {size}")
    others = {"start": "/", "auditor": "/auditor", "verify": "/verify/"}
    for name, url in [*((one, venue.url + path) for one, path in others.items()), ("console", venue.private_url + "/")]:
        with tab(chromium, Tab, viewport=viewport, color_scheme=theme) as made:
            made.page.goto(url)
            if name != "verify":
                made.wait_text("#fresh", "live")
            if name == "auditor":
                made.wait_text("#checkpoint-tag", "signed")
            examine(made, source, f"{name} {theme} {size}")


def test_axe_would_find_something(chromium: Browser, venue: LiveVenue) -> None:
    """The examination is not blind under the pages' policy: a field without a name, and pale text, are found."""
    if not AXE.is_file():
        pytest.skip("npm packages are not installed: run `npm ci` in clearing/web")
    with tab(chromium, Tab) as page:
        page.page.goto(venue.url + "/")
        page.wait_text("#fresh", "live")
        page.page.evaluate(
            """() => {
                document.querySelector('main').append(document.createElement('input'));
                document.querySelector('h1').style.color = '#bbb';
            }"""
        )
        found = findings(page, AXE.read_text())
        assert {one.partition(":")[0] for one in found} == {"label", "color-contrast"}


def findings(page: Tab, source: str) -> list[str]:
    """Serious and critical issues of the page as it stands."""
    page.page.evaluate(source)
    script = """async () => (await axe.run(document, { resultTypes: ['violations'] })).violations
        .filter((one) => ['serious', 'critical'].includes(one.impact))
        .map((one) => `${one.id}: ${one.nodes.map((node) => node.target + ' ' + node.failureSummary).slice(0, 3)}`)"""
    found: list[str] = page.page.evaluate(script)
    return found


def examine(page: Tab, source: str, where: str) -> None:
    assert findings(page, source) == [], where
    wide = page.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide[0] <= wide[1], f"{where} is wider than the screen"


def test_the_theme_is_chosen_and_kept(chromium: Browser, venue: LiveVenue) -> None:
    """As the system says, until it is chosen; then everywhere, also after a reload."""
    with tab(chromium, Tab, color_scheme="dark") as page:
        page.page.goto(venue.url + "/")
        ground = "getComputedStyle(document.body).backgroundColor"
        dark = page.page.evaluate(ground)
        page.page.click("#theme")
        light = page.page.evaluate(ground)
        assert light != dark
        page.page.goto(venue.url + "/auditor")
        assert page.page.evaluate(ground) == light
        assert page.page.get_attribute("#theme", "aria-pressed") == "false"
    assert patiently("the venue", venue.answers)
