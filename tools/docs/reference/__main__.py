# SPDX-License-Identifier: GPL-3.0-or-later
"""Write docs/reference/, or with `--check` name what is not as the code gives it (exit status 1)."""

import argparse
import sys
from pathlib import Path
from typing import Final

from tools.docs.reference import commands, configuration, errors, interface, metrics, rules, wire

FOLDER: Final = Path(__file__).resolve().parent.parent.parent.parent / "docs" / "reference"
_GENERATORS: Final = (commands, errors, configuration, metrics, wire, rules, interface)


def build() -> dict[str, str]:
    """Every generated file of docs/reference/, by name."""
    found: dict[str, str] = {}
    for module in _GENERATORS:
        found |= module.pages()
    return found


def stale(folder: Path = FOLDER) -> list[str]:
    """Files that are missing or not what the code gives now."""
    return [
        name
        for name, text in build().items()
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.docs.reference", description="write docs/reference")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is not up to date")
    if parser.parse_args().check:
        old = stale()
        if old:
            print(f"not up to date: {', '.join(old)}; run make docs", file=sys.stderr)
        return 1 if old else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in build().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(f"wrote docs/reference/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
