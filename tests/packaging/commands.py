# SPDX-License-Identifier: GPL-3.0-or-later
"""Every command of `novate` with the function that runs it, and what pyproject.toml says about libraries."""

import inspect
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import packages_distributions

import click

from clearing.cli.main import main
from tests.packaging.reach import ROOT, Reach


@dataclass(frozen=True)
class Leaf:
    """A command that runs something: its path, and where its function is."""

    path: tuple[str, ...]
    module: str
    function: str

    @property
    def name(self) -> str:
        return " ".join(self.path)


def _walk(group: click.Group, path: tuple[str, ...]) -> Iterator[Leaf]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from _walk(command, (*path, name))
        if not isinstance(command, click.Group) or command.invoke_without_command:
            assert command.callback is not None
            function = inspect.unwrap(command.callback)
            yield Leaf((*path, name), function.__module__, function.__qualname__)


@cache
def leaves() -> tuple[Leaf, ...]:
    return tuple(_walk(main, ()))


@cache
def reach(leaf: Leaf) -> Reach:
    return Reach().function(leaf.module, leaf.function)


@cache
def project() -> dict[str, object]:
    """The [project] table of pyproject.toml."""
    table: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return table


def normal(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(extra: str | None) -> set[str]:
    """The distributions that `novate[extra]` asks for itself, over and above those of the plain install."""
    lists = project()["dependencies"] if extra is None else project()["optional-dependencies"][extra]  # type: ignore[index]
    assert isinstance(lists, list)
    found: set[str] = set()
    for line in lists:
        match = re.match(r"([A-Za-z0-9._-]+)(?:\[([a-z,]+)\])?", line)
        assert match is not None
        if match[1] == "novate":
            found |= {name for inner in match[2].split(",") for name in declared(inner)}
        else:
            found.add(normal(match[1]))
    return found


@cache
def _installed() -> Mapping[str, list[str]]:
    return packages_distributions()


def brings(module: str) -> set[str]:
    """The distributions here that have this top-level module."""
    return {normal(name) for name in _installed().get(module, ())}


def distribution_of(module: str) -> str:
    """The distribution that brings a library's top-level module."""
    known = _installed().get(module)
    assert known, f"{module} is imported and not installed here"
    return normal(known[0])
