# SPDX-License-Identifier: GPL-3.0-or-later
"""rules.md: what the reducer does, in the words of its own modules. Each module of clearing/core states its rules at
its top; this page brings them together in the order in which a reader needs them."""

import ast
import re
from pathlib import Path
from typing import Final

from tools.docs.reference.text import page

_CORE: Final = Path(__file__).resolve().parent.parent.parent.parent / "clearing" / "core"
_CHAPTERS: Final = (
    ("An entry", ("reducer", "accounts", "inbox", "collateral")),
    ("Orders", ("orders", "matching", "book", "triggers", "fees", "positions", "breakers")),
    ("Prices", ("oracle", "surfaces", "mark", "adaptive", "arrays", "funding", "expiry", "listing")),
    ("Margin", ("margin", "modes", "assets", "borrowing", "risk/array", "risk/scan", "risk/standard", "risk/black76")),
    ("Default", ("liquidation", "ladder", "auction", "backstop", "waterfall", "adl")),
    ("Epochs and endings", ("epoch", "leaves", "winddown", "vaults", "forced", "escape", "closing", "governance")),
    ("Books in order", ("invariants", "shared", "snapshot")),
)


def pages() -> dict[str, str]:
    """rules.md."""
    chapters = []
    for title, names in _CHAPTERS:
        sections = [f"### {name}\n\n{text}" for name in names if (text := _words(name))]
        chapters.append(f"## {title}\n\n" + "\n\n".join(sections))
    return {
        "rules.md": page(
            "The rules",
            "What each part of the reducer does, as its module says at its top; headings are the modules of "
            "clearing/core. Commands and outcomes are in [commands](commands.md) and [outcomes](outcomes.md), formats "
            "and the order of an entry in the [protocol](../protocol.md).",
            *chapters,
        )
    }


def _words(name: str) -> str:
    """A module's docstring as Markdown; nothing if there is no such module."""
    path = _CORE / f"{name}.py"
    if not path.is_file():
        return ""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    # A list needs an empty line before it; deeper indented lines of formulas are blocks of their own.
    text = re.sub(r"(?m)^(?!- |\d\. |  )(.+)\n(?=- |\d\. )", r"\1\n\n", text)
    return text
