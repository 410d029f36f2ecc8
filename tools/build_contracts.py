# SPDX-License-Identifier: GPL-3.0-or-later
"""Compile contracts/src into contracts/artifacts.

Rules: the compiler and the library are the pinned ones of contracts/package-lock.json (`npm ci` in
contracts/ once; only this tool needs Node). Sources are handed to solc as literal content under fixed
names, so that the bytecode depends on nothing but their text and the settings below. One artifact per
contract; it carries everything needed to compile it again and to compare deployed code with it.

    python tools/build_contracts.py            write the artifacts
    python tools/build_contracts.py --check    compile and compare, exit 1 if they differ
"""

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CONTRACTS = ROOT / "contracts"
SOURCES = CONTRACTS / "src"
ARTIFACTS = CONTRACTS / "artifacts"
MODULES = CONTRACTS / "node_modules"
LIBRARY = "@openzeppelin/contracts"

SETTINGS: dict[str, Any] = {
    "evmVersion": "cancun",
    "metadata": {"appendCBOR": False, "bytecodeHash": "none"},
    "optimizer": {"enabled": True, "runs": 40},
    # Without it the vault does not fit into the 24,576 bytes that a contract may have.
    "viaIR": True,
}
_OUTPUTS = [
    "abi",
    "evm.bytecode.object",
    "evm.bytecode.linkReferences",
    "evm.deployedBytecode.object",
    "evm.deployedBytecode.immutableReferences",
    "evm.deployedBytecode.linkReferences",
]
_IMPORT = re.compile(r'^\s*import\s+(?:\{[^}]*\}\s*from\s+)?"([^"]+)"', re.MULTILINE)


class BuildError(Exception):
    """The contracts could not be compiled; the message says what is missing or what solc said."""


def _locate(name: str) -> Path:
    return MODULES / name if name.startswith(LIBRARY) else CONTRACTS / name


def _resolve(name: str, importer: str) -> str:
    """Source name of an import, relative ones against the importer's name."""
    if not name.startswith("."):
        return name
    parts = importer.split("/")[:-1]
    for step in name.split("/"):
        if step == "..":
            parts.pop()
        elif step != ".":
            parts.append(step)
    return "/".join(parts)


def gather() -> dict[str, str]:
    """Source name -> text of every file under src and everything they import.

    Raises `BuildError` when the library is not installed.
    """
    waiting = sorted(path.relative_to(CONTRACTS).as_posix() for path in SOURCES.rglob("*.sol"))
    sources: dict[str, str] = {}
    while waiting:
        name = waiting.pop()
        if name in sources:
            continue
        path = _locate(name)
        if not path.is_file():
            raise BuildError(f"{name} is not there; run `npm ci` in contracts/ to install the pinned library")
        sources[name] = path.read_text(encoding="utf-8")
        waiting += [_resolve(target, name) for target in _IMPORT.findall(sources[name])]
    return dict(sorted(sources.items()))


def _compile(sources: dict[str, str]) -> dict[str, Any]:
    node = shutil.which("node")
    if node is None:
        raise BuildError("Node.js is needed to compile and was not found on PATH")
    request = {
        "language": "Solidity",
        "sources": {name: {"content": text} for name, text in sources.items()},
        "settings": {**SETTINGS, "outputSelection": {"*": {"*": _OUTPUTS}}},
    }
    run = subprocess.run(
        [node, str(ROOT / "tools" / "solc" / "compile.mjs"), str(CONTRACTS)],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode != 0:
        raise BuildError(f"solc did not run; run `npm ci` in contracts/\n{run.stderr.strip()}")
    answer: dict[str, Any] = json.loads(run.stdout)
    # Warnings on our files count: what cannot be changed is not shipped with doubts of its compiler.
    problems = [
        e["formattedMessage"]
        for e in answer.get("errors", [])
        if e["severity"] == "error"
        or (e["severity"] == "warning" and not e.get("sourceLocation", {}).get("file", "").startswith("@"))
    ]
    if problems:
        raise BuildError("\n".join(problems))
    return answer


def _reachable(name: str, sources: dict[str, str]) -> list[str]:
    """Names of the sources that compiling `name` reads, itself included."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            waiting += [_resolve(target, current) for target in _IMPORT.findall(sources[current])]
    return sorted(found)


def _immutables(references: dict[str, list[dict[str, int]]]) -> list[list[int]]:
    """Byte ranges [start, length] that the constructor fills in; AST ids mean nothing outside a build."""
    return sorted([r["start"], r["length"]] for group in references.values() for r in group)


def _links(references: dict[str, dict[str, list[dict[str, int]]]]) -> dict[str, list[list[int]]]:
    """Byte ranges [start, length] where a library's address goes, by "source:library"."""
    return {
        f"{source}:{library}": sorted([r["start"], r["length"]] for r in ranges)
        for source, libraries in sorted(references.items())
        for library, ranges in sorted(libraries.items())
    }


def _with_errors(abi: list[dict[str, Any]], libraries: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The contract's ABI with the errors that its libraries revert with, for whoever must name one."""
    known = [entry for entry in abi if entry["type"] == "error"]
    for library in libraries:
        for entry in library:
            if entry["type"] == "error" and entry not in known:
                known.append(entry)
    return [entry for entry in abi if entry["type"] != "error"] + sorted(known, key=lambda entry: str(entry["name"]))


def _unlinked(code: str) -> str:
    """The compiler's placeholders for addresses of libraries, as zeros: so that the text is hexadecimal."""
    return "0x" + re.sub(r"__\$[0-9a-f]{34}\$__", "0" * 40, code)


def build() -> dict[str, str]:
    """Contract name -> artifact as JSON text, for every deployable contract under src.

    Raises `BuildError` when Node, the compiler or the library is missing, or solc complains.
    """
    sources = gather()
    answer = _compile(sources)
    artifacts: dict[str, str] = {}
    for source, contracts in sorted(answer["contracts"].items()):
        for name, output in sorted(contracts.items()):
            evm = output["evm"]
            runtime = evm["deployedBytecode"]
            # Libraries of internal functions and abstract contracts have nothing to deploy.
            if not source.startswith("src/") or not any(e["type"] == "function" for e in output["abi"]):
                continue
            if not evm["bytecode"]["object"]:
                continue
            closure = _reachable(source, sources)
            links = _links(evm["bytecode"].get("linkReferences", {}))
            linked = [key.rsplit(":", 1) for key in links]
            libraries = [answer["contracts"][file][library]["abi"] for file, library in linked]
            artifact = {
                "name": name,
                "source": source,
                "compiler": answer["compilerVersion"],
                "settings": SETTINGS,
                "sources": {key: hashlib.sha256(sources[key].encode()).hexdigest() for key in closure},
                "abi": _with_errors(output["abi"], libraries),
                "immutables": _immutables(runtime.get("immutableReferences", {})),
                "links": links,
                "runtimeLinks": _links(runtime.get("linkReferences", {})),
                "bytecode": _unlinked(evm["bytecode"]["object"]),
                "runtime": _unlinked(runtime["object"]),
            }
            artifacts[name] = json.dumps(artifact, indent=1, sort_keys=True) + "\n"
    return artifacts


def differences(artifacts: dict[str, str]) -> list[str]:
    """Names of artifacts that are missing, superfluous or not what the sources compile to."""
    present = {path.stem: path.read_text(encoding="utf-8") for path in ARTIFACTS.glob("*.json")}
    names = sorted(present.keys() | artifacts.keys())
    return [name for name in names if present.get(name) != artifacts.get(name)]


def main() -> int:
    parser = argparse.ArgumentParser(description="Compile contracts/src into contracts/artifacts.")
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check: bool = parser.parse_args().check
    try:
        artifacts = build()
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    changed = differences(artifacts)
    if check:
        for name in changed:
            print(f"artifact {name} is not what the sources compile to", file=sys.stderr)
        return 1 if changed else 0
    ARTIFACTS.mkdir(exist_ok=True)
    for name in changed:
        path = ARTIFACTS / f"{name}.json"
        if name in artifacts:
            path.write_text(artifacts[name], encoding="utf-8")
        else:
            path.unlink()
        print(f"{'wrote' if name in artifacts else 'removed'} {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
