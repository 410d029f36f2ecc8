# SPDX-License-Identifier: GPL-3.0-or-later
"""How pages are handed out: policy, caching, compression, nothing beyond the table; the console on the private port."""

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from clearing.api.http.pages import page_routes
from clearing.service.ops import private
from clearing.web.files import ROOT
from tests.browser.sites import serving

PAGES = ("/", "/user", "/auditor", "/verify/")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def site(data: Path) -> Iterator[httpx.Client]:
    context: Any = SimpleNamespace(data_dir=data)
    with serving(Starlette(routes=page_routes(context))) as url, httpx.Client(base_url=url, trust_env=False) as client:
        yield client


@pytest.mark.parametrize("path", PAGES)
def test_a_page_has_a_strict_policy(site: httpx.Client, path: str) -> None:
    """No inline script or style, nobody else's code, no frame around it, no markup from text."""
    answer = site.get(path)
    policy = {part.split()[0]: part.split()[1:] for part in answer.headers["content-security-policy"].split("; ")}
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/html")
    assert policy["default-src"] == ["'none'"]
    assert policy["script-src"] == policy["style-src"] == ["'self'"]
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == ["'none'"]
    assert policy["require-trusted-types-for"] == ["'script'"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    for wrong in (" style=", " onclick=", "<script>", "<style", "javascript:", "http://", "https://ajax"):
        assert wrong not in answer.text, wrong


@pytest.mark.slow
@pytest.mark.parametrize("path", PAGES)
def test_all_that_a_page_names_is_there(site: httpx.Client, path: str) -> None:
    """Scripts, styles, preloads and links to other pages answer; so does what a module imports."""
    base = path if path.endswith("/") else "/"
    wanted = re.findall(r'(?:src|href)="([^"#]+)"', site.get(path).text)
    seen: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in seen or name.startswith(("data:", "/v1/", "/auditor/report")):
            continue
        seen.add(name)
        answer = site.get(name if name.startswith("/") else base + name)
        assert answer.status_code == 200, name
        if "javascript" in answer.headers["content-type"]:
            folder = name.rpartition("/")[0]
            for found in re.findall(r'^import .*? from "([^"]+)";', answer.text, re.M):
                wanted.append(found if found.startswith("/") else f"{folder}/{found.removeprefix('./')}")


def test_unchanged_files_cost_a_header(site: httpx.Client) -> None:
    """The hash is the name: who has it gets 304 and no bytes, in either encoding; a wrong one gets the file."""
    for encoding in ("gzip", "identity"):
        first = site.get("/assets/shared/style.css", headers={"accept-encoding": encoding})
        tag = first.headers["etag"]
        headers = {"accept-encoding": encoding, "if-none-match": f'"other", W/{tag}'}
        again = site.get("/assets/shared/style.css", headers=headers)
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert first.headers["cache-control"] == "no-cache" and first.headers["vary"] == "accept-encoding"
    assert site.get("/user", headers={"if-none-match": '"old"'}).status_code == 200


def test_files_are_packed_for_who_takes_it(site: httpx.Client) -> None:
    """The same bytes after unpacking, and fewer on the way."""
    name = "vendor/uplot/uPlot.iife.min.js"
    with site.stream("GET", f"/assets/{name}", headers={"accept-encoding": "gzip"}) as answer:
        packed = b"".join(answer.iter_raw())
    assert answer.headers["content-encoding"] == "gzip"
    plain = site.get(f"/assets/{name}", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert gzip.decompress(packed) == plain.content == (ROOT / name).read_bytes()
    assert len(packed) * 2 < len(plain.content)


@pytest.mark.parametrize(
    "path",
    [
        "/assets/files.py", "/assets/../files.py", "/assets/shared/../../files.py", "/assets/%2e%2e/files.py",
        "/assets/package.json", "/assets/node_modules/uplot/package.json", "/assets/console/main.js", "/assets/",
        "/verify/../files.py", "/assets/vendor/README.md", "/assets//etc/passwd",
    ],
)  # fmt: skip
def test_nothing_else_is_served(site: httpx.Client, path: str) -> None:
    """Neither the package's code, nor tools, nor the operator's console on the public port."""
    assert site.get(path).status_code == 404


def test_verify_is_redirected_to_its_folder(site: httpx.Client) -> None:
    """The verifier's page names its parts relative to itself."""
    answer = site.get("/verify")
    assert (answer.status_code, answer.headers["location"]) == (308, "/verify/")


def test_the_audit_report_is_served_in_a_sandbox(site: httpx.Client, data: Path) -> None:
    """As the operator put it there, at once, without a right to run anything; its absence is said."""
    assert site.get("/auditor/reports").json() == {"html_s": None, "json_s": None}
    missing = site.get("/auditor/report")
    assert (missing.status_code, missing.json()["code"]) == (404, "NO_REPORT")
    (data / "audit.html").write_text("<script>alert(1)</script>")
    (data / "audit.json").write_text("{}")
    answer = site.get("/auditor/report")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and policy.endswith("; sandbox") and "script" not in policy
    assert answer.text == "<script>alert(1)</script>"
    assert site.get("/auditor/report.json").headers["content-type"] == "application/json"
    assert all(isinstance(when, int) for when in site.get("/auditor/reports").json().values())


@pytest.fixture
def console() -> Iterator[httpx.Client]:
    def never() -> Any:
        raise AssertionError("no figure is read for a page")

    app = private.build(never, lambda _: [], CollectorRegistry(), ("ops.example",))
    with serving(app) as url, httpx.Client(base_url=url, trust_env=False) as client:
        yield client


def test_the_console_is_on_the_private_port(console: httpx.Client) -> None:
    """The page and its parts, with a policy; what belongs to the public pages is not there."""
    page = console.get("/")
    assert page.status_code == 200 and "Operator’s console" in page.text
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert console.get("/assets/console/main.js").status_code == 200
    assert console.get("/assets/shared/style.css").status_code == 200
    assert console.get("/assets/user/main.js").status_code == 404
    assert console.get("/user").status_code == 404


def test_a_rebound_name_gets_no_console(console: httpx.Client) -> None:
    """A name that somebody else controls is refused for pages, too; a named host is served."""
    for path in ("/", "/assets/console/main.js"):
        answer = console.get(path, headers={"host": "evil.example"})
        assert (answer.status_code, json.loads(answer.text)["code"]) == (421, "WRONG_HOST")
        assert console.get(path, headers={"host": "ops.example:8641"}).status_code == 200
