# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a journal and its replay part, in words: the entry, what kind of difference, and every field that differs.

Rule: outcomes are compared as bytes elsewhere; here they are only told apart.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from clearing.model.outcomes import Outcome


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where the journal and the replay part. `what`: SEQUENCE, ENCODING, SIGNATURE, ADMISSION, TIME,
    OUTCOMES, INVARIANT or SNAPSHOT; `fields` names each differing field with both values."""

    seq: int
    what: str
    expected: str
    found: str
    fields: tuple[str, ...] = ()

    def __str__(self) -> str:
        detail = "; ".join(self.fields) or f"the journal says {self.found}, replay {self.expected}"
        return f"entry {self.seq}, {self.what}: {detail}"


def _difference(found: object, expected: object, where: str) -> Iterator[str]:
    """Differing leaves of two values, as "path: journal X, replay Y"."""
    if isinstance(found, msgspec.Struct) and type(found) is type(expected):
        for name in found.__struct_fields__:
            yield from _difference(
                getattr(found, name), getattr(expected, name), f"{where} {type(found).__name__}.{name}"
            )
    elif isinstance(found, tuple) and isinstance(expected, tuple) and len(found) == len(expected):
        for index, pair in enumerate(zip(found, expected, strict=True)):
            yield from _difference(*pair, f"{where}[{index}]")
    elif found != expected:
        yield f"{where}: the journal says {_shown(found)}, replay {_shown(expected)}"


def _shown(value: object) -> str:
    if isinstance(value, bytes):
        return "0x" + value.hex()
    return type(value).__name__ if isinstance(value, msgspec.Struct) else repr(value)


def compare_outcomes(found: Sequence[Outcome], expected: Sequence[Outcome]) -> tuple[str, ...]:
    """Which fields differ between journalled and replayed outcomes."""
    lines: list[str] = []
    for index in range(max(len(found), len(expected))):
        if index >= len(found):
            lines.append(f"outcomes[{index}]: missing from the journal, replay has {_shown(expected[index])}")
        elif index >= len(expected):
            lines.append(f"outcomes[{index}]: the journal has {_shown(found[index])}, replay has none")
        else:
            lines += _difference(found[index], expected[index], f"outcomes[{index}]")
    return tuple(lines)
