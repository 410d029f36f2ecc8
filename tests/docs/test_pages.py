# SPDX-License-Identifier: GPL-3.0-or-later
"""What the pages tell their readers to type does what they show, on this machine, with real processes and a real chain.

Each page is one slow test; blocks that say they are quick run with the fast suite, too. Run one by hand with
`python -m tools.docs.run docs/how-to/user-leave.md`, and with `--update` after a change of what a command prints.
"""

from pathlib import Path

import pytest

from tools.docs.pages import read
from tools.docs.run import ROOT, pages, quick_steps, run_page

PAGES = pages()
QUICK = [path for path in PAGES if quick_steps(read(path))]


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.slow
@pytest.mark.parametrize("path", PAGES, ids=_name)
def test_a_page_does_what_it_shows(path: Path) -> None:
    """Every command of the page, in order, in an empty directory."""
    run_page(path)


@pytest.mark.parametrize("path", QUICK, ids=_name)
def test_quick_blocks_do_what_they_show(path: Path) -> None:
    """They need no venue and no chain."""
    run_page(path, quick=True)


def test_the_pages_are_there() -> None:
    """README, tutorials and guides have commands, and nearly all of them are run."""
    names = {_name(path) for path in PAGES}
    assert {"README.md", "docs/tutorial/first-venue.md", "docs/how-to/user-leave.md"} <= names and len(names) >= 15
    skipped = [f"{_name(path)}:{line}" for path in PAGES for line, _ in read(path).skipped]
    assert len(skipped) <= 4, skipped
    assert QUICK
