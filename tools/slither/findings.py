# SPDX-License-Identifier: GPL-3.0-or-later
"""What slither says of the contracts, held against what we have an answer to.

Rules:
- Everything of ours that can be deployed is analysed, with all of slither's detectors and the compiler, sources and
  settings of the artifacts (tools/build_contracts.py); contracts/src/test never is deployed and is left out.
- A finding counts when any part of it lies in our sources. (slither's own path filter drops one as soon as any part
  of it lies in a filtered path, so a finding about our use of a library would go with it.)
- Comments in the sources hide nothing. contracts/slither-triage.toml alone explains findings, each by its exact text,
  which changes with the code it is about.
- A finding without an explanation fails, and so does an explanation without its finding.
"""

import json
import os
import re
import shutil
import subprocess
import tomllib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from tools.build_contracts import CONTRACTS, ROOT, SETTINGS, BuildError, gather

PROGRAM: Final = ROOT / ".tools" / "slither" / "bin" / "slither"
TRIAGE: Final = CONTRACTS / "slither-triage.toml"
FOLDER: Final = ROOT / "build" / "slither"
OURS: Final = "src/"
NEVER_DEPLOYED: Final = "src/test/"
TIMEOUT_S: Final = 900
_SHIM: Final = ROOT / "tools" / "solc" / "solc-shim.cjs"
_OUTPUTS: Final = {
    "*": {"*": ["abi", "metadata", "devdoc", "userdoc", "evm.bytecode", "evm.deployedBytecode"], "": ["ast"]}
}


class AnalysisError(Exception):
    """Slither could not be run, or the triage file could not be read; the message says what to do."""


class Finding(NamedTuple):
    """One result: `what` names function, variable or contract and the code in it; `place` is file:line."""

    check: str
    impact: str
    what: str
    place: str


class Explanation(NamedTuple):
    """Why findings of one check, by their texts, are as they should be."""

    check: str
    reason: str
    findings: tuple[str, ...]


def deployed_sources() -> dict[str, str]:
    """Source name -> text of what can be deployed, and what it imports. Raises `BuildError`."""
    return {name: text for name, text in gather().items() if not name.startswith(NEVER_DEPLOYED)}


def analyse(sources: dict[str, str], folder: Path, program: Path = PROGRAM) -> list[Finding]:
    """Slither's findings in `sources` (names under src/ are ours), most serious first. `folder` is emptied and used.

    Raises `AnalysisError`.
    """
    if not program.exists():
        raise AnalysisError(f"{program} is not there; run: make slither")
    if shutil.which("node") is None:
        raise AnalysisError("Node.js is needed to compile and was not found on PATH")
    _lay_out(sources, folder)
    out = folder / "findings.json"
    command = [str(program), "input.json", "--compile-force-framework", "Solc-json", "--solc", str(_SHIM)]
    command += ["--json", out.name, "--show-ignored-findings", "--fail-none", "--disable-color"]
    # Slither walks sets; with a fixed seed it says the same every time.
    env = os.environ | {"PYTHONHASHSEED": "0"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        raise AnalysisError(f"slither did not end within {TIMEOUT_S} s") from None
    except OSError as error:
        raise AnalysisError(f"{program} cannot be run ({error}); make it again: make clean slither") from None
    try:
        answer = json.loads(out.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise AnalysisError(f"slither said nothing usable (exit {done.returncode}):\n{done.stderr[-2_000:]}") from None
    if done.returncode != 0 or answer.get("success") is not True:
        raise AnalysisError(f"slither failed: {answer.get('error') or done.stderr[-2_000:]}")
    return findings_in(answer["results"].get("detectors", []))


def _lay_out(sources: dict[str, str], folder: Path) -> None:
    """The sources as files, which slither shows lines of, and as one standard JSON request."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in sources.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    request = {
        "language": "Solidity",
        "sources": {name: {"content": text} for name, text in sources.items()},
        "settings": {**SETTINGS, "outputSelection": _OUTPUTS},
    }
    (folder / "input.json").write_text(json.dumps(request), encoding="utf-8")


def findings_in(results: Sequence[dict[str, Any]]) -> list[Finding]:
    """What of slither's results is about our sources."""
    order = ("High", "Medium", "Low", "Informational", "Optimization")
    found = []
    for result in results:
        parts = [part for part in result["elements"] if _file(part).startswith(OURS)]
        if parts:
            where = f"{_file(parts[0])}:{min(parts[0]['source_mapping']['lines'], default=0)}"
            found.append(Finding(result["check"], result["impact"], _text(parts), where))
    return sorted(found, key=lambda one: (order.index(one.impact), one))


def _file(part: dict[str, Any]) -> str:
    return str(part["source_mapping"]["filename_relative"])


def _text(parts: Sequence[dict[str, Any]]) -> str:
    """Where and what, without line numbers: `Contract.function(types): code; code`."""
    first, *rest = parts
    if first["type"] == "node":
        where, rest = _named(first["type_specific_fields"]["parent"]), list(parts)
    else:
        where = _named(first)
    code = sorted({" ".join(str(part["name"]).split()) for part in rest if part["type"] == "node"} - {""})
    return f"{where}: {'; '.join(code)}" if code else where


def _named(part: dict[str, Any]) -> str:
    """A function by its signature, a variable by its name, each inside what holds it."""
    fields = part.get("type_specific_fields") or {}
    name = str(fields.get("signature") or part["name"])
    holder = fields.get("parent")
    return f"{_named(holder)}.{name}" if holder and holder["type"] in ("contract", "function") else name


def read_triage(path: Path = TRIAGE) -> list[Explanation]:
    """Raises `AnalysisError` for a file that is missing or malformed, or an explanation without a reason."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        read = [
            Explanation(str(entry["check"]), str(entry["reason"]).strip(), tuple(map(str, entry["findings"])))
            for entry in table.get("explained", [])
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AnalysisError(f"{path.name} cannot be read: {error!r}") from None
    for entry in read:
        if not re.search(r"\w+ \w+ \w+", entry.reason) or not entry.findings:
            raise AnalysisError(f"{path.name}: an explanation of {entry.check} lacks its reason or its findings")
    return read


def judge(found: Sequence[Finding], explained: Sequence[Explanation]) -> list[str]:
    """What is wrong, a line each: findings that nothing explains, explanations of what is not found (any more).

    The same text twice (two like places in one function) needs to be listed twice.
    """
    listed = Counter((entry.check, what) for entry in explained for what in entry.findings)
    left = listed.copy()
    problems = []
    for one in found:
        key = one.check, one.what
        if left[key]:
            left[key] -= 1
        else:
            problems.append(f"unexplained: {one.check} ({one.impact}) at {one.place}\n    {one.what}")
    stale = sorted((+left).elements())
    return problems + [f"explained, but not found any more: {check}\n    {what}" for check, what in stale]


def check(folder: Path = FOLDER, program: Path = PROGRAM, triage: Path = TRIAGE) -> tuple[list[Finding], list[str]]:
    """(all findings in our contracts, what is wrong). Raises `AnalysisError`."""
    explained = read_triage(triage)
    try:
        found = analyse(deployed_sources(), folder, program)
    except BuildError as error:
        raise AnalysisError(str(error)) from None
    return found, judge(found, explained)
