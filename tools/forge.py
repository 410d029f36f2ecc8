# SPDX-License-Identifier: GPL-3.0-or-later
"""Run Foundry's suites over the contracts, with the forge that npm brought and without any network.

python -m tools.forge            unit, fuzz and vector tests, the invariants with a few thousand calls
python -m tools.forge --slow     the invariants with at least 100,000 calls, fuzzing at length
python -m tools.forge coverage   lines covered outside assembly, per file; exit 1 below 95 % of contracts/src
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
CONTRACTS: Final = ROOT / "contracts"
FORGE: Final = CONTRACTS / "node_modules/@foundry-rs/forge-linux-amd64/bin/forge"
OUTPUTS: Final = (ROOT / "build/forge/out", ROOT / "build/forge/cache")
SLOW_CALLS: Final = 100_000
LINES_WANTED: Final = 95.0
# Not part of what is deployed: tokens and wallets that tests bring along.
_NOT_COUNTED: Final = re.compile(r"src/(test/|TestToken\.sol)")


class ForgeError(Exception):
    """Forge cannot be run; the message says what to do."""


def binary() -> Path:
    """Where forge is. Raises `ForgeError`."""
    chosen = Path(os.environ.get("NOVATE_TEST_FORGE", FORGE))
    if not chosen.is_file():
        raise ForgeError("forge is not installed: run `npm ci` in contracts/, or set NOVATE_TEST_FORGE")
    return chosen


def run(*arguments: str, profile: str = "default") -> "subprocess.CompletedProcess[str]":
    """Forge in contracts/. Raises `ForgeError`."""
    environment = {**os.environ, "FOUNDRY_PROFILE": profile}
    # Forge resolves the folder's path only where it exists, and compiles everything anew when it reads another path
    # in its cache than it would write.
    for folder in OUTPUTS:
        folder.mkdir(parents=True, exist_ok=True)
    command = [str(binary()), *arguments, "--offline"]
    return subprocess.run(command, cwd=CONTRACTS, env=environment, capture_output=True, text=True, check=False)


def results(slow: bool) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(suite, test, forge's result) of every test. Raises `ForgeError` when nothing could be run."""
    done = run("test", "--json", profile="slow" if slow else "default")
    start = done.stdout.find("{")
    if start < 0:
        raise ForgeError(f"forge ran no test:\n{(done.stderr or done.stdout).strip()[-4000:]}")
    for suite, told in json.loads(done.stdout[start:]).items():
        for test, result in told["test_results"].items():
            yield suite, test, result


def calls_of(result: dict[str, Any]) -> int:
    """Calls that an invariant's campaign made; 0 for other tests."""
    return int(result.get("kind", {}).get("Invariant", {}).get("calls", 0))


def test(slow: bool) -> int:
    began = time.monotonic()
    suites, tests, calls, failed = set(), 0, 0, []
    for suite, name, result in results(slow):
        suites.add(suite)
        tests += 1
        calls += calls_of(result)
        if result["status"] == "Failure":
            failed.append(f"FAILED {suite} {name}: {result.get('reason')}\n{result.get('counterexample') or ''}")
    print("\n".join(failed))
    print(
        f"forge: {tests} tests in {len(suites)} suites, {calls:,} calls of invariants, "
        f"{len(failed)} failed, {time.monotonic() - began:.0f} s"
    )
    if slow and calls < SLOW_CALLS:
        print(f"forge: {calls:,} calls are fewer than {SLOW_CALLS:,}: raise [profile.slow.invariant] in foundry.toml")
        return 1
    return 1 if failed or not tests else 0


def assembly_lines(source: str) -> set[int]:
    """Numbers of the lines inside assembly blocks."""
    found, depth = set(), 0
    for number, line in enumerate(source.splitlines(), start=1):
        if depth or re.match(r"\s*assembly\b", line):
            found.add(number)
            depth += line.count("{") - line.count("}")
    return found


def lines_of(lcov: str) -> dict[str, tuple[int, int]]:
    """(covered, all) lines per source file of a coverage report in lcov's form, assembly left out.

    The vault compiles through the IR only, where assembly that is inlined keeps no position: its lines read as never
    run although every claim runs them.
    """
    found: dict[str, tuple[int, int]] = {}
    name, hit, known, skipped = "", 0, 0, set[int]()
    for line in lcov.splitlines():
        if line.startswith("SF:"):
            name, hit, known = line[3:], 0, 0
            skipped = assembly_lines((CONTRACTS / name).read_text()) if name.startswith("src/") else set()
        elif line.startswith("DA:") and int(line[3:].split(",")[0]) not in skipped:
            known += 1
            hit += int(line.split(",")[1]) > 0
        elif line == "end_of_record" and name.startswith("src/") and not _NOT_COUNTED.match(name):
            found[name] = (hit, known)
    return found


def coverage() -> int:
    report = ROOT / "build/forge/lcov.info"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    # Through the IR with a minimum of optimisation: without it the compiler runs out of stack.
    # The size of a contract says nothing then.
    chosen = ("--report", "lcov", "--report-file", str(report), "--no-match-test", "test_sizes")
    done = run("coverage", "--ir-minimum", *chosen)
    if not report.is_file():
        raise ForgeError(f"forge measured no coverage:\n{(done.stderr or done.stdout).strip()[-4000:]}")
    found = lines_of(report.read_text())
    for name, (hit, known) in sorted(found.items()):
        print(f"{hit / known:7.1%}  {hit:4} of {known:4}  {name}")
    hit, known = (sum(pair[i] for pair in found.values()) for i in (0, 1))
    share = 100 * hit / known if known else 0.0
    print(f"coverage: {share:.1f} % of {known} lines of contracts/src outside assembly; {LINES_WANTED} % are wanted")
    if done.returncode != 0:
        print("coverage: a test failed while it was measured; run `make forge`")
    return 1 if share < LINES_WANTED or done.returncode != 0 else 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Foundry's suites over the contracts.")
    parser.add_argument("what", nargs="?", choices=("test", "coverage"), default="test")
    parser.add_argument("--slow", action="store_true", help="at length")
    chosen = parser.parse_args()
    try:
        return coverage() if chosen.what == "coverage" else test(chosen.slow)
    except ForgeError as error:
        print(f"forge: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
