# SPDX-License-Identifier: GPL-3.0-or-later
"""The manual pages: one for every command, each saying what --help says, and well formed."""

import shutil
import subprocess
from pathlib import Path

import click
import pytest

from clearing.cli.main import main
from tests.packaging.commands import leaves
from tools.packaging.man import pages, prose, roff, write

PAGES = pages("1.2.3", "2026-01-02")


def text_of(page: str) -> str:
    """The page as a terminal shows it, in one line."""
    for escape, character in (("\\-", "-"), ("\\e", "\\"), ("\\&", ""), ("\\(lq", '"'), ("\\(rq", '"')):
        page = page.replace(escape, character)
    return " ".join(page.split())


def command_at(path: tuple[str, ...]) -> click.Command:
    found: click.Command = main
    for name in path:
        assert isinstance(found, click.Group)
        inner = found.get_command(click.Context(found), name)
        assert inner is not None
        found = inner
    return found


def test_every_command_and_option_has_its_place() -> None:
    """A page for each command with each subcommand's usage, options and the variables that set them."""
    assert set(PAGES) == {"novate.1"} | {f"novate-{leaf.path[0]}.1" for leaf in leaves()}
    for leaf in leaves():
        page = text_of(PAGES[f"novate-{leaf.path[0]}.1"])
        assert f".B novate {leaf.name}" in page, leaf.name
        for parameter in command_at(leaf.path).params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert parameter.opts[0] in page, f"{leaf.name} {parameter.opts}"
                assert not isinstance(parameter.envvar, str) or f"[env: {parameter.envvar}]" in page


def test_the_first_page_leads_to_all_others() -> None:
    """novate.1 names each of them with what --help says about it."""
    page = text_of(PAGES["novate.1"])
    for name in {leaf.path[0] for leaf in leaves()}:
        assert f".BR novate-{name} (1) {' '.join(main.short_help_of(name).split())}" in page


def test_text_is_never_taken_for_a_request() -> None:
    """Help that begins with a dot, holds backslashes or other alphabets comes out as it was written."""
    assert roff(".ds is no request") == "\\&.ds is no request"
    assert roff("'quoted' a\\b — é") == "\\&'quoted' a\\eb \\(em \\[u00E9]"
    assert list(prose("One.\n\n\b\n  kept\n  as is\n\nTwo.")) == [
        "One.", ".PP", ".nf", "kept", "as is", ".fi", ".PP", "Two.",
    ]  # fmt: skip


def test_the_date_is_the_source_s(tmp_path: Path) -> None:
    """Two builds of one source are the same bytes whenever they are made."""
    first = write(tmp_path, "1.2.3", {"SOURCE_DATE_EPOCH": "1767312000"})
    assert '"2026-01-02" "Novate 1.2.3"' in first[0].read_text()
    assert '.TH NOVATE 1 "" "Novate 1.2.3"' in write(tmp_path, "1.2.3", {})[0].read_text()


CHECKERS = {
    "mandoc": ["mandoc", "-Tlint", "-Wwarning"],
    "man": ["man", "--warnings", "--local-file"],
}


@pytest.mark.slow
@pytest.mark.parametrize("checker", sorted(CHECKERS))
def test_pages_are_well_formed(checker: str, tmp_path: Path) -> None:
    """The formatters have nothing to say about them."""
    if shutil.which(checker) is None:
        pytest.skip(f"{checker} is not installed")
    for name, text in PAGES.items():
        (tmp_path / name).write_text(text)
    for name in PAGES:
        done = subprocess.run([*CHECKERS[checker], str(tmp_path / name)], capture_output=True, text=True, timeout=60)
        told = done.stdout if checker == "mandoc" else done.stderr
        assert (done.returncode, told) == (0, ""), f"{name}: {told}"


def test_a_broken_page_is_noticed(tmp_path: Path) -> None:
    """The check above can fail: a request that does not exist is reported."""
    if shutil.which("man") is None:
        pytest.skip("man is not installed")
    file = tmp_path / "bad.1"
    file.write_text(PAGES["novate.1"] + ".nosuchrequest\n")
    done = subprocess.run([*CHECKERS["man"], str(file)], capture_output=True, text=True, timeout=60)
    assert "nosuchrequest" in done.stderr
