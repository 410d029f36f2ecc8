# SPDX-License-Identifier: GPL-3.0-or-later
"""An application behind a real socket in this process, and a page that keeps what its console said."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import uvicorn
from playwright.sync_api import Browser, BrowserContext, Page
from playwright.sync_api import Error as PlaywrightError
from starlette.applications import Starlette

PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1280, "height": 900}


@contextmanager
def serving(app: Starlette) -> Iterator[str]:
    """The application's URL, without a slash at its end."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


class Tab:
    """One page; whatever its console says is trouble, unless it was expected."""

    def __init__(self, chromium: Browser, **choices: object) -> None:
        self.context: BrowserContext = chromium.new_context(**({"viewport": DESKTOP} | choices))  # type: ignore[arg-type]
        self.context.grant_permissions([])
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(15_000)
        self.troubles: list[str] = []
        self.expected: list[str] = []
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("console", lambda message: self.troubles.append(message.text))

    def close(self) -> None:
        """Nothing unexpected was said, neither by the page nor by the browser (a violated policy, a missing file)."""
        self.context.close()
        loud = [text for text in self.troubles if not any(part in text for part in self.expected)]
        assert not loud, loud

    @contextmanager
    def offline_expected(self) -> Iterator[None]:
        """Within: the browser itself says that a server is gone, which no page can prevent."""
        self.expected += [
            "ERR_CONNECTION_REFUSED",
            "WebSocket connection to",
            "ERR_CONNECTION_RESET",
            "ERR_EMPTY_RESPONSE",
        ]
        yield

    # -- shorthands

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)

    def wait_text(self, selector: str, part: str, timeout: float = 15_000) -> str:
        """The text of an element once it holds `part`."""
        script = "([selector, part]) => document.querySelector(selector)?.innerText.includes(part)"
        try:
            self.page.wait_for_function(script, arg=[selector, part], timeout=timeout)
        except PlaywrightError:
            found = self.page.evaluate("(s) => document.querySelector(s)?.innerText", selector)
            raise AssertionError(f"{selector} says {found!r}, not {part!r}; console: {self.troubles}") from None
        return self.text(selector)


AnyTab = TypeVar("AnyTab", bound=Tab)


@contextmanager
def tab(chromium: Browser, kind: type[AnyTab], **choices: object) -> Iterator[AnyTab]:
    """A tab whose console must stay empty."""
    made = kind(chromium, **choices)
    try:
        yield made
    except BaseException:
        made.context.close()
        raise
    made.close()
