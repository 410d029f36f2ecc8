# SPDX-License-Identifier: GPL-3.0-or-later
"""Wheel and sdist: what is in them, nothing else, and the same bytes for everyone who builds them."""

import json
import re
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from clearing.cli.main import main
from tests.packaging.builds import build, copy_tree
from tests.packaging.commands import declared
from tests.packaging.reach import OURS, ROOT

pytestmark = pytest.mark.slow
CODE = {f"{folder}/{path.relative_to(ROOT / folder).as_posix()}" for folder in OURS
        for path in (ROOT / folder).rglob("*.py") if "node_modules" not in path.parts}  # fmt: skip
PAGE_FILES = (".html", ".css", ".js", ".mjs", ".svg", ".png", ".ico", ".woff2", ".txt", ".md", ".json", "/LICENSE")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(wheel, sdist) of the tree."""
    folder = tmp_path_factory.mktemp("dist")
    files = build(copy_tree(folder / "tree"), folder / "out", "wheel", "sdist")
    (wheel,) = [file for file in files if file.suffix == ".whl"]
    (sdist,) = [file for file in files if file.name.endswith(".tar.gz")]
    return wheel, sdist


def in_wheel(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def in_sdist(sdist: Path) -> set[str]:
    with tarfile.open(sdist) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


def pages() -> set[str]:
    """Everything of clearing/web that a browser may ask for, vendored files and their licences included."""
    files = (path for path in (ROOT / "clearing" / "web").rglob("*") if path.is_file())
    kept = (path for path in files if not {"node_modules", "__pycache__"} & set(path.parts))
    beside = re.compile(r"package.*\.json|.*\.py")
    return {path.relative_to(ROOT).as_posix() for path in kept if not beside.fullmatch(path.name)}


def artifacts() -> set[str]:
    """The compiled contracts that somebody deploys or checks: those that are not of the tests."""
    folder = ROOT / "contracts" / "artifacts"
    named = {path: json.loads(path.read_text())["source"] for path in folder.glob("*.json")}
    return {f"contracts/artifacts/{path.name}" for path, source in named.items() if "/test/" not in source}


def test_the_wheel_holds_the_package_and_nothing_else(built: tuple[Path, Path]) -> None:
    """Code, artifacts, pages, type marks, licences and manual pages: all of them, and no file more."""
    names = in_wheel(built[0])
    information = {name for name in names if re.match(r"novate-[^/]+\.dist-info/", name)}
    manual = {name for name in names if re.match(r"novate-[^/]+\.data/data/share/man/man1/novate[\w-]*\.1$", name)}
    marks = {f"{folder}/py.typed" for folder in OURS}
    assert names - information - manual == CODE | artifacts() | pages() | marks
    assert {name.split("/")[-1] for name in information} == {
        "METADATA", "RECORD", "WHEEL", "entry_points.txt", "LICENSE", "LICENSE-APACHE",
    }  # fmt: skip
    import click

    listed = main.list_commands(click.Context(main))
    assert {name.split("/")[-1] for name in manual} == {"novate.1"} | {f"novate-{name}.1" for name in listed}
    assert all(page.endswith(PAGE_FILES) for page in pages())


def test_the_sdist_holds_the_sources_of_the_wheel(built: tuple[Path, Path]) -> None:
    """What the wheel is made of, the contracts' sources, and no tests, tools of ours, or fetched packages."""
    names = in_sdist(built[1])
    assert names >= CODE | artifacts() | pages() | {"LICENSE", "LICENSE-APACHE", "README.md", "pyproject.toml"}
    assert "contracts/src/Vault.sol" in names and "contracts/package-lock.json" in names
    parts = {part for name in names for part in name.split("/")}
    assert not parts & {
        "tests",
        "test",
        "node_modules",
        "__pycache__",
        ".venv",
        ".tools",
        ".git",
        ".ci",
        "docs",
        "build",
    }
    assert {name.split("/")[1] for name in names if name.startswith("tools/")} == {"__init__.py", "packaging"}


def test_builds_are_the_same_bytes_and_a_wheel_needs_no_checkout(built: tuple[Path, Path], tmp_path: Path) -> None:
    """Another copy of the tree gives the same files, and so does the wheel that is built from the sdist."""
    again = build(copy_tree(tmp_path / "elsewhere" / "deep"), tmp_path / "again", "wheel", "sdist")
    assert {file.name: file.read_bytes() for file in again} == {file.name: file.read_bytes() for file in built}
    with tarfile.open(built[1]) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (source,) = (tmp_path / "unpacked").iterdir()
    before = {path.relative_to(source) for path in source.rglob("*")}
    (wheel,) = build(source, tmp_path / "from-sdist", "wheel")
    assert wheel.read_bytes() == built[0].read_bytes()
    assert {path.relative_to(source) for path in source.rglob("*")} == before, "the build left files in the tree"


def test_metadata_names_the_extras(built: tuple[Path, Path]) -> None:
    """Installers find the extras, and the plain install asks for no library of theirs."""
    with zipfile.ZipFile(built[0]) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("METADATA")]
        metadata = Parser().parsestr(archive.read(name).decode())
    assert set(metadata.get_all("Provides-Extra", [])) == {"audit", "report", "server", "ingest", "all"}
    plain = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert {re.split(r"[^\w-]", line)[0].lower() for line in plain} == declared(None)
