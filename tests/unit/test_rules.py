# SPDX-License-Identifier: GPL-3.0-or-later
"""The tree obeys the rules in tests/unit/rules.py, and each of those rules catches what it says."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.unit import rules

ROOT = Path(__file__).resolve().parents[2]
CODE_FOLDERS = ("clearing", "contracts", "journal", "proofs", "tests", "tools")
SKIPPED_PARTS = frozenset({"node_modules", "__pycache__", ".hypothesis"})


@functools.cache
def sources(suffix: str) -> dict[str, str]:
    """Repository-relative path -> text of our files with this suffix."""
    files = (file for folder in CODE_FOLDERS for file in sorted((ROOT / folder).rglob(f"*{suffix}")))
    return {
        file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8")
        for file in files
        if not SKIPPED_PARTS.intersection(file.relative_to(ROOT).parts)
    }


def report(found: list[rules.Finding]) -> str:
    return f"{len(found)} finding(s):\n" + "\n".join(map(str, found))


# The tree


def test_core_and_model_are_deterministic() -> None:
    """Nothing in core or model depends on clock, randomness, floats, set order or the outside world."""
    pure = {p: s for p, s in sources(".py").items() if p.startswith(("clearing/core/", "clearing/model/"))}
    assert any(p.startswith("clearing/core/") for p in pure), "no core found: did the folder move?"
    assert any(p.startswith("clearing/model/") for p in pure), "no model found: did the folder move?"
    found = [
        finding
        for path, source in pure.items()
        for finding in rules.purity(path, source, strict_sets=path.startswith("clearing/core/"))
    ]
    assert not found, report(found)


def test_python_files_have_licence_docstring_and_size() -> None:
    """Every Python file has its SPDX header and a docstring, and stays within the size limits."""
    found = [finding for path, source in sources(".py").items() for finding in rules.shape(path, source)]
    assert not found, report(found)


@pytest.mark.parametrize("suffix", [".sol", ".sh"])
def test_other_sources_have_licence_and_size(suffix: str) -> None:
    """Solidity and shell files carry their SPDX header and stay within the size limit."""
    found = [finding for path, source in sources(suffix).items() for finding in rules.text_shape(path, source)]
    assert not found, report(found)


def test_proofs_can_be_vendored() -> None:
    """proofs/ imports the standard library, msgspec, pynacl and itself, by allow-list and not by ban."""
    allowed = frozenset(sys.stdlib_module_names) | {"msgspec", "nacl", "proofs"}
    ours = {p: s for p, s in sources(".py").items() if p.startswith("proofs/")}
    found = [f for path, source in ours.items() for f in rules.foreign_imports(path, source, allowed)]
    assert not found, report(found)


def test_top_level_is_fixed() -> None:
    """The repository's top level holds what the architecture names, and dot files."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    stray = rules.strays(listing.stdout.splitlines())
    assert not stray, f"{stray} at the top level: find the folder it belongs to, or delete it"


def test_claimed_python_versions_are_supported() -> None:
    """Each claimed Python version satisfies requires-python, and mypy and ruff check against the oldest."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    claims = re.findall(r"Python :: 3\.(\d+)", "\n".join(config["project"]["classifiers"]))
    minors = sorted(int(minor) for minor in claims)
    bounds = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", config["project"]["requires-python"])
    assert bounds is not None
    assert minors
    assert minors[0] == int(bounds[1])
    assert minors[-1] < int(bounds[2])
    assert config["tool"]["mypy"]["python_version"] == f"3.{minors[0]}"
    assert config["tool"]["ruff"]["target-version"] == f"py3{minors[0]}"


def test_lock_names_the_public_index() -> None:
    """uv.lock names no index but PyPI, so that it resolves the same on every machine."""
    lock = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
    registries = {p["source"]["registry"] for p in lock["package"] if "registry" in p["source"]}
    assert registries == {"https://pypi.org/simple"}


# The rules


@pytest.mark.parametrize(
    ("rule", "snippet"),
    [
        ("float", "x = 0.5"),
        ("float", "x = 1e6"),
        ("float", "x = 2j"),
        ("float", "import math\nx = math.sqrt(2)"),
        ("float", "import numpy as np\nx = np.float64(1)"),
        ("float", "import numpy\nx = numpy.mean(y)"),
        ("banned-name", "x = float(y)"),
        ("banned-name", "def f(x: float) -> int: ..."),
        ("banned-name", "xs = map(float, ys)"),
        ("banned-name", "x = hash(y)"),
        ("banned-name", "x = id(y)"),
        ("banned-name", "xs.sort(key=id)"),
        ("banned-name", "print('x')"),
        ("banned-name", "x = open('f')"),
        ("division", "x = a / b"),
        ("division", "a /= b"),
        ("division", "x = 10 ** -3"),
        ("global", "def f():\n    global n"),
        ("import", "import time"),
        ("import", "import random"),
        ("import", "import os.path"),
        ("import", "from os import urandom"),
        ("import", "from datetime import datetime"),
        ("import", "import secrets"),
        ("import", "import socket"),
        ("import", "import threading"),
        ("import", "import asyncio"),
        ("import", "import uuid"),
        ("import", "import math as m"),
        ("import", "from math import isqrt, sqrt"),
        ("import", "from statistics import median"),
        ("import", "def f():\n    import time"),
        ("set-order", "for x in {1, 2}: pass"),
        ("set-order", "for x in set(y): pass"),
        ("set-order", "for x in frozenset(y): pass"),
        ("set-order", "xs = [x for x in {y for y in z}]"),
        ("set-order", "xs = [x for x in set(a) - set(b)]"),
        ("set-order", "xs = list({1, 2})"),
        ("set-order", "xs = tuple(set(y))"),
        ("set-order", "xs = [*set(y)]"),
        ("set-order", "x = next(iter(set(y)))"),
        ("set-order", "for i, x in enumerate({1, 2}): pass"),
        ("set", "dirty = set()"),
        ("set", "dirty: set[int] = {1, 2}"),
        ("set", "x = frozenset(y)"),
        ("set", "return_value = {x for x in y}"),
        ("numpy-import", "import numpy as np"),
        ("numpy-import", "from numpy.typing import NDArray"),
        ("numpy-import", "def f():\n    from scipy import sparse"),
        ("inexact", "import numpy as np\nx = np.power(y, 3)"),
        ("inexact", "import numpy as np\nx = np.einsum('ij,j', y, z)"),
        ("inexact", "import numpy as np\nx = np.dot(y, z)"),
    ],
)
def test_purity_rule_catches(rule: str, snippet: str) -> None:
    """Each impurity is found under its own rule, on a line of the snippet, with a reason to read."""
    found = [f for f in rules.purity("clearing/core/bad.py", snippet, strict_sets=True) if f.rule == rule]
    assert found, f"{rule} was not found in {snippet!r}"
    assert 1 <= found[0].line <= len(snippet.splitlines())
    assert len(found[0].message) > 40, "a finding explains itself"


@pytest.mark.parametrize(
    "snippet",
    [
        "x = a // b",
        "x = -(-a // b)",
        "x, y = divmod(a, b)",
        "from math import isqrt\nx = isqrt(4)",
        "import math\nx = math.isqrt(4)",
        "x = inst.id",
        "def f(id: int) -> int:\n    return id",
        "for x in {1: 2}: pass",
        "for x in sorted({a, b}): pass",
        "ok = x in {1, 2}",
        "ok = x not in frozenset((1, 2))",
        "n = len(set(xs))",
        "n = len(set(xs) - set(ys))",
        "import hashlib\nx = hashlib.sha256(b'').digest()",
    ],
)
def test_purity_lets_exact_code_pass(snippet: str) -> None:
    """Exact integer code is not accused: a rule that cries wolf is soon switched off."""
    assert rules.purity("clearing/core/good.py", snippet, strict_sets=True) == []


@pytest.mark.parametrize(
    ("path", "snippet"),
    [
        ("clearing/core/risk/array.py", "import numpy as np\nx = np.zeros(3, dtype=np.int64)"),
        ("clearing/core/risk/sweep.py", "import numpy as np\nx = lots @ pnl"),
        ("clearing/core/sweep.py", "import numpy as np\nx = np.cumsum(y, dtype=np.int64)"),
        (rules.FLOAT_MODULE, "import numpy as np\nx = np.sqrt(y) / 2.0 + np.float64(z)"),
        (rules.FLOAT_MODULE, "from math import frexp, ldexp, sqrt\nx: float = float(y) / 3.0"),
    ],
)
def test_purity_lets_numpy_and_floats_in_where_they_belong(path: str, snippet: str) -> None:
    """int64 arrays in the risk folder and the sweep, floats in the kernel."""
    assert rules.purity(path, snippet, strict_sets=True) == []


@pytest.mark.parametrize(
    "snippet",
    [
        "x = y ** 3",
        "x **= 2",
        "x = y @ z",
        "import numpy as np\nx = np.exp(y)",
        "import numpy as np\nx = np.cumsum(y)",
        "import numpy as np\nx = np.some_new_function(y)",
        "import numpy\nx = numpy.mean(y)",
        "import numpy as other\nx = other.exp(y)",
        "from numpy import exp",
        "import math\nx = math.erf(y)",
        "from math import exp",
        "import cmath",
        "x = y.sum()",
        "x = y.dot(z)",
        "x = sum(y)",
        "x = pow(y, 2)",
    ],
)
def test_the_float_module_may_not_be_inexact(snippet: str) -> None:
    """In the kernel only what IEEE-754 rounds correctly may be used, by allow-list where there is one."""
    found = rules.purity(rules.FLOAT_MODULE, snippet, strict_sets=True)
    assert any(f.rule == "inexact" and len(f.message) > 40 for f in found), found


def test_the_float_module_is_otherwise_as_pure_as_the_rest() -> None:
    """Clock, randomness and sets stay refused there, and floats stay refused next door."""
    for snippet in ("import time", "import random", "x = {1, 2}", "x = hash(y)"):
        assert rules.purity(rules.FLOAT_MODULE, snippet, strict_sets=True) != [], snippet
    for snippet in ("x = 0.5", "x = a / b", "from math import sqrt"):
        assert rules.purity("clearing/core/risk/kernel_check.py", snippet, strict_sets=True) != [], snippet


def test_a_kept_set_is_refused_in_core_only() -> None:
    """Elsewhere a set may be kept for membership; iterating over one is refused in both."""
    assert rules.purity("clearing/model/m.py", "seen = set()", strict_sets=False) == []
    assert rules.purity("clearing/model/m.py", "for x in set(y): pass", strict_sets=False) != []


def _function(lines: int) -> str:
    return f'# {rules.GPL}\n"""Doc."""\ndef f():\n' + "    x = 1\n" * (lines - 1)


@pytest.mark.parametrize(
    ("rule", "path", "source"),
    [
        ("licence", "clearing/a.py", '"""Doc."""\n'),
        ("licence", "clearing/a.py", f'# {rules.APACHE}\n"""Doc."""\n'),
        ("licence", "proofs/a.py", f'# {rules.GPL}\n"""Doc."""\n'),
        ("licence", "contracts/a.py", f'# {rules.GPL}\n"""Doc."""\n'),
        ("licence", "clearing/a.py", f'"""Doc."""\n\n\n# {rules.GPL}\n'),
        ("docstring", "clearing/a.py", f"# {rules.GPL}\nx = 1\n"),
        ("function-size", "clearing/a.py", _function(rules.MAX_FUNCTION_LINES + 1)),
        (
            "file-size",
            "clearing/a.py",
            f'# {rules.GPL}\n"""Doc."""\n' + "x = 1\n" * (rules.MAX_FILE_LINES - 1),
        ),
    ],
)
def test_shape_rule_catches(rule: str, path: str, source: str) -> None:
    """Each of licence, docstring and size is found, and found alone."""
    assert [f.rule for f in rules.shape(path, source)] == [rule]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("proofs/a.py", f'# {rules.APACHE}\n"""Doc."""\n'),
        ("tools/a.py", f'#!/usr/bin/env python3\n# {rules.GPL}\n"""Doc."""\n'),
        ("clearing/a.py", _function(rules.MAX_FUNCTION_LINES)),
        ("clearing/a.py", f'# {rules.GPL}\n"""Doc."""\n' + "x = 1\n" * (rules.MAX_FILE_LINES - 2)),
    ],
)
def test_shape_lets_good_files_pass(path: str, source: str) -> None:
    """Files at exactly the limits pass."""
    assert rules.shape(path, source) == []


def test_text_shape_reads_solidity_headers() -> None:
    """`//` comments count, and a contract under the GPL is refused."""
    assert rules.text_shape("contracts/src/A.sol", f"// {rules.APACHE}\npragma solidity 0.8.30;\n") == []
    assert [f.rule for f in rules.text_shape("contracts/src/A.sol", f"// {rules.GPL}\n")] == ["licence"]


def test_foreign_imports_are_found() -> None:
    """Both import forms are seen, also inside functions; what is allowed passes."""
    allowed = frozenset({"hashlib", "msgspec", "proofs"})
    bad = "import hashlib\nimport web3.eth\ndef f():\n    from clearing import x\nfrom proofs import log\n"
    assert [f.line for f in rules.foreign_imports("proofs/a.py", bad, allowed)] == [2, 4]


def test_strays_are_found() -> None:
    """A file or folder outside the list is named once; listed ones and dot files are not."""
    paths = ["README.md", ".ci/run", "clearing/core/book.py", "scratch/a", "scratch/b", "notes.txt"]
    assert rules.strays(paths) == ["notes.txt", "scratch"]
