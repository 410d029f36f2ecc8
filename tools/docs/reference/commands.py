# SPDX-License-Identifier: GPL-3.0-or-later
"""cli.md: every command of `novate` with its options, defaults and variables, from the click tree."""

import re
from collections.abc import Iterator

import click

from clearing.cli.main import main
from tools.docs.reference.text import cell, code, page, table

_EXITS = (
    (0, "done, or everything that was checked agrees"),
    (1, "an error: one line on standard error, `novate: CODE: what to do`"),
    (2, "usage: the command line is wrong"),
    (3, "a proof or bytes do not hold"),
    (4, "could not check: the chain, the operator or a file did not answer, so nothing was found out"),
    (5, "replay diverged: the journal says something else than the rules, or a log was forked"),
)


def pages() -> dict[str, str]:
    """cli.md."""
    context = click.Context(main, info_name="novate")
    found = list(_walk(main, context))
    contents = "\n".join(
        f"- [`{path}`](#{_anchor(path)}): {command.get_short_help_str(200)}" for path, command in found
    )
    sections = [_section(path, command) for path, command in found]
    return {
        "cli.md": page(
            "The command line",
            "Errors go to standard error as one line with a stable code ([error codes](errors.md)); results go to "
            "standard output, as one JSON object with `--json`. An option that names an environment variable takes "
            "its value from there when it is not given.",
            "## Exit status\n\n" + table(("status", "meaning"), _EXITS),
            "## Commands\n\n" + contents,
            *sections,
        )
    }


def _anchor(path: str) -> str:
    return path.replace(" ", "-")


def _walk(command: click.Command, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    """Every command but the root, parents first, in the order of the help pages."""
    if not isinstance(command, click.Group):
        return
    for name in command.list_commands(context):
        child = command.get_command(context, name)
        if child is None or child.hidden:
            continue
        below = click.Context(child, info_name=name, parent=context)
        yield below.command_path, child
        yield from _walk(child, below)


def _section(path: str, command: click.Command) -> str:
    context = click.Context(command, info_name=path)
    arguments = [p for p in command.params if isinstance(p, click.Argument)]
    options = [p for p in command.params if isinstance(p, click.Option) and not p.hidden and p.name != "help"]
    usage = " ".join([path, *(_argument(item, context) for item in arguments)])
    if options:
        usage += " [OPTIONS]"
    if isinstance(command, click.Group):
        usage += " COMMAND"
    parts = [f"### {path}", f"    {usage}", _prose(command.help or "")]
    if options:
        parts.append(table(("option", "meaning", "default", "environment"), (_row(item, context) for item in options)))
    return "\n\n".join(part for part in parts if part)


def _argument(item: click.Argument, context: click.Context) -> str:
    return re.sub(r"\s+", "", item.make_metavar(context))


def _prose(text: str) -> str:
    return "\n\n".join(cell(part) for part in re.sub(r"\x08\n?", "", text).split("\n\n") if part.strip())


def _row(item: click.Option, context: click.Context) -> tuple[str, str, str, str]:
    names = ", ".join(code(name) for name in (*item.opts, *item.secondary_opts))
    kind = "" if item.is_flag else " " + re.sub(r"\s+", " ", item.make_metavar(context))
    if item.required:
        default = "required"
    elif (
        item.is_flag or item.default is None or callable(item.default) or item.multiple or "UNSET" in repr(item.default)
    ):
        default = ""
    else:
        default = code(item.default)
    environment = item.envvar if isinstance(item.envvar, str) else ", ".join(item.envvar or ())
    return names + cell(kind), item.help or "", default, code(environment)
