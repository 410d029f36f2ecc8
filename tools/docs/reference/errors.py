# SPDX-License-Identifier: GPL-3.0-or-later
"""errors.md: every stable code that this code base raises, with what its message says to do, found in the sources.

A code is the first text argument of a call to one of the error classes, or of `fail` in the command line; its message
is the argument after it, values in it shown as an ellipsis. The codes of journalled rejections come from
`clearing.model.errors.REJECTIONS`, where each has its sentence.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from clearing.model.errors import REJECTIONS
from tools.docs.reference.text import code, page, table

ROOT: Final = Path(__file__).resolve().parent.parent.parent.parent
_RAISERS: Final = {
    "NovateError", "Refused", "InvariantViolation", "ChainError", "ExitError", "ApiError", "JournalError",
    "FatalJournalError", "Refusal", "BadFrame", "IngestFailed", "AbiError", "ArtifactError", "StageError",
    "fail", "fault", "_error", "corrupt", "Finding", "Objection",
}  # fmt: skip
_CODE: Final = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")
_PLACES: Final = (
    ("clearing/audit", "auditor"),
    ("clearing/watch", "attestor"),
    ("clearing/witness", "witness"),
    ("clearing/exit", "exit"),
    ("clearing/chain", "chain"),
    ("clearing/client", "client"),
    ("clearing/cli", "command line"),
    ("clearing/api", "interface"),
    ("clearing/service", "operator"),
    ("clearing/core", "rules"),
    ("clearing/model", "formats"),
    ("clearing/report", "reports"),
    ("clearing/ingest", "recorded flow"),
    ("clearing", "novate"),
    ("journal", "journal"),
    ("proofs", "proofs"),
    ("contracts", "contracts"),
)


def pages() -> dict[str, str]:
    """errors.md."""
    found = _sources()
    rows = [
        (code(name), ", ".join(sorted({place for place, _ in uses})), _said(uses))
        for name, uses in sorted(found.items())
    ]
    return {
        "errors.md": page(
            "Error codes",
            "Codes are stable: they are not renamed, and programs may rely on them. Messages are for people and may be "
            'worded anew; an ellipsis stands for the value concerned. Over HTTP an error is `{"code", "message"}`; '
            "on the command line it is `novate: CODE: message` with an exit status ([command line](cli.md)).",
            "## Rejections in the journal\n\nThe envelope was valid and its signature good, so it was journalled; the "
            "rules refused one of its commands. `Rejected` names the command's index and one of these codes.\n\n"
            + table(("code", "what to do"), ((code(name), text) for name, text in sorted(REJECTIONS.items()))),
            "## All others\n\nNothing was journalled. Where several places raise a code, their messages are divided by "
            "a semicolon, at most three of them.\n\n" + table(("code", "raised by", "message"), rows),
        )
    }


def _said(uses: list[tuple[str, str]]) -> str:
    texts = list(dict.fromkeys(text for _, text in uses if text))
    return "; ".join(texts[:3])


def _sources() -> dict[str, list[tuple[str, str]]]:
    """Per code the places and messages of its raisers, in the order of the files."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for package in ("clearing", "journal", "proofs", "contracts"):
        for path in sorted((ROOT / package).rglob("*.py")):
            relative = path.relative_to(ROOT).as_posix()
            if "node_modules" in relative:
                continue
            place = next(name for start, name in _PLACES if relative.startswith(start + "/"))
            for name, text in _raised(ast.parse(path.read_text(encoding="utf-8"))):
                found[name].append((place, text))
    return found


def _raised(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _name(node.func) in _RAISERS:
            yield from _call(node)
        elif isinstance(node, ast.ClassDef) and any("Error" in _name(base) for base in node.bases):
            yield from _class(node)


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _call(node: ast.Call) -> Iterator[tuple[str, str]]:
    for at, argument in enumerate(node.args[:2]):
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            named = argument.value
        else:
            named = _name(argument)
        if len(named) > 3 and _CODE.fullmatch(named):
            after = [_text(item) for item in node.args[at + 1 :]]
            yield named, next((text for text in after if text), "")
            return


def _class(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """`code = "..."` in the body of an error class, with its docstring."""
    for item in node.body:
        if isinstance(item, ast.Assign) and isinstance(item.value, ast.Constant) and _name(item.targets[0]) == "code":
            yield str(item.value.value), (ast.get_docstring(node) or "").split("\n\n")[0]


def _text(node: ast.expr) -> str:
    """A message, values as an ellipsis; nothing if it is no text in the source."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(str(p.value) if isinstance(p, ast.Constant) else "…" for p in parts)
        case ast.BinOp(left=left, right=right):
            return _text(left) + (_text(right) or "…") if _text(left) else ""
        case _:
            return ""
