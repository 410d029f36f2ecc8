# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m tools.docs.run [PAGE...]`: do what the pages tell their readers to do, and compare what comes of it.

Each page runs in an empty directory, after the page that it needs, with `novate` of this environment on the PATH. The
first difference ends a page: file, line, command and a diff. `--update` writes what was printed into the page instead,
where it differs from what is shown; a traceback is never written.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tools.docs import compare
from tools.docs.pages import Command, Page, PageError, WriteFile, read, rewritten
from tools.docs.shell import Ran, Shell

ROOT: Final = Path(__file__).resolve().parent.parent.parent
SEED: Final = ["?"]
# How long a process in the background may take to say what the page shows, and how often it is looked at.
_BACKGROUND_S: Final = 60.0
_LOOK_S: Final = 0.2


class StepFailed(Exception):
    """A step that did not do what its page shows; the message is for the reader."""


def pages() -> list[Path]:
    """README.md and every page of docs/ that has something to run."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [path for path in found if read(path).steps]


def run_page(path: Path, update: bool = False, quick: bool = False) -> int:
    """Run a page, after what it needs (or only its quick blocks); returns how many outputs were rewritten.

    Raises `StepFailed`, `PageError`.
    """
    with tempfile.TemporaryDirectory(prefix="novate-docs-") as folder:
        home, scratch = Path(folder, "home"), Path(folder, "run")
        home.mkdir()
        shell = Shell(home, scratch)
        try:
            before_it_ran = path.read_text(encoding="utf-8")
            page = read(path)
            for before in [] if quick else _chain(page)[:-1]:
                _steps(before, shell, home, [])
            if quick:
                page.steps = quick_steps(page)
            rewrites: list[tuple[Command, list[str]]] = []
            _steps(page, shell, home, rewrites, update)
        finally:
            shell.close()
    if rewrites:
        if path.read_text(encoding="utf-8") != before_it_ran:
            raise PageError(f"{path}: was edited while it ran; run it again")
        path.write_text(rewritten(path, rewrites), encoding="utf-8")
    return len(rewrites)


def quick_steps(page: Page) -> list[Command | WriteFile]:
    """The steps that need nothing before them."""
    return [step for step in page.steps if isinstance(step, Command) and step.quick]


def _chain(page: Page) -> list[Page]:
    """The page, and before it those that it needs. Raises `PageError` where they need one another."""
    found = [page]
    while found[0].needs is not None:
        if any(other.path.resolve() == found[0].needs for other in found):
            raise PageError(f"{page.path}: needs itself, by way of {found[0].path}")
        found.insert(0, read(found[0].needs))
    return found


def _steps(
    page: Page, shell: Shell, home: Path, rewrites: list[tuple[Command, list[str]]], update: bool = False
) -> None:
    for step in page.steps:
        if isinstance(step, WriteFile):
            target = home / step.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(step.text, encoding="utf-8")
            continue
        printed = _run(page, step, shell)
        if printed is None:
            continue
        # Nobody reads a page that was updated as closely as one that was written: a fault must not slip in.
        if not update or any(line.startswith("Traceback (most recent") for line in printed):
            raise StepFailed(_failure(page, step, printed))
        rewrites.append((step, printed))


def _run(page: Page, step: Command, shell: Shell) -> list[str] | None:
    """Run one command; None if all is well, else what it printed. Raises `StepFailed` for what no update mends."""
    ran = shell.run(step.text, step.timeout_s)
    where = f"{_name(page.path)}:{step.line}: $ {step.text}"
    if ran.status is None:
        last = "\n".join(f"    {line}" for line in ran.lines()[-20:])
        raise StepFailed(f"{where}\ndid not end within {step.timeout_s:g} s, or took the shell with it:\n{last}")
    if not step.output:
        if ran.status:
            raise StepFailed(f"{where}\nended badly, and the page does not say so:\n" + "\n".join(ran.lines()))
        return None
    if step.background:
        return _overheard(step, ran)
    printed = ran.lines()
    return None if _fits(step, printed) else printed


def _overheard(step: Command, ran: Ran) -> list[str] | None:
    """What a process in the background says: None as soon as that is what the page shows."""
    until = time.monotonic() + (10.0 if step.output == SEED else _BACKGROUND_S)
    while time.monotonic() < until:
        printed = ran.lines()
        # It goes on talking: what follows is not the page's business.
        if any(_fits(step, printed[:count]) for count in range(1, len(printed) + 1)):
            return None
        time.sleep(_LOOK_S)
    return ran.lines()


def _fits(step: Command, printed: list[str]) -> bool:
    return step.output != SEED and compare.matches(step.output, printed, step.varies, step.numbers)


def _failure(page: Page, step: Command, printed: list[str]) -> str:
    lines = compare.difference(step.output, printed, step.varies, step.numbers)
    return "\n".join([f"{_name(page.path)}:{step.line}: $ {step.text}", *lines])


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 if every page holds, 1 if one does not."""
    parser = argparse.ArgumentParser(prog="python -m tools.docs.run", description="run the commands of the pages")
    parser.add_argument("pages", nargs="*", type=Path, help="default: README.md and docs/")
    parser.add_argument("--update", action="store_true", help="write what was printed into the pages")
    parser.add_argument("--quick", action="store_true", help="only blocks that say they are quick")
    parser.add_argument("--list", action="store_true", help="name the pages and what they skip; run nothing")
    given = parser.parse_args(argv)
    chosen = [path.resolve() for path in given.pages] or pages()
    failed = 0
    for path in chosen:
        page = read(path)
        steps = quick_steps(page) if given.quick else page.steps
        if not steps:
            continue
        print(f"{_name(path)}: {len(steps)} steps", flush=True)
        for line, reason in page.skipped:
            print(f"  line {line} not run: {reason}")
        if given.list:
            continue
        begun = time.monotonic()
        try:
            count = run_page(path, given.update, given.quick)
        except (StepFailed, PageError) as error:
            failed += 1
            print(f"FAILED {error}", flush=True)
        else:
            print(f"  as shown, {time.monotonic() - begun:.0f} s" if not count else f"  rewrote {count} outputs")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
