# SPDX-License-Identifier: GPL-3.0-or-later
"""The page in a person's hands: from disk or web, by mouse, keyboard, drop or paste, on a phone, as one file."""

import hashlib
import json
import re
from pathlib import Path
from typing import Literal

import msgspec
import pytest
from click.testing import CliRunner
from playwright.sync_api import Browser, Page

from clearing.cli.main import main
from clearing.cli.page import single_file
from proofs import bundle as b
from tests.browser.material import ENTRIES, LOG_KEY, WITNESSES, offline, tlog_proof
from tests.browser.viewer import FOLDER, Viewer

DATA = b.encode(offline())
_DROP = """async (files) => {
    const made = new DataTransfer();
    for (const [name, bytes] of files) made.items.add(new File([new Uint8Array(bytes)], name));
    for (const kind of ['dragover', 'drop'])
        window.dispatchEvent(new DragEvent(kind, { dataTransfer: made, cancelable: true }));
}"""


def dropped(page: Page, files: dict[str, bytes]) -> None:
    page.evaluate(_DROP, [[name, list(data)] for name, data in files.items()])


@pytest.mark.slow
def test_from_a_web_server(chromium: Browser, web: str) -> None:
    """Served by any web server it does the same as from disk."""
    made = Viewer(chromium.new_context())
    made.open(web)
    assert made.balance(DATA).code == "CHAIN_NOT_ASKED"
    made.close()


@pytest.mark.slow
def test_over_plain_http_there_is_no_cryptography(chromium: Browser) -> None:
    """Browsers take WebCrypto from such pages: it says what to do, and nothing looks checked."""
    made = Viewer(chromium.new_context())
    made.page.route(
        "http://page.test/**", lambda route: route.fulfill(path=FOLDER / (route.request.url[17:] or "index.html"))
    )
    made.open("http://page.test/")
    shown = made.balance(DATA)
    assert (shown.level, shown.code, shown.steps) == ("failed", "NO_WEBCRYPTO", [])
    made.close()


@pytest.mark.slow
def test_one_file_says_which_page_it_is(chromium: Browser, tmp_path: Path) -> None:
    """`novate page -o` writes the page as one file, always the same; a script that was altered does not run."""
    target = tmp_path / "verify.html"
    result = CliRunner().invoke(main, ["page", "-o", str(target), "--json"])
    assert result.exit_code == 0, result.output
    data = target.read_bytes()
    assert json.loads(result.stdout)["sha256"] == hashlib.sha256(data).hexdigest()
    assert data == single_file()
    assert b"src=" not in data.replace(b"script-src", b"") and b'<link rel="stylesheet' not in data
    made = Viewer(chromium.new_context())
    made.open(target.as_uri())
    assert made.balance(DATA).status("exit") == "ok"
    made.close()
    target.write_bytes(data.replace(b'const FORMAT = "novate-bundle/1"', b'const FORMAT = "novate-bundle/2"'))
    page = chromium.new_page()
    page.goto(target.as_uri())
    assert page.evaluate("globalThis.Novate.decodeBundle === undefined")
    page.close()


def test_where_the_page_is() -> None:
    """Without --output the command names the file to open."""
    result = CliRunner().invoke(main, ["page"])
    assert result.output.strip() == (FOLDER / "index.html").as_uri()


@pytest.mark.slow
def test_paste_and_drop(viewer: Viewer) -> None:
    """Pasting and dropping do what choosing does; the last one given counts."""
    viewer.fill(bundle_text=DATA.decode())
    assert viewer.check().code == "CHAIN_NOT_ASKED"
    dropped(viewer.page, {"me.json": b'{"format": 1}'})
    viewer.page.wait_for_function("() => document.getElementById('bundle-text').placeholder.includes('13 bytes')")
    assert viewer.check().code == "BUNDLE_MALFORMED"
    dropped(
        viewer.page,
        {
            "7.tlog-proof": tlog_proof(),
            "7.entry": ENTRIES[7],
            "log.vkey": LOG_KEY.encode(),
            "w.txt": WITNESSES[0].key.encode(),
        },
    )
    viewer.page.wait_for_function("() => document.getElementById('witnesses-text').value !== ''")
    assert viewer.page.is_visible("#panel-entry") and not viewer.page.is_visible("#panel-balance")
    assert viewer.check().level == "ok"
    viewer.fill(
        proof_text=tlog_proof().decode().rstrip("\n").replace("\n", "\r\n"), entry_text="0x" + ENTRIES[7].hex().upper()
    )
    assert viewer.check().level == "ok"
    viewer.fill(entry_text=ENTRIES[6].hex())
    assert viewer.check().level == "failed"
    viewer.fill(entry_text="xyz")
    assert viewer.check().code == "ENTRY_MALFORMED"


@pytest.mark.slow
def test_nothing_given(viewer: Viewer) -> None:
    """Asked too early, the page says what it needs."""
    assert viewer.check().code == "NO_FILE"
    viewer.page.check("input[value=entry]")
    assert viewer.check().code == "NO_FILE"


@pytest.mark.slow
def test_a_verdict_does_not_outlive_its_inputs(viewer: Viewer) -> None:
    """Whatever is changed, the old verdict goes: nobody reads it beside another file."""
    viewer.balance(DATA)
    viewer.fill(vault="0x12")
    assert viewer.page.inner_text("#verdict") == "Nothing was checked yet."
    assert viewer.page.locator("#steps li").count() == 0
    assert viewer.check().code == "ADDRESS_MALFORMED"
    assert viewer.page.get_attribute("#vault", "aria-invalid") == "true"


@pytest.mark.slow
def test_hostile_text_stays_text(viewer: Viewer) -> None:
    """Markup in names is shown as it is, and hidden characters as a question mark."""
    bundle = msgspec.structs.replace(
        offline(), assets=("<img src=x onerror=alert(1)>", "</table><script>alert(1)</script>")
    )
    shown = viewer.balance(b.encode(bundle))
    assert "<img src=x onerror=alert(1)>" in shown.summary
    assert viewer.page.locator("#summary img, #summary script").count() == 0
    viewer.page.check("input[value=entry]")
    viewer.give("proof", tlog_proof().replace(b"novate.example", "<b>\u202e</b>".encode()))
    viewer.give("entry", b"\x00")
    assert viewer.check().level == "failed"
    assert viewer.page.locator("#steps b, #verdict b").count() == 0


@pytest.mark.slow
def test_a_fault_of_the_page_is_shown(viewer: Viewer) -> None:
    """Should a step break, a message with a code says so, and never a silent console."""
    viewer.page.evaluate("() => { Novate.verifyExit = () => { throw new TypeError('broken') } }")
    assert viewer.balance(DATA).code == "UNEXPECTED"


@pytest.mark.slow
def test_many_steps(viewer: Viewer) -> None:
    """A bundle with thousands of entries is checked whole and shown in part, what failed first."""
    bundle = offline()
    entries = bundle.entries * 600
    bad = msgspec.structs.replace(bundle.entries[0], entry="00")
    shown = viewer.balance(b.encode(msgspec.structs.replace(bundle, entries=(*entries, bad))))
    assert (shown.level, shown.code) == ("failed", "INCLUSION_INVALID")
    assert viewer.page.locator("#steps li").count() == 201


@pytest.mark.slow
def test_by_keyboard_alone(viewer: Viewer) -> None:
    """Tab reaches every control in order, and Enter in a field checks."""
    viewer.give("bundle", DATA)
    viewer.page.focus("input[value=balance]")
    order = []
    for _ in range(8):
        viewer.page.keyboard.press("Tab")
        order.append(viewer.page.evaluate("document.activeElement.id"))
    assert order[:7] == ["bundle-file", "bundle-text", "rpc", "vault", "operator-key", "check", "clear"]
    viewer.page.focus("#vault")
    viewer.page.keyboard.press("Enter")
    assert viewer.shown().code == "CHAIN_NOT_ASKED"
    viewer.page.locator("#steps summary").first.focus()
    viewer.page.keyboard.press("Enter")
    assert viewer.page.locator("#steps details[open]").count() == 1


@pytest.mark.slow
def test_for_a_screen_reader(viewer: Viewer) -> None:
    """Every control has a name, hints are tied to it, the verdict is announced, one heading of the first level."""
    viewer.page.check("input[value=entry]")
    for mode in ("entry", "balance"):
        viewer.page.check(f"input[value={mode}]")
        for control in viewer.page.locator("input:visible, textarea:visible, button:visible").all():
            name = control.evaluate("(one) => (one.labels && one.labels[0] || one).innerText.trim()")
            assert name, control.evaluate("(one) => one.outerHTML")
    missing = viewer.page.evaluate("""() => [...document.querySelectorAll('[aria-describedby], [aria-labelledby]')]
        .map((one) => one.getAttribute('aria-describedby') ?? one.getAttribute('aria-labelledby'))
        .filter((id) => !document.getElementById(id))""")
    assert missing == []
    assert viewer.page.get_attribute("#verdict", "aria-live") == "polite"
    assert viewer.page.get_attribute("html", "lang") == "en"
    assert viewer.page.locator("h1").count() == 1
    shown = viewer.balance(DATA)
    assert shown.headline.startswith("–"), "the verdict is in words and signs, and not in colour alone"


@pytest.mark.slow
def test_on_a_phone(viewer: Viewer) -> None:
    """No width makes it scroll sideways, empty or with a verdict; checking moves nothing of the form."""
    wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    top = "document.getElementById('check').getBoundingClientRect().top + scrollY"
    viewer.give("bundle", DATA)
    for width in (320, 390, 1280):
        viewer.page.set_viewport_size({"width": width, "height": 800})
        viewer.fill(vault="")
        assert not viewer.page.evaluate(wide)
        before = viewer.page.evaluate(top)
        viewer.check()
        viewer.page.evaluate("() => document.querySelectorAll('details').forEach((one) => { one.open = true })")
        assert not viewer.page.evaluate(wide)
        assert viewer.page.evaluate(top) == before


@pytest.mark.slow
def test_text_can_be_read_in_both_schemes(viewer: Viewer) -> None:
    """Every text has a contrast of at least 4.5 to 1 (WCAG AA), whatever the verdict."""
    viewer.balance(DATA)
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        viewer.page.emulate_media(color_scheme=scheme)
        for level in ("ok", "open", "failed"):
            viewer.page.evaluate(
                "(level) => { document.getElementById('verdict').className = `banner ${level}` }", level
            )
            assert viewer.page.evaluate(_CONTRAST) == []


_CONTRAST = """() => {
    const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map((one) => one / 255)
        .map((one) => one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
        .reduce((sum, one, at) => sum + one * [0.2126, 0.7152, 0.0722][at], 0);
    const ground = (one) => {
        for (let at = one; at; at = at.parentElement) {
            const found = rgb(getComputedStyle(at).backgroundColor);
            if (found.length === 3 || found[3] === 1) return found;
        }
        return [255, 255, 255];
    };
    const bad = [];
    for (const one of document.querySelectorAll('main *')) {
        const own = [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
        if (!own || !one.checkVisibility()) continue;
        const [a, b] = [light(rgb(getComputedStyle(one).color)), light(ground(one))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) bad.push([one.tagName, one.className, one.textContent.slice(0, 30), ratio]);
    }
    return bad;
}"""


def test_the_sources_keep_their_rules() -> None:
    """No markup from text, no inline handler, no outside address, every file licensed and of a readable size."""
    page = (FOLDER / "index.html").read_text()
    assert "default-src 'none'" in page and "unsafe" not in page
    assert not re.search(r"\son\w+=", page)
    files = sorted((FOLDER / "js").glob("*.js"))
    assert [f"js/{file.name}" for file in files] == sorted(re.findall(r'src="(js/[\w.]+)"', page))
    for file in [*files, FOLDER / "style.css", FOLDER / "index.html"]:
        text = file.read_text()
        assert "SPDX-License-Identifier: GPL-3.0-or-later" in "\n".join(text.split("\n")[:3])
        assert len(text.split("\n")) < 400
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|new Function|https?://\w", text
        ), file
