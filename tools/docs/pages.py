# SPDX-License-Identifier: GPL-3.0-or-later
"""A page of documentation as the steps that it tells its reader to take.

Rules:
- A ```console block holds commands (`$ command`, continued by lines that begin with `> `) and below each what it
  prints. A command with nothing below it is only checked for its exit status; `?` alone below it is a place that
  `--update` fills in. A line `...` stands for any number of lines.
- An exit status other than 0 is said by a last line `[exit status 3]`.
- HTML comments steer a run and are not seen by readers:
    <!-- docs: needs PAGE -->     the page begins where PAGE (relative to this one) ends
    <!-- docs: file NAME -->      the next block, of whatever language, is written to this file
    <!-- docs: skip REASON -->    the next block is not run
    <!-- docs: numbers -->        numbers in the next block's output vary
    <!-- docs: varies REGEX -->   what matches varies, to the end of the page
    <!-- docs: timeout SECONDS --> for each command of the next block; 120 otherwise
    <!-- docs: quick -->          the next block needs nothing before it and takes a second: run by the fast tests, too
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

TIMEOUT_S: Final = 120.0
_DIRECTIVE = re.compile(r"\s*<!-- docs: (\w+)(?:\s+(.*?))?\s*-->\s*$")
_FENCE = re.compile(r"^(\s*)(`{3,}|~{3,})(\w*)\s*$")
_KNOWN = ("needs", "file", "skip", "numbers", "varies", "timeout", "quick")


class PageError(Exception):
    """A page that cannot be read; the message names file and line."""


@dataclass
class Command:
    """`text` as typed; `output` as shown, from line `first` of the page (counted from 1)."""

    line: int
    text: str
    output: list[str]
    first: int
    numbers: bool
    timeout_s: float
    varies: tuple[str, ...]
    quick: bool

    @property
    def background(self) -> bool:
        """Does the shell go on at once?"""
        return self.text.rstrip().endswith("&") and not self.text.rstrip().endswith("&&")


@dataclass
class WriteFile:
    """A block that the reader saves under `name`."""

    line: int
    name: str
    text: str


@dataclass
class Page:
    """`steps` in order; `needs` is the page that comes first; `skipped`: line and reason."""

    path: Path
    steps: list[Command | WriteFile] = field(default_factory=list)
    needs: Path | None = None
    skipped: list[tuple[int, str]] = field(default_factory=list)


def read(path: Path) -> Page:
    """The steps of a page. Raises `PageError`."""
    page = Page(path)
    lines = path.read_text(encoding="utf-8").split("\n")
    pending: dict[str, str] = {}
    varies: list[str] = []
    at = 0
    while at < len(lines):
        if found := _DIRECTIVE.match(lines[at]):
            _direct(page, at + 1, found[1], found[2] or "", pending, varies)
        elif fence := _FENCE.match(lines[at]):
            end = _end(path, lines, at, fence[2])
            _block(page, lines, at, end, fence[3], pending, tuple(varies))
            pending = {}
            at = end
        at += 1
    if pending:
        raise PageError(f"{path}: a directive ({', '.join(pending)}) with no block after it")
    return page


def _direct(page: Page, line: int, name: str, value: str, pending: dict[str, str], varies: list[str]) -> None:
    if name not in _KNOWN:
        raise PageError(f"{page.path}:{line}: no directive {name!r}; there are {', '.join(_KNOWN)}")
    if name == "needs":
        page.needs = (page.path.parent / value).resolve()
    elif name == "varies":
        varies.append(value)
    else:
        pending[name] = value


def _end(path: Path, lines: list[str], start: int, marks: str) -> int:
    for at in range(start + 1, len(lines)):
        if lines[at].strip() == marks:
            return at
    raise PageError(f"{path}:{start + 1}: this block is not closed")


def _block(
    page: Page, lines: list[str], start: int, end: int, language: str, pending: dict[str, str], varies: tuple[str, ...]
) -> None:
    """The steps of the block between the fences at `start` and `end`."""
    if "skip" in pending:
        page.skipped.append((start + 1, pending["skip"]))
    elif "file" in pending:
        text = "\n".join(lines[start + 1 : end]) + "\n"
        page.steps.append(WriteFile(start + 1, pending["file"], text))
    elif language == "console":
        _commands(page, lines, start + 1, end, pending, varies)


def _commands(
    page: Page, lines: list[str], start: int, end: int, pending: dict[str, str], varies: tuple[str, ...]
) -> None:
    timeout_s = float(pending.get("timeout", TIMEOUT_S))
    at = start
    while at < end:
        if not lines[at].startswith("$ "):
            raise PageError(f"{page.path}:{at + 1}: expected `$ command`; is this output without a command?")
        line, text = at + 1, [lines[at][2:]]
        at += 1
        while at < end and lines[at].startswith("> "):
            text.append(lines[at][2:])
            at += 1
        first = at
        while at < end and not lines[at].startswith("$ "):
            at += 1
        output = lines[first:at]
        numbers, quick = "numbers" in pending, "quick" in pending
        page.steps.append(Command(line, "\n".join(text), output, first + 1, numbers, timeout_s, varies, quick))


def rewritten(path: Path, outputs: list[tuple[Command, list[str]]]) -> str:
    """The page's text with other outputs below some of its commands."""
    lines = path.read_text(encoding="utf-8").split("\n")
    for command, output in sorted(outputs, key=lambda pair: -pair[0].first):
        start = command.first - 1
        lines[start : start + len(command.output)] = output
    return "\n".join(lines)
