# SPDX-License-Identifier: Apache-2.0
"""The contracts' artifacts: what was compiled, from which sources, and whether a chain runs it.

Rules: standard library only, so that a verifier can import it; artifacts are files of this package and
are never compiled at run time (tools/build_contracts.py writes them). Code on a chain equals an
artifact's runtime except in the byte ranges of its immutables, which the constructor filled in.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

__all__ = ["Artifact", "ArtifactError", "load", "runtime_matches"]


class ArtifactError(Exception):
    """An artifact cannot be read: `code` is UNKNOWN_CONTRACT or MALFORMED_ARTIFACT."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Artifact:
    """One compiled contract.

    `abi` is the list solc wrote; `bytecode` is the creation code without constructor arguments;
    `runtime` has zeros at `immutables`, which are (start, length) in bytes; `sources` maps every source
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
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            "MALFORMED_ARTIFACT", f"the artifact {name} is damaged ({error!r}); install the package again"
        ) from error


def runtime_matches(artifact: Artifact, code: bytes) -> bool:
    """Whether deployed `code` (eth_getCode) is the artifact's, whatever its immutables hold.

    The immutables' values are not judged here: read them through the contract's views.
    """
    if len(code) != len(artifact.runtime):
        return False
    masked = bytearray(code)
    for start, length in artifact.immutables:
        masked[start : start + length] = bytes(length)
    return bytes(masked) == artifact.runtime
