# SPDX-License-Identifier: GPL-3.0-or-later
"""Using the user page as a person does."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser

from tests.browser.sites import Tab, tab
from tests.browser.venue import BrowserWallet, LiveVenue, wallet_of


class UserTab(Tab):
    """The user page of one member with a wallet."""

    wallet: BrowserWallet

    def connect(self) -> None:
        self.page.click("#connect")
        self.wait_text("#who-said", "Account")
        self.wait_text("#balance", "Equity")

    def make_key(self, *without: str) -> None:
        """A new key, allowed by the wallet; `without` the scopes that are named."""
        self.page.click("#key-new")
        self.wait_text("#key-said", "allow it")
        for scope in without:
            self.page.uncheck(f"#scope-{scope}")
        self.page.click("#key-allow")
        self.wait_text("#key-said", "you can trade now")

    def order(self, side: str, size: str, price: str, kind: str = "gtc") -> str:
        """Fill the ticket in and send it; what the page says."""
        self.page.check(f"input[name=side][value={side}]", force=True)
        self.page.fill("#size", size)
        self.page.fill("#price", price)
        self.page.select_option("#tif", kind)
        return self.send("place", "ticket-said")

    def send(self, button: str, said: str) -> str:
        """Press a button and wait until it is done; what is said then."""
        self.page.click(f"#{button}")
        self.page.wait_for_function("id => !document.getElementById(id)?.hasAttribute('aria-busy')", arg=button)
        return self.text(f"#{said}")

    def rows(self, body: str) -> list[list[str]]:
        script = (
            "id => [...document.getElementById(id).rows].map((row) => [...row.cells].map((cell) => cell.innerText))"
        )
        found: list[list[str]] = self.page.evaluate(script, body)
        return found

    def facts(self, listed: str) -> dict[str, str]:
        script = """id => Object.fromEntries([...document.getElementById(id).children].map(
            (box) => [box.children[0].innerText, box.children[1].innerText]))"""
        found: dict[str, str] = self.page.evaluate(script, listed)
        return found

    def wait_rows(self, body: str, pattern: str) -> list[list[str]]:
        """The rows of a table once one of them matches."""
        script = """([id, pattern]) => [...document.getElementById(id).rows].some(
            (row) => new RegExp(pattern).test([...row.cells].map((cell) => cell.innerText).join(' | ')))"""
        self.page.wait_for_function(script, arg=[body, pattern])
        return self.rows(body)

    def entry(self, said: str) -> int:
        """The journal's entry that a sentence names."""
        found = re.search(r"[Ee]ntry (\d+)", said)
        assert found, said
        return int(found[1])


@contextmanager
def user(
    chromium: Browser, venue: LiveVenue, name: str = "alice", wallet: bool = True, **choices: object
) -> Iterator[UserTab]:
    """The user page, open; its console must stay empty."""
    with tab(chromium, UserTab, **choices) as made:
        made.wallet = wallet_of(venue, name)
        if wallet:
            made.wallet.install(made.page)
        made.page.goto(venue.url + "/user")
        made.page.wait_for_selector("body[data-ready]")
        try:
            yield made
        finally:
            made.wallet.close()
