# SPDX-License-Identifier: GPL-3.0-or-later
"""The wheel in fresh environments without the checkout: the plain one checks, the server's one is a venue."""

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clearing.cli.extras import MODULES, extra_of
from tests.packaging.builds import Installed, build, call, copy_tree, install, locked
from tests.packaging.commands import leaves, reach
from tests.packaging.test_extras import SOME_WAYS
from tests.packaging.venue import Venue

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    (file,) = build(copy_tree(folder / "tree"), folder / "out", "wheel")
    return file


@pytest.fixture(scope="module")
def plain(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """pip install novate"""
    return install(tmp_path_factory.mktemp("plain"), str(wheel))


@pytest.fixture(scope="module")
def server(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """pip install 'novate[server]'"""
    return install(tmp_path_factory.mktemp("server"), f"{wheel}[server]")


@pytest.fixture(scope="module")
def venue(server: Installed) -> Iterator[Venue]:
    made = Venue(server)
    try:
        made.open()
        yield made
    finally:
        made.close()


# --- the plain install ---


def test_the_plain_install_is_small(
    plain: Installed, server: Installed, wheel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has none of the extras' libraries; how much that saves is printed."""
    heavy = {"numpy", "scipy", "matplotlib", "starlette", "uvicorn", "prometheus-client", "structlog", "py-evm", "web3"}
    full = install(tmp_path / "full", f"{wheel}[all]").packages
    assert not heavy & plain.packages.keys()
    assert set(plain.packages) < set(server.packages) < set(full)
    total = sum(full.values())
    with capsys.disabled():
        for name, row in (("plain", plain.packages), ("[server]", server.packages), ("[all]", full)):
            size = sum(row.values())
            print(f"\n{name}: {len(row)} libraries, {size / 1e6:.0f} MB, {size / total:.2f} of [all]", end="")


def test_each_plain_command_has_all_that_it_imports(plain: Installed) -> None:
    """Every module of ours and of others that a command without extra can load is there and loads."""
    ours, theirs = set[str](), set[str]()
    for leaf in leaves():
        if extra_of(leaf.path) is None and not any(name == leaf.name for name, _ in SOME_WAYS):
            ours |= reach(leaf).internal.keys()
            theirs |= reach(leaf).external.keys()
    assert len(ours) > 60
    plain.python(f"from importlib import import_module as load\nfor name in {sorted(ours | theirs)!r}: load(name)")


def test_it_is_the_installed_program_that_runs(plain: Installed, wheel: Path) -> None:
    """The version is the wheel's, and the code lies in the environment."""
    version = wheel.name.split("-")[1]
    assert plain.ok("--version").strip() == f"novate {version}"
    where = plain.python("import clearing, contracts, journal, proofs as p; print(clearing.__path__[0], p.__path__[0])")
    assert all(path.startswith(str(plain.folder)) for path in where.split())


def test_pages_and_manual_come_along(plain: Installed) -> None:
    """The verifier page can be written out, and `man` finds the pages."""
    plain.ok("page", "-o", "verify.html")
    assert "<script>" in (plain.home / "verify.html").read_text()
    manual = plain.folder / "venv" / "share" / "man" / "man1"
    assert {"novate.1", "novate-order.1", "novate-operator.1"} <= {file.name for file in manual.iterdir()}


@pytest.mark.parametrize(
    "words",
    [
        "demo",
        "operator run venue",
        "init venue --rpc http://127.0.0.1:9 --wallet w",
        "audit replay --journal .",
        "stress run --journal .",
        "keeper run --key k --account 1",
    ],
)
def test_what_it_lacks_it_names(plain: Installed, words: str) -> None:
    """MISSING_EXTRA, with what to install, and nothing was written."""
    before = set(plain.home.iterdir())
    done = plain.run(*words.split())
    extra = extra_of([word for word in words.split() if not word.startswith("-")])
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert re.fullmatch(rf"novate: MISSING_EXTRA: install novate\[{extra}\]: [^\n]+\n", done.stderr)
    assert set(plain.home.iterdir()) == before


def test_it_verifies_a_real_bundle(plain: Installed, venue: Venue) -> None:
    """Proven offline and against the chain, and refused when it says one atom more."""
    bundle = venue.bundle_of("alice")
    shown = plain.ok("verify", bundle)
    assert "FAILED" not in shown
    plain.ok("verify", bundle, "--rpc", venue.env["NOVATE_RPC"], "--vault", venue.env["NOVATE_VAULT"])
    content = json.loads(bundle.read_text())
    tampered = plain.home / "tampered.bundle"
    content["exit"]["exits"][0] = str(int(content["exit"]["exits"][0]) + 1)
    tampered.write_text(json.dumps(content))
    refused = plain.run("verify", tampered)
    assert refused.returncode == 3 and "PROOF_INVALID" in refused.stderr


def test_it_trades_and_proves_the_trade(plain: Installed, venue: Venue) -> None:
    """An order at the venue of the server's install, its receipt and the fill, all with the plain install."""
    maker, taker = venue.people["alice"], venue.people["bob"]
    receipts = plain.home / "receipts"
    venue.publish()
    venue.ok("order", "place", "1", "sell", "3", "60.00", **maker)
    placed = plain.ok("order", "place", "1", "buy", "3", "60.00", "--tif", "ioc", "--json", "--receipts", receipts,
                      **(venue.env | taker))  # fmt: skip
    seq = json.loads(placed)["seq"]
    (receipt,) = receipts.iterdir()
    assert "FAILED" not in plain.ok("receipt", "verify", receipt, **venue.env)
    plain.ok("fill", "prove", str(seq), "-o", "trade.fill", **venue.env)
    assert "bought 3 lots" in plain.ok("fill", "verify", "trade.fill", **venue.env)
    positions = json.loads(plain.ok("account", "show", "--json", **(venue.env | taker)))["positions"]
    assert [row["size_lots"] for row in positions] == ["3"]


# --- the server's install ---


def test_the_server_s_install_checks_itself(venue: Venue) -> None:
    """`operator status` of the running venue, and a replay of its journal."""
    assert venue.ok("operator", "status", venue.data)
    bundle = venue.bundle_of("bob")
    assert "FAILED" not in venue.ok("verify", bundle)
    assert "every outcome recomputed" in venue.ok("audit", "replay", "--api", venue.env["NOVATE_API"])


def test_the_demo_runs(server: Installed) -> None:
    """The whole story, from a wheel and in an empty folder."""
    assert "Traceback" not in server.ok("demo")


# --- pipx ---


def test_pipx_installs_a_working_venue(wheel: Path, tmp_path: Path) -> None:
    """`pipx install 'novate[server]'` puts `novate` on PATH, with its libraries and its manual pages."""
    call([sys.executable, "-m", "venv", tmp_path / "tool"], tmp_path)
    call([tmp_path / "tool" / "bin" / "pip", "install", "--quiet", "pipx>=1.7,<2"], tmp_path)
    (tmp_path / "constraints.txt").write_text(locked())
    places = {"PIPX_HOME": "pipx", "PIPX_BIN_DIR": "bin", "PIPX_MAN_DIR": "man"}
    given = {name: str(tmp_path / part) for name, part in places.items()}
    pipx = [str(tmp_path / "tool" / "bin" / "pipx"), "install", "--python", sys.executable]
    call([*pipx, "--pip-args", f"--constraint {tmp_path / 'constraints.txt'}", f"{wheel}[server]"], tmp_path, **given)
    novate = tmp_path / "bin" / "novate"
    assert call([novate, "--version"], tmp_path).stdout.startswith("novate ")
    assert (tmp_path / "man" / "man1" / "novate.1").exists()
    (python,) = (tmp_path / "pipx" / "venvs").glob("*/bin/python")
    modules = sorted(MODULES["server"])
    call([python, "-c", f"from importlib import import_module as load\nfor name in {modules!r}: load(name)"], tmp_path)
    keys = call([novate, "operator", "keys", "venue", "--json"], tmp_path, HOME=str(tmp_path)).stdout
    assert json.loads(keys)["operator_address"] and os.path.isdir(tmp_path / "venue")
