# SPDX-License-Identifier: GPL-3.0-or-later
"""Is what a command printed what the page shows? Equal but for what no two runs share.

Hashes, keys, addresses, signatures, times, durations, ports that the system chose, and sizes of disks and files are
taken out on both sides. Everything else must be there, in order: amounts, counts, names, verdicts, error codes.
"""

import difflib
import re
from collections.abc import Sequence
from typing import Final

ELISION: Final = "..."
_TAKEN_OUT: Final = tuple(
    (re.compile(pattern), instead)
    for pattern, instead in (
        (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?( ?UTC|Z|\+00:00)?", "TIME"),
        (r"\b\d\d:\d\d:\d\d\b", "TIME"),
        (r"\+[0-9a-f]{8}\+[A-Za-z0-9+/]{20,}=*", "+KEY"),
        (r"0x[0-9a-fA-F]{6,}…?", "HEX"),
        (r"\b(?=[0-9a-f]*[a-f])[0-9a-f]{8,}\b…?|\b[0-9a-f]{12,}…", "HEX"),
        (r"\b1[5-9]\d{14}\b", "TIME"),
        (r"[A-Za-z0-9+/]{40,}={0,2}", "BASE64"),
        (r"(127\.0\.0\.1|localhost):\d{5}\b", r"\1:PORT"),
        (r"\b[\d,]*\.?\d+ (ms|s|min|h|seconds|minutes|days)\b", "DURATION"),
        (r"(DURATION )+DURATION|(DURATION, )+DURATION", "DURATION"),
        (r"\b[\d,]*\.?\d+ ?(B|KiB|MiB|GiB|TiB|bytes)\b", "SIZE"),
        (r"\b\d+(\.\d+)? %", "PERCENT"),
        (r"\bgas( for|:)? +[\d,]+|\b\d[\d,]* gas\b", "gas N"),
        (r"\bpid[= ]\d+", "pid N"),
        (r"[ \t]{2,}", " "),
        (r"\s+$", ""),
    )
)
_NUMBERS = re.compile(r"\d[\d,]*(\.\d+)?")


def normalised(lines: Sequence[str], varies: Sequence[str] = (), numbers: bool = False) -> list[str]:
    """The lines with what varies taken out."""
    extra = [re.compile(pattern) for pattern in varies]
    return [_line(line, extra, numbers) for line in lines]


def _line(line: str, extra: list[re.Pattern[str]], numbers: bool) -> str:
    if line == ELISION:
        return line
    for pattern in extra:
        line = pattern.sub("VARIES", line)
    for pattern, instead in _TAKEN_OUT:
        line = pattern.sub(instead, line)
    return _NUMBERS.sub("N", line) if numbers else line


def matches(shown: Sequence[str], printed: Sequence[str], varies: Sequence[str] = (), numbers: bool = False) -> bool:
    """Does what was printed fit what is shown, whose `...` stands for any number of lines?"""
    left, right = normalised(shown, varies, numbers), normalised(printed, varies, numbers)
    pattern = "".join(r"(?:.*\n)*?" if line == ELISION else re.escape(line) + "\n" for line in left)
    return re.fullmatch(pattern, "".join(line + "\n" for line in right)) is not None


def difference(
    shown: Sequence[str], printed: Sequence[str], varies: Sequence[str] = (), numbers: bool = False
) -> list[str]:
    """A diff for the reader, of the normalised lines, and then what was printed."""
    left, right = normalised(shown, varies, numbers), normalised(printed, varies, numbers)
    return [
        *difflib.unified_diff(left, right, "the page shows", "the command printed", lineterm=""),
        "printed, as it came:",
        *(f"    {line}" for line in printed),
    ]
