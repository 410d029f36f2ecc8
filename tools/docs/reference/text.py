# SPDX-License-Identifier: GPL-3.0-or-later
"""Markdown that the generators share."""

import inspect
import re
from collections.abc import Iterable, Sequence

NOTICE = "<!-- Written by `make docs` from the code; a change here is lost. -->"


def page(title: str, *parts: str) -> str:
    """A whole page, ending in one newline."""
    return "\n\n".join([f"# {title}", NOTICE, *(part.strip("\n") for part in parts if part)]) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; cells hold one line each."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines)


def cell(value: object) -> str:
    """One line without what would end the cell."""
    return re.sub(r"\s+", " ", str(value)).replace("|", "\\|").strip()


def documentation(item: object) -> str:
    """A docstring as one paragraph per paragraph."""
    return "\n\n".join(cell(part) for part in (inspect.getdoc(item) or "").split("\n\n"))


def code(value: object) -> str:
    """A value in code font; nothing for nothing."""
    text = str(value)
    return f"`{text}`" if text else ""
