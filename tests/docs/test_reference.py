# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/reference says what the code says, and links of all pages lead somewhere."""

import re
from pathlib import Path

import pytest

from clearing.model.errors import REJECTIONS
from tools.docs.reference.__main__ import FOLDER, build, stale

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"])
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def test_the_reference_is_as_the_code_gives_it() -> None:
    """After a change of commands, errors, configuration or metrics: make docs."""
    assert stale() == []


@pytest.mark.slow
def test_a_changed_file_is_stale(tmp_path: Path) -> None:
    """The check of freshness sees a file that was edited or is missing."""
    for name, text in build().items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert stale(tmp_path) == []
    (tmp_path / "cli.md").write_text("edited", encoding="utf-8")
    (tmp_path / "errors.md").unlink()
    assert sorted(stale(tmp_path)) == ["cli.md", "errors.md"]


@pytest.mark.slow
def test_the_pages_hold_what_they_are_for() -> None:
    """A command, a code, a setting, a metric and an outcome that everybody meets are there."""
    text = build()
    assert "### novate operator run\n" in text["cli.md"] and "`NOVATE_RPC`" in text["cli.md"]
    assert all(f"| `{code}` |" in text["errors.md"] for code in REJECTIONS)
    assert "`NOVATE_CONFIG_PORT`" in text["configuration.md"] and "novate_seconds_to_freeze" in text["metrics.md"]
    assert "### TradeNovated (tag 2)" in text["outcomes.md"] and "### PlaceOrder (tag 0)" in text["commands.md"]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    """Relative links name files of the repository, and anchors name headings of them."""
    for target in _LINK.findall(path.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        assert file.exists(), f"{target} in {path}"
        if anchor and file.suffix == ".md":
            assert anchor in _anchors(file), f"{target} in {path}"


def _anchors(path: Path) -> set[str]:
    """What renderers make of headings: lower case, spaces as hyphens, other marks gone."""
    found = re.findall(r"(?m)^#+ (.+)$", path.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.slow
def test_only_generated_files_lie_in_the_reference() -> None:
    """A page that no generator writes would be nobody's."""
    assert {path.name for path in FOLDER.iterdir()} == set(build())
