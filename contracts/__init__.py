# SPDX-License-Identifier: Apache-2.0
"""The contracts' artifacts: what was compiled, from which sources, and whether a chain runs it.

Rules: standard library only, so that a verifier can import it; artifacts are files of this package and
are never compiled at run time (tools/build_contracts.py writes them). Code on a chain equals an
artifact's runtime except in the byte ranges of its immutables, which the constructor filled in, and of the
addresses of linked libraries, which whoever deployed it did; the libraries' own code is checked the same way.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

__all__ = ["Artifact", "ArtifactError", "libraries_in", "link", "load", "runtime_matches"]

_ADDRESS_BYTES = 20
Places = tuple[tuple[str, int], ...]


class ArtifactError(Exception):
    """An artifact cannot be used: `code` is UNKNOWN_CONTRACT, MALFORMED_ARTIFACT or UNLINKED_LIBRARY."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Artifact:
    """One compiled contract.

    `abi` is the list solc wrote; `bytecode` is the creation code without constructor arguments;
    `runtime` has zeros at `immutables`, which are (start, length) in bytes; `links` and `runtime_links` are
    (library's name, start) of the addresses to fill into the one and the other; `sources` maps every source
    that was read to the SHA-256 (hex) of its text; `settings` are solc's.
    """

    name: str
    source: str
    compiler: str
    settings: dict[str, Any]
    sources: dict[str, str]
    abi: list[dict[str, Any]]
    bytecode: bytes
    runtime: bytes
    immutables: tuple[tuple[int, int], ...]
    links: Places = ()
    runtime_links: Places = ()


@cache
def load(name: str) -> Artifact:
    """The artifact of one contract, such as "Vault" or "TestToken". Treat it as read-only.

    Raises `ArtifactError` if there is none of this name or its file is damaged.
    """
    file = resources.files(__name__) / "artifacts" / f"{name}.json"
    if not name.isidentifier() or not file.is_file():
        raise ArtifactError("UNKNOWN_CONTRACT", f"no artifact is named {name!r}; see contracts/artifacts")
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
        return Artifact(
            name=fields["name"],
            source=fields["source"],
            compiler=fields["compiler"],
            settings=fields["settings"],
            sources=fields["sources"],
            abi=fields["abi"],
            bytecode=bytes.fromhex(fields["bytecode"][2:]),
            runtime=bytes.fromhex(fields["runtime"][2:]),
            immutables=tuple((start, length) for start, length in fields["immutables"]),
            links=_places(fields.get("links", {})),
            runtime_links=_places(fields.get("runtimeLinks", {})),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            "MALFORMED_ARTIFACT", f"the artifact {name} is damaged ({error!r}); install the package again"
        ) from error


def _places(links: dict[str, list[list[int]]]) -> Places:
    """(library, start) of every address; solc names a library "source:Name"."""
    return tuple((key.rpartition(":")[2], start) for key, ranges in links.items() for start, _ in ranges)


def link(artifact: Artifact, libraries: Mapping[str, bytes]) -> bytes:
    """The creation code with the libraries' addresses (20 bytes, by name) filled in.

    Raises `ArtifactError` UNLINKED_LIBRARY naming a library that is missing.
    """
    code = bytearray(artifact.bytecode)
    for name, start in artifact.links:
        address = libraries.get(name, b"")
        if len(address) != _ADDRESS_BYTES:
            raise ArtifactError("UNLINKED_LIBRARY", f"{artifact.name} needs the address of the library {name}")
        code[start : start + _ADDRESS_BYTES] = address
    return bytes(code)


def libraries_in(artifact: Artifact, code: bytes) -> dict[str, bytes]:
    """The addresses (20 bytes) of the libraries that deployed `code` was linked with, by name."""
    return {name: code[start : start + _ADDRESS_BYTES] for name, start in artifact.runtime_links}


def runtime_matches(artifact: Artifact, code: bytes) -> bool:
    """Whether deployed `code` (eth_getCode) is the artifact's, whatever its immutables and links hold.

    The immutables' values are not judged here: read them through the contract's views. Nor are the libraries:
    check the code at each address of `libraries_in` against that library's artifact.
    """
    if len(code) != len(artifact.runtime):
        return False
    masked = bytearray(code)
    for start, length in artifact.immutables:
        masked[start : start + length] = bytes(length)
    for _, start in artifact.runtime_links:
        masked[start : start + _ADDRESS_BYTES] = bytes(_ADDRESS_BYTES)
    return bytes(masked) == artifact.runtime
