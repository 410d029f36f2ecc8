# SPDX-License-Identifier: GPL-3.0-or-later
"""The project's own lint: what ruff cannot say about determinism, size and licences.

Rules:
- Each finding explains itself: what, where, why it matters here, and what to write instead.
- Everything is decided from the source's syntax tree. Nothing is imported or run, and no comment
  switches a rule off: a rule that must bend is bent here, where the diff shows it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

MAX_FUNCTION_LINES = 70
MAX_FILE_LINES = 600

GPL = "SPDX-License-Identifier: GPL-3.0-or-later"
APACHE = "SPDX-License-Identifier: Apache-2.0"
APACHE_FOLDERS = ("proofs/", "contracts/")

TOP_LEVEL = frozenset(
    "CHANGELOG.md CONTRIBUTING.md LICENSE LICENSE-APACHE Makefile README.md SECURITY.md "
    "clearing contracts docs journal proofs pyproject.toml tests tools uv.lock".split()
)

_CLOCK = "time is an input: it arrives in the entry (`time_us`), so that replay sees the same clock"
_RANDOM = "replay must draw the same values on every machine; derive what you need from hashes in the journal"
_WORLD = "core is a function from commands to outcomes; pass the data in, and let the service touch the world"
_THREADS = "the order of threads is not in the journal; core runs on one thread, the service may use more"
_FLOAT = (
    "floats round differently across machines and lose atoms; use int atoms, lots, ppm and `//`, and for option "
    "values, e^x and ln the integers that clearing/core/risk/kernel.py gives, the one module that may use floats"
)
_INEXACT = (
    "its last bit differs between machines and numpy versions, so replay would diverge; only + - * / sqrt, "
    "comparisons and exact operations are rounded alike everywhere: write it out with those"
)
_NUMPY_PLACE = (
    "numpy wraps around silently and brings floats near; int64 arrays live in clearing/core/risk and "
    "clearing/core/sweep.py with their bounds asserted, everything else is Python ints"
)

FLOAT_MODULE = "clearing/core/risk/kernel.py"
NUMPY_PLACES = ("clearing/core/risk/", "clearing/core/sweep.py")

BANNED_IMPORTS: dict[str, str] = {
    **dict.fromkeys(["time", "datetime", "calendar", "zoneinfo"], _CLOCK),
    **dict.fromkeys(["random", "secrets", "uuid", "tempfile"], _RANDOM),
    **dict.fromkeys(["threading", "asyncio", "concurrent", "multiprocessing", "queue", "signal"], _THREADS),
    **dict.fromkeys(["os", "io", "pathlib", "shutil", "socket", "subprocess", "logging"], _WORLD),
    **dict.fromkeys(["importlib", "locale", "platform"], _WORLD),
    **dict.fromkeys(["math", "cmath", "statistics", "decimal"], _FLOAT + "; from math only gcd and isqrt are allowed"),
}

BANNED_CALLS: dict[str, str] = {
    "float": _FLOAT,
    "complex": _FLOAT,
    "hash": "hash() of str and bytes changes with PYTHONHASHSEED; use hashlib on canonical bytes",
    "id": "id() is a memory address, different in every run; give the object a number of its own",
    "open": _WORLD,
    "print": _WORLD,
    "input": _WORLD,
    "eval": "code in data cannot be replayed safely; write the function",
    "exec": "code in data cannot be replayed safely; write the function",
    "__import__": _WORLD,
}

# A set in these places is not iterated in an order that anyone sees.
_ORDER_FREE_CALLS = frozenset({"sorted", "len", "min", "max", "sum", "any", "all", "set", "frozenset"})
_NUMPY_FLOATS = frozenset(
    "float16 float32 float64 float128 longdouble half single double float_ floating true_divide divide "
    "mean average std var median quantile percentile sqrt exp log linspace".split()
)
# Rounded differently by different builds, or (reductions) added up in a different order.
_NUMPY_INEXACT = frozenset(
    "exp exp2 expm1 log log2 log10 log1p logaddexp power float_power pow cbrt hypot sin cos tan arcsin arccos arctan "
    "arctan2 sinh cosh tanh arcsinh arccosh arctanh i0 sinc mean nanmean average std var sum nansum prod nanprod "
    "dot vdot inner outer matmul tensordot einsum kron trapz trapezoid interp convolve correlate polyval linalg fft "
    "random polynomial".split()
)
# What the float module may use: all of it is exact or correctly rounded.
_KERNEL_NUMPY = frozenset(
    "abs add asarray bool_ broadcast broadcast_to divide empty float64 int64 maximum minimum multiply rint sqrt stack "
    "subtract where".split()
)
_KERNEL_MATH = frozenset({"frexp", "isqrt", "ldexp", "sqrt"})
_EXACT_MATH = frozenset({"gcd", "isqrt"})
_KERNEL_METHODS = frozenset({"sum", "prod", "cumsum", "cumprod", "mean", "std", "var", "dot", "trace"})
_SET_ORDER = (
    "the order of a set changes with PYTHONHASHSEED, and so would outcomes and roots; use a dict (insertion "
    "order), a sorted list, or iterate over sorted(...)"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken rule. `str()` of it is what the developer reads."""

    path: str
    line: int
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: [{self.rule}] {self.message}"


class _Scope(NamedTuple):
    tree: ast.Module
    parents: dict[ast.AST, ast.AST]
    bound: frozenset[str]


def _scope(source: str) -> _Scope:
    tree = ast.parse(source)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    stored = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
    arguments = {n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)}
    return _Scope(tree, parents, frozenset(stored | arguments))


def purity(path: str, source: str, *, strict_sets: bool) -> list[Finding]:
    """What keeps `source` from being deterministic, in line order.

    In FLOAT_MODULE floats are let in, and all but exactly rounded operations kept out instead.

    `strict_sets` also refuses sets that are built and kept (for core: the next developer will iterate
    over them); without it only iterating over one is refused.
    """
    scope = _scope(source)
    found = [
        Finding(path, getattr(node, "lineno", 1), rule, message)
        for node in ast.walk(scope.tree)
        for rule, message in (*_impurities(node, scope, strict_sets), *_numpy_impurities(path, node))
        if path != FLOAT_MODULE or not _float_rule(rule, node)
    ]
    if path == FLOAT_MODULE:
        found += [
            Finding(path, getattr(node, "lineno", 1), "inexact", message)
            for node in ast.walk(scope.tree)
            for message in _inexact(node)
        ]
    return sorted(found, key=lambda f: (f.line, f.rule))


def _impurities(node: ast.AST, scope: _Scope, strict_sets: bool) -> Iterator[tuple[str, str]]:
    match node:
        case ast.Constant(value=float() | complex()):
            yield "float", f"the literal {node.value!r}: {_FLOAT}"
        case ast.BinOp(op=ast.Div()) | ast.AugAssign(op=ast.Div()):
            yield "division", f"`/` makes a float even of two ints: {_FLOAT}"
        case ast.BinOp(op=ast.Pow(), right=ast.UnaryOp(op=ast.USub())):
            yield "division", f"a negative power makes a float: {_FLOAT}"
        case ast.Global():
            yield "global", "state outside State is not in the journal or in snapshots; keep it in State"
        case ast.Attribute(value=ast.Name(id="np" | "numpy"), attr=attr) if attr in _NUMPY_FLOATS:
            yield "float", f"numpy's {attr} computes in floats: {_FLOAT}"
        case ast.Attribute(value=ast.Name(id="math"), attr=attr) if attr not in _EXACT_MATH:
            yield "float", f"math.{attr} computes in floats: {_FLOAT}; only math.gcd and math.isqrt are exact"
        case ast.Import() | ast.ImportFrom():
            yield from _imports(node)
        case ast.Name(id=name, ctx=ast.Load()) if name in BANNED_CALLS and name not in scope.bound:
            yield "banned-name", f"{name}: {BANNED_CALLS[name]}"
        case _:
            yield from _sets(node, scope, strict_sets)


def _numpy_impurities(path: str, node: ast.AST) -> Iterator[tuple[str, str]]:
    """numpy where it has no place, and its inexact functions in any place."""
    match node:
        case ast.Import(names=names) if not path.startswith(NUMPY_PLACES):
            if any(alias.name.split(".")[0] in ("numpy", "scipy") for alias in names):
                yield "numpy-import", f"import of numpy: {_NUMPY_PLACE}"
        case ast.ImportFrom(module=str(module)) if not path.startswith(NUMPY_PLACES):
            if module.split(".")[0] in ("numpy", "scipy"):
                yield "numpy-import", f"import of {module}: {_NUMPY_PLACE}"
        case ast.Attribute(value=ast.Name(id="np" | "numpy"), attr=attr) if attr in _NUMPY_INEXACT:
            yield "inexact", f"numpy's {attr}: {_INEXACT}"


def _float_rule(rule: str, node: ast.AST) -> bool:
    """True of findings that say no more than that there is a float, which FLOAT_MODULE may have."""
    match node:
        case ast.Name(id="float") | ast.Import() | ast.ImportFrom():
            return rule in ("banned-name", "import")
    return rule in ("float", "division")


def _inexact(node: ast.AST) -> Iterator[str]:
    """What FLOAT_MODULE may not do, although it may use floats: decided by what is known to be exact."""
    match node:
        case ast.BinOp(op=ast.Pow()) | ast.AugAssign(op=ast.Pow()):
            yield f"`**` is libm's pow: {_INEXACT}"
        case ast.BinOp(op=ast.MatMult()) | ast.AugAssign(op=ast.MatMult()):
            yield f"`@` is BLAS: {_INEXACT}"
        case ast.Attribute(value=ast.Name(id="np" | "numpy"), attr=attr) if attr not in _KERNEL_NUMPY:
            yield f"numpy's {attr} is not on the list of exact operations (_KERNEL_NUMPY): {_INEXACT}"
        case ast.Attribute(value=ast.Name(id="math"), attr=attr) if attr not in _KERNEL_MATH:
            yield f"math.{attr}: {_INEXACT}"
        case ast.Call(func=ast.Attribute(attr=attr)) if attr in _KERNEL_METHODS:
            yield f".{attr}() adds in an order of its own: {_INEXACT}"
        case ast.Call(func=ast.Name(id="sum" | "pow" as name)):
            yield f"{name}(): {_INEXACT}"
        case ast.Import(names=names):
            for alias in names:
                if alias.name.split(".")[0] not in ("numpy", "math") or (alias.asname or "np") != "np":
                    yield f"import of {alias.name}: only numpy (as np) and math are known here: {_INEXACT}"
        case ast.ImportFrom(module="math", names=names):
            for alias in names:
                if alias.name not in _KERNEL_MATH:
                    yield f"math.{alias.name}: {_INEXACT}"
        case ast.ImportFrom(module=str(module)) if module.split(".")[0] in ("numpy", "scipy", "cmath", "decimal"):
            if module != "numpy.typing":
                yield f"import from {module}: write np.name, which this rule can see: {_INEXACT}"


def _imports(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str]]:
    """`import math` is let in, since the attribute used decides; `from math import isqrt` or gcd likewise."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names if alias.name != "math" or alias.asname is not None]
    elif node.module == "math" and all(alias.name in _EXACT_MATH for alias in node.names):
        names = []
    else:
        names = [node.module or ""]
    for name in names:
        if reason := BANNED_IMPORTS.get(name.split(".")[0]):
            yield "import", f"import of {name}: {reason}"


def _is_set(node: ast.AST) -> bool:
    match node:
        case ast.Set() | ast.SetComp():
            return True
        case ast.Call(func=ast.Name(id="set" | "frozenset")):
            return True
        case ast.BinOp(left=left, op=ast.BitOr() | ast.BitAnd() | ast.Sub() | ast.BitXor(), right=right):
            return _is_set(left) or _is_set(right)
    return False


def _sets(node: ast.AST, scope: _Scope, strict_sets: bool) -> Iterator[tuple[str, str]]:
    match node:
        case ast.For(iter=walked) | ast.comprehension(iter=walked) if _is_set(walked):
            yield "set-order", f"iterating over a set: {_SET_ORDER}"
        case ast.Starred(value=walked) | ast.YieldFrom(value=walked) if _is_set(walked):
            yield "set-order", f"unpacking a set: {_SET_ORDER}"
        case ast.Call(func=ast.Name(id=name), args=[first, *_]) if _is_set(first):
            if name not in _ORDER_FREE_CALLS:
                yield "set-order", f"{name}() of a set: {_SET_ORDER}"
    if strict_sets and _is_set(node) and not _order_free(node, scope):
        yield "set", f"a set in core: {_SET_ORDER}"


def _order_free(node: ast.AST, scope: _Scope) -> bool:
    """True where a set is only asked for membership, or feeds a call whose result has no order of its own."""
    match scope.parents.get(node):
        case ast.Compare(ops=ops) as compare:
            return node in compare.comparators and all(isinstance(op, ast.In | ast.NotIn) for op in ops)
        case ast.Call(func=ast.Name(id=name)):
            return name in _ORDER_FREE_CALLS - {"set", "frozenset"}
        case ast.BinOp() as operation:
            return _order_free(operation, scope) if _is_set(operation) else False
    return False


def shape(path: str, source: str) -> list[Finding]:
    """Size, licence and docstring of one Python file."""
    found = text_shape(path, source)
    tree = ast.parse(source)
    if ast.get_docstring(tree) is None:
        found.append(Finding(path, 1, "docstring", "a module begins with a docstring: its subject, then its rules"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                message = f"{node.name} has {lines} lines, more than a screen ({MAX_FUNCTION_LINES}): split it"
                found.append(Finding(path, node.lineno, "function-size", message))
    return found


def text_shape(path: str, source: str) -> list[Finding]:
    """Size and licence header of one source file in any language (.py, .sol, .sh)."""
    found = []
    lines = source.splitlines()
    wanted = APACHE if path.startswith(APACHE_FOLDERS) else GPL
    if not any(line.strip("#/* ").startswith(wanted) for line in lines[:3]):
        message = f"the first lines must hold `{wanted}` (proofs/ and contracts/: Apache, else GPL)"
        found.append(Finding(path, 1, "licence", message))
    if len(lines) > MAX_FILE_LINES:
        message = f"{len(lines)} lines, more than {MAX_FILE_LINES}: give its second subject a file"
        found.append(Finding(path, len(lines), "file-size", message))
    return found


def foreign_imports(path: str, source: str, allowed: frozenset[str]) -> list[Finding]:
    """Imports whose first name is not in `allowed`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        for name in names:
            if name.split(".")[0] not in allowed:
                message = f"import of {name}: a wallet vendors this folder with msgspec and pynacl only"
                found.append(Finding(path, getattr(node, "lineno", 1), "vendorable", message))
    return found


def strays(paths: list[str]) -> list[str]:
    """The top-level names among repository-relative `paths` that have no place there; dot files may stay."""
    names = dict.fromkeys(path.split("/")[0] for path in paths)
    return sorted(name for name in names if name not in TOP_LEVEL and not name.startswith("."))
