# SPDX-License-Identifier: GPL-3.0-or-later
"""Which libraries a function can load: read from the sources, without running them.

Rules: a module that is imported runs its top level; a function that is named may run; a class that is named may have
all its methods run. Nothing else runs. So what is found is at least what can happen (a method is only ever called on
an object of a class that somebody named), and an import inside a function counts for those who reach the function
only. Imports under TYPE_CHECKING never run. A program started with "-m" is reached as a whole.
"""

import ast
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OURS = ("clearing", "contracts", "journal", "proofs")
# The command line loads commands by name: whoever starts it with "-m" is told by the command's own entry.
COMMAND_LINE = "clearing.cli"


@dataclass
class Module:
    """A source file: what its top level binds. `imports`: name -> (module, name within or None)."""

    name: str
    tree: ast.Module
    defs: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, tuple[str, str | None]] = field(default_factory=dict)


@cache
def path_of(name: str) -> Path | None:
    """The file of one of our modules; None if there is none."""
    base = ROOT.joinpath(*name.split("."))
    found = [path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()]
    return found[0] if found else None


class _Unannotated(ast.NodeTransformer):
    """Drops annotations: they make no object, and nothing runs on one that nobody made."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)


@cache
def module(name: str) -> Module:
    """Read and index one of our modules."""
    path = path_of(name)
    assert path is not None, f"no module {name}"
    found = Module(name, _Unannotated().visit(ast.parse(path.read_text(encoding="utf-8"))))
    for node in _executed(found.tree.body):
        for target in _bound(node):
            found.defs.setdefault(target, []).append(node)
        found.imports.update(_bindings(node))
    return found


def _executed(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements of a top level, those inside `if`, `try` and `with` too, without TYPE_CHECKING's and a program's."""
    for node in body:
        if isinstance(node, ast.If) and any(word in ast.dump(node.test) for word in ("TYPE_CHECKING", "__main__")):
            yield from _executed(node.orelse)
        elif isinstance(node, ast.If | ast.Try | ast.With | ast.For | ast.While):
            for part in ("body", "orelse", "finalbody"):
                yield from _executed(getattr(node, part, []))
            for handler in getattr(node, "handlers", []):
                yield from _executed(handler.body)
        else:
            yield node


def _bound(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        return [name.id for name in ast.walk(node) if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)]
    return []


def _bindings(node: ast.AST) -> dict[str, tuple[str, str | None]]:
    if isinstance(node, ast.Import):
        return {a.asname or a.name.split(".")[0]: (a.name if a.asname else a.name.split(".")[0], None)
                for a in node.names}  # fmt: skip
    if isinstance(node, ast.ImportFrom) and node.module:
        return {a.asname or a.name: (node.module, a.name) for a in node.names}
    return {}


def _imported(node: ast.AST) -> list[str]:
    """Modules that an import statement loads."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [node.module, *(f"{node.module}.{a.name}" for a in node.names if path_of(f"{node.module}.{a.name}"))]
    return []


@dataclass(frozen=True)
class Facts:
    """A piece of code: the modules it loads, and the names (module, name) it uses."""

    loads: frozenset[str]
    names: frozenset[tuple[str, str]]


@cache
def facts_of(name: str, attribute: str) -> Facts:
    """What a top-level name of one of our modules loads and uses when it runs."""
    owner = module(name)
    found = [_facts(owner, node) for node in owner.defs.get(attribute, [])]
    names = {pair for part in found for pair in part.names}
    if attribute in owner.imports:
        source, within = owner.imports[attribute]
        names |= {(source, within)} if within is not None else set()
    return Facts(frozenset(load for part in found for load in part.loads), frozenset(names))


@cache
def facts_of_top(name: str) -> Facts:
    """What one of our modules loads and uses when it is imported."""
    loads: set[str] = set()
    names: set[tuple[str, str]] = set()
    owner = module(name)
    for node in _executed(owner.tree.body):
        loads.update(_imported(node))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            run: list[ast.AST] = [*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)]
        elif isinstance(node, ast.ClassDef):
            run = [*node.decorator_list, *node.bases]
        else:
            run = [call for call in ast.walk(node) if isinstance(call, ast.Call) and not _registers(call)]
        for part in run:
            found = _facts(owner, part)
            loads |= found.loads
            names |= found.names
    return Facts(frozenset(loads), frozenset(names))


def _registers(call: ast.Call) -> bool:
    """`group.add_command(command)`: kept for later, not run."""
    return isinstance(call.func, ast.Attribute) and call.func.attr == "add_command"


def _facts(owner: Module, node: ast.AST) -> Facts:
    loads: set[str] = set()
    names: set[tuple[str, str]] = set()
    local: dict[str, tuple[str, str | None]] = {}
    parts = list(ast.walk(node))
    for part in parts:
        local |= _bindings(part)
        loads.update(_imported(part))
    own = _variables(node) - local.keys()
    for part in parts:
        if isinstance(part, ast.List | ast.Tuple):
            loads_too, names_too = _program(part)
            loads |= loads_too
            names |= names_too
        elif isinstance(part, ast.Attribute):
            dotted = ast.unparse(part.value)
            head, _, rest = dotted.partition(".")
            source, within = local.get(head) or owner.imports.get(head) or ("", None)
            full = ".".join(word for word in (source, within, rest) if word)
            if source and path_of(full) is not None:
                loads.add(full)
                names.add((full, part.attr))
        elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load) and part.id not in own:
            source, within = local.get(part.id) or owner.imports.get(part.id) or (owner.name, part.id)
            if within is not None:
                names.add((source, within))
    return Facts(frozenset(loads), frozenset(names))


def _variables(node: ast.AST) -> set[str]:
    """Names that a function binds itself: they hide the module's."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return set()
    arguments = {part.arg for part in ast.walk(node) if isinstance(part, ast.arg)}
    stored = {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
    shared = {name for part in ast.walk(node) if isinstance(part, ast.Global) for name in part.names}
    return (arguments | stored) - shared


def _program(node: ast.List | ast.Tuple) -> tuple[set[str], set[tuple[str, str]]]:
    """[..., "-m", "clearing.api"]: all of that module may run, in a process of its own."""
    words = [part.value if isinstance(part, ast.Constant) else None for part in node.elts]
    for flag, name in itertools.pairwise(words):
        if flag == "-m" and isinstance(name, str) and name != COMMAND_LINE and path_of(name) is not None:
            main = f"{name}.__main__" if path_of(f"{name}.__main__") else name
            return {main}, {(main, bound) for bound in [*module(main).defs, *module(main).imports]}
    return set(), set()


@dataclass
class Reach:
    """What was reached. `external` are libraries' top-level names, `internal` our modules; both with who led there."""

    external: dict[str, str] = field(default_factory=dict)
    internal: dict[str, str] = field(default_factory=dict)
    seen: dict[tuple[str, str], str] = field(default_factory=dict)
    work: list[tuple[str, Facts]] = field(default_factory=list)

    def function(self, name: str, attribute: str) -> "Reach":
        """Everything that `attribute` of the module `name` may load, on top of what was reached before."""
        self._load(name, "")
        self._use(name, attribute, "")
        while self.work:
            by, found = self.work.pop()
            for load in found.loads:
                self._load(load, by)
            for source, within in found.names:
                self._use(source, within, by)
        return self

    def _load(self, name: str, by: str) -> None:
        """Import a module: its packages run first, then its top level."""
        if name.split(".")[0] not in OURS:
            self.external.setdefault(name.split(".")[0], by)
            return
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            part = ".".join(parts[:end])
            if part not in self.internal and path_of(part) is not None:
                self.internal[part] = by
                self.work.append((part, facts_of_top(part)))

    def _use(self, name: str, attribute: str, by: str) -> None:
        """A name of one of our modules is used: what it was bound to may run."""
        if (name, attribute) in self.seen or name.split(".")[0] not in OURS or path_of(name) is None:
            return
        self.seen[name, attribute] = by
        if attribute in module(name).defs or attribute in module(name).imports:
            self.work.append((f"{name}:{attribute}", facts_of(name, attribute)))
        elif path_of(f"{name}.{attribute}") is not None:
            self._load(f"{name}.{attribute}", by)

    def way(self, library: str) -> str:
        """Who led to a library, backwards: for the reader of a failed test."""
        steps = [self.external[library]]
        while steps[-1]:
            name, _, attribute = steps[-1].partition(":")
            steps.append(self.seen.get((name, attribute), "") if attribute else self.internal.get(name, ""))
            if steps[-1] in steps[:-1]:
                break
        return " <- ".join([library, *filter(None, steps)])
