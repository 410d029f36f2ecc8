# SPDX-License-Identifier: GPL-3.0-or-later
"""Driving the page as a person does, and reading what it shows."""

import base64
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import BrowserContext, FilePayload, Page, Route

FOLDER = Path(__file__).resolve().parents[2] / "clearing/web/verify"
OPTIONS = (
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-quic",
)  # fmt: skip
_STEPS = """() => [...document.querySelectorAll('#steps details')].map((item) => [
    item.querySelector('.name').textContent, item.querySelector('.badge').className.replace('badge ', ''),
    item.querySelector('.said').textContent])"""
Result = list[tuple[str, str, str]]
Alter = Callable[[str, list[Any], Any], Any]


@dataclass(frozen=True)
class Shown:
    """What a person reads: level is ok, open or failed; steps are (name, status, sentence)."""

    level: str
    headline: str
    detail: str
    code: str
    steps: list[tuple[str, str, str]]
    summary: str

    def status(self, name: str) -> str:
        return next(status for step, status, _ in self.steps if step == name)

    def said(self, name: str) -> str:
        return next(text for step, _, text in self.steps if step == name)


class Viewer:
    """One page; whatever it requests or writes to the console is kept."""

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self.page: Page = context.new_page()
        self.upstream = httpx.Client(timeout=30, trust_env=False)
        self.page.set_default_timeout(10_000)
        self.requested: list[str] = []
        self.troubles: list[str] = []
        self.allowed: list[str] = []
        self.expected_trouble = ""
        context.on("request", lambda request: self.requested.append(request.url))
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("console", lambda message: self.troubles.append(message.text))

    def open(self, url: str) -> None:
        self.allowed.append(url.rpartition("/")[0] + "/")
        self.page.goto(url)

    def close(self) -> None:
        """Only the page's own files and the endpoints were requested; the console stayed empty. Where an endpoint is
        dead the browser itself says so there, which no page can prevent."""
        self.context.close()
        self.upstream.close()
        strangers = [url for url in self.requested if not url.startswith((*self.allowed, "data:,"))]
        assert strangers == []
        loud = [text for text in self.troubles if not self.expected_trouble or self.expected_trouble not in text]
        assert loud == []

    # -- as a person does

    def give(self, field: str, data: bytes, name: str = "file") -> None:
        payload: FilePayload = {"name": name, "mimeType": "application/octet-stream", "buffer": data}
        self.page.locator(f"#{field}-file").set_input_files(payload)
        self.page.wait_for_function(
            "name => document.querySelector(name).placeholder.includes('bytes')", arg=f"#{field}-text"
        )

    def fill(self, **fields: str) -> None:
        for name, text in fields.items():
            self.page.fill("#" + name.replace("_", "-"), text)

    def check(self) -> Shown:
        self.page.click("#check")
        return self.shown()

    def shown(self) -> Shown:
        """The verdict, when it is there."""
        self.page.wait_for_selector("#verdict.ok, #verdict.open, #verdict.failed", state="attached")
        level = (self.page.get_attribute("#verdict", "class") or "").replace("banner ", "")
        lines = self.page.locator("#verdict p").all_inner_texts()
        code = lines.pop().removeprefix("Code: ") if lines[-1].startswith("Code: ") else ""
        steps = [tuple(step) for step in self.page.evaluate(_STEPS)]
        return Shown(level, lines[0], " ".join(lines[1:]), code, steps, self.page.inner_text("#summary"))

    def balance(self, data: bytes, rpc: str = "", vault: str = "", operator_key: str = "") -> Shown:
        self.give("bundle", data, "me.json")
        self.fill(rpc=rpc, vault=vault, operator_key=operator_key)
        self.allowed += [url.strip() for url in rpc.split(",") if url.strip()]
        return self.check()

    def entry(self, proof: bytes, entry: bytes, log_key: str = "", witnesses: str = "") -> Shown:
        self.page.check("input[value=entry]")
        self.give("proof", proof, "7.tlog-proof")
        self.give("entry", entry, "7.entry")
        self.fill(log_key_text=log_key, witnesses_text=witnesses)
        return self.check()

    # -- the page's own functions, many at a time

    def verify_many(self, files: Sequence[bytes]) -> list[Result]:
        """(name, status, code) of every step, for each bundle file, offline."""
        script = """async (files) => {
            const all = [];
            for (const text of files) {
                const bytes = Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
                const run = await Novate.verifyBundle(
                    bytes, { endpoints: [], vault: null, operatorKey: null }, new Novate.Run());
                all.push(run.steps.map((step) => [step.name, step.status, step.code]));
            }
            return all;
        }"""
        given = [base64.b64encode(data).decode() for data in files]
        return [[(name, status, code) for name, status, code in steps] for steps in self.page.evaluate(script, given)]

    def prove_many(self, cases: Sequence[tuple[bytes, bytes, str, str]]) -> list[tuple[str, list[str]]]:
        """(level, codes) for each (proof, entry, log key, witnesses)."""
        script = """async (cases) => {
            const bytes = (text) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
            const all = [];
            for (const [proof, entry, logKey, witnesses] of cases) {
                const run = new Novate.Run();
                try {
                    await Novate.verifyTlogProof(bytes(proof), bytes(entry), { logKey, witnesses }, run);
                    all.push([run.level, run.steps.map((step) => step.code)]);
                } catch (error) {
                    if (!(error instanceof Novate.CheckError)) throw error;
                    all.push(['failed', [error.code]]);
                }
            }
            return all;
        }"""
        given = [[base64.b64encode(one[0]).decode(), base64.b64encode(one[1]).decode(), *one[2:]] for one in cases]
        return [(level, codes) for level, codes in self.page.evaluate(script, given)]

    def answer(self, url: str, upstream: str, alter: Alter = lambda _method, _params, result: result) -> str:
        """Serve the chain at `upstream` to this page as `url`, through `alter`."""

        def handle(route: Route) -> None:
            request = json.loads(route.request.post_data or "")
            given = self.upstream.post(upstream, json=request).json()
            if "result" in given:
                given["result"] = alter(request["method"], request["params"], given["result"])
            self.fulfil(route, json.dumps(given))

        self.page.route(url + "**", handle)
        return url

    def reply(self, url: str, body: str, status: int = 200) -> str:
        """Answer everything at `url` with the same bytes."""
        self.page.route(url + "**", lambda route: self.fulfil(route, body, status))
        return url

    @staticmethod
    def fulfil(route: Route, body: str, status: int = 200) -> None:
        route.fulfill(status=status, body=body, headers={"Access-Control-Allow-Origin": "*"})


@contextmanager
def served(folder: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
