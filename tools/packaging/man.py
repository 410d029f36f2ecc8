# SPDX-License-Identifier: GPL-3.0-or-later
"""Manual pages from the commands: `python -m tools.packaging.man FOLDER` (or `make man`).

One page for `novate`, and one for each of its commands with a section for every subcommand. Everything said is what
`--help` says; the pages add nothing of their own but cross-references. Needs click and the commands' modules, no
library that a command uses when it runs.
"""

import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from clearing.cli.main import main as novate

NAME = "novate"
_EXIT_CODES = (
    ("0", "Done."),
    ("1", "An error; the last line on standard error is \\(lqnovate: CODE: what to do\\(rq with a stable code."),
    ("2", "The command was used wrongly."),
    ("3", "A proof or receipt is invalid."),
    ("4", "It could not be checked: the chain or the operator did not answer."),
    ("5", "A replay diverged, or a log was caught showing two histories."),
)


def roff(text: str) -> str:
    """Text as roff shows it unchanged: one line, nothing of it a request."""
    plain = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-")
    plain = plain.replace("…", "...").replace("—", "\\(em").replace("–", "\\(en").replace("’", "\\(cq")
    plain = re.sub(r"[^\x00-\x7f]", lambda found: f"\\[u{ord(found[0]):04X}]", plain)
    return "\\&" + plain if plain[:1] in (".", "'") else plain


def prose(text: str) -> Iterator[str]:
    """Paragraphs; one that begins with click's \\b keeps its lines."""
    first = True
    for paragraph in re.split(r"\n\s*\n", text.replace("\f", "").strip()):
        if not first:
            yield ".PP"
        first = False
        if paragraph.strip().startswith("\b"):
            yield ".nf"
            yield from (roff(line) for line in paragraph.strip().removeprefix("\b").strip("\n").splitlines())
            yield ".fi"
        else:
            yield roff(paragraph)


def shown(group: click.Group, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    """The group's commands that are not hidden, by name."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is not None and not command.hidden:
            yield name, command


def synopsis(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f".B {roff(context.command_path)}"
    yield roff(" ".join(command.collect_usage_pieces(context)))


def options(command: click.Command, context: click.Context) -> Iterator[str]:
    """Each option with its help, its default and the variable that sets it."""
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is None or getattr(parameter, "hidden", False):
            continue
        yield ".TP"
        yield f".B {roff(record[0])}"
        variable = f" [env: {parameter.envvar}]" if isinstance(parameter.envvar, str) else ""
        yield roff(record[1] + variable) or "\\&"


def _context(command: click.Command, path: tuple[str, ...]) -> click.Context:
    """A context that calls the command by its full name and shows --help as the program does."""
    return click.Context(command, info_name=" ".join(path), help_option_names=["-h", "--help"])


def _subcommands(command: click.Command, path: tuple[str, ...]) -> Iterator[str]:
    if not isinstance(command, click.Group):
        return
    for name, inner in shown(command, _context(command, path)):
        context = _context(inner, (*path, name))
        if not isinstance(inner, click.Group) or inner.invoke_without_command:
            yield f".SS {roff(' '.join((*path, name)))}"
            yield from synopsis(inner, context)
            yield ".PP"
            yield from prose(inner.help or "")
            yield from options(inner, context)
        yield from _subcommands(inner, (*path, name))


def _head(path: tuple[str, ...], about: str, version: str, date: str) -> Iterator[str]:
    title = "-".join(path)
    yield '.\\" Written from the command line by tools/packaging/man.py.'
    yield f'.TH {title.upper()} 1 "{date}" "Novate {version}" "Novate manual"'
    yield ".SH NAME"
    # "name \- description" is what man-db's index reads.
    yield f"{title} \\- {roff(about.rstrip('.'))}"


def _exits() -> Iterator[str]:
    yield ".SH EXIT STATUS"
    for code, meaning in _EXIT_CODES:
        yield ".TP"
        yield f".B {code}"
        yield meaning


def command_page(name: str, command: click.Command, about: str, version: str, date: str) -> str:
    """The page of one command of `novate`."""
    path = (NAME, name)
    context = _context(command, path)
    lines = [*_head(path, about, version, date), ".SH SYNOPSIS", *synopsis(command, context)]
    lines += [".SH DESCRIPTION", *prose(command.help or about), ".SH OPTIONS", *options(command, context)]
    subcommands = list(_subcommands(command, path))
    if subcommands:
        lines += [".SH COMMANDS", *subcommands]
    return "\n".join([*lines, *_exits(), ".SH SEE ALSO", f".BR {NAME} (1)"]) + "\n"


def main_page(about: Mapping[str, str], version: str, date: str) -> str:
    """novate.1: what there is, and where it is told."""
    context = _context(novate, (NAME,))
    text = novate.help or ""
    brief = text.split("\n")[0].removeprefix("Novate: ")
    lines = [*_head((NAME,), brief, version, date), ".SH SYNOPSIS", *synopsis(novate, context)]
    lines += [".SH DESCRIPTION", *prose(text), ".SH OPTIONS", *options(novate, context), ".SH COMMANDS"]
    for name, told in about.items():
        lines += [".TP", f".BR {NAME}\\-{roff(name)} (1)", roff(told)]
    return "\n".join([*lines, *_exits()]) + "\n"


def pages(version: str, date: str) -> dict[str, str]:
    """File name -> text, of every page."""
    context = _context(novate, (NAME,))
    commands = dict(shown(novate, context))
    about = {name: novate.short_help_of(name) for name in commands}
    found = {f"{NAME}.1": main_page(about, version, date)}
    for name, command in commands.items():
        found[f"{NAME}-{name}.1"] = command_page(name, command, about[name], version, date)
    return found


def write(folder: Path, version: str, environment: Mapping[str, str]) -> list[Path]:
    """Write every page into a folder. The date on them is SOURCE_DATE_EPOCH's, and none without it."""
    moment = environment.get("SOURCE_DATE_EPOCH", "")
    date = time.strftime("%Y-%m-%d", time.gmtime(int(moment))) if moment.isdecimal() else ""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in pages(version, date).items():
        (folder / name).write_text(text, encoding="ascii")
        written.append(folder / name)
    return written


if __name__ == "__main__":
    from importlib.metadata import version as installed

    target = Path(sys.argv[1] if len(sys.argv) > 1 else "build/man/man1")
    print(
        f"{len(write(target, installed('novate'), os.environ))} pages in {target}; read one: man -l {target}/novate.1"
    )
