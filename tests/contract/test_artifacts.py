# SPDX-License-Identifier: GPL-3.0-or-later
"""The checked-in artifacts are what the sources compile to, and deployed code can be held against them."""

import hashlib
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import ArtifactError, abi, load, runtime_matches
from tests.contract.chain import Chain, refused
from tests.contract.world import DEPLOYMENT, TREASURY, VAULT, World, operator_address
from tools import build_contracts

ARTIFACTS = sorted(path.stem for path in build_contracts.ARTIFACTS.glob("*.json"))
MAX_RUNTIME_BYTES = 24_576


def test_recompiling_gives_the_checked_in_artifacts_byte_for_byte() -> None:
    """Bytecode, ABI, settings, compiler and source hashes all follow from the sources in the repository."""
    if shutil.which("node") is None:
        pytest.skip("Node.js is not installed")
    if not build_contracts.MODULES.is_dir():
        pytest.skip("the compiler is not installed: run `npm ci` in contracts/")
    assert build_contracts.differences(build_contracts.build()) == []


@pytest.mark.parametrize("name", ARTIFACTS)
def test_artifacts_were_made_from_the_sources_in_the_repository(name: str) -> None:
    """Without Node: every source of ours has the hash the artifact recorded."""
    own = {key: value for key, value in load(name).sources.items() if key.startswith("src/")}
    assert own
    for key, recorded in own.items():
        assert hashlib.sha256((build_contracts.CONTRACTS / key).read_bytes()).hexdigest() == recorded


def test_every_source_carries_its_licence() -> None:
    """Wallets may vendor the contracts: each file says Apache-2.0 on its first line."""
    sources = [Path(p) for p in build_contracts.SOURCES.rglob("*.sol")]
    assert sources
    for path in sources:
        assert path.read_text(encoding="utf-8").startswith("// SPDX-License-Identifier: Apache-2.0\n"), path


def test_the_vault_fits_into_the_code_size_limit() -> None:
    """EIP-170 refuses larger contracts on every public chain."""
    assert len(VAULT.runtime) <= MAX_RUNTIME_BYTES


def test_deployed_code_matches_whatever_the_immutables_hold(chain: Chain) -> None:
    """Two vaults of different configuration are both the artifact's; another contract is not."""
    one = World.create(chain)
    two = World.create(chain, tokens=one.tokens, deadline_s=7_200)
    codes = [chain.backend.code(world.vault) for world in (one, two)]
    assert codes[0] != codes[1]
    assert all(runtime_matches(VAULT, code) for code in codes)
    assert not runtime_matches(VAULT, chain.backend.code(one.tokens[0]))
    assert not runtime_matches(VAULT, b"")


@given(st.data())
def test_any_changed_byte_outside_the_immutables_is_noticed(data: st.DataObject) -> None:
    """runtime_matches masks the immutables and nothing else."""
    hidden = {i for start, length in VAULT.immutables for i in range(start, start + length)}
    place = data.draw(st.integers(0, len(VAULT.runtime) - 1))
    flip = data.draw(st.integers(1, 255))
    code = bytearray(VAULT.runtime)
    code[place] ^= flip
    assert runtime_matches(VAULT, bytes(code)) == (place in hidden)


@pytest.mark.parametrize("name", ["Nothing", "../Vault", "", "Vault.json"])
def test_an_unknown_contract_is_a_named_error(name: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        load(name)
    assert caught.value.code == "UNKNOWN_CONTRACT"


def test_calldata_that_does_not_fit_is_a_named_error() -> None:
    """Wrong names, wrong counts and values out of range never reach a chain."""
    cases = [
        ("UNKNOWN_NAME", "nothing", ()),
        ("CANNOT_ENCODE", "deposit", (0, 1)),
        ("CANNOT_ENCODE", "deposit", (256, 1, TREASURY)),
        ("CANNOT_ENCODE", "deposit", (0, 1 << 128, TREASURY)),
        ("CANNOT_ENCODE", "deposit", (0, 1, "not an address")),
    ]
    for code, function, arguments in cases:
        with pytest.raises(abi.AbiError) as caught:
            abi.encode_call(VAULT, function, *arguments)
        assert caught.value.code == code
    with pytest.raises(abi.AbiError) as caught:
        abi.decode_result(VAULT, "operator", b"\x01")
    assert caught.value.code == "CANNOT_DECODE"


def test_the_deployment_is_readable_from_the_chain(embedded: Chain) -> None:
    """Everything the constructor was given has a view, so that a user can verify a vault."""
    with embedded.sandbox():
        world = World.create(embedded)
        expected = {
            "deploymentId": DEPLOYMENT,
            "operator": operator_address(),
            "treasury": TREASURY,
            "tokens": tuple(world.tokens),
            "lanes": 1,
            "deadlineSeconds": 86_400,
            "challengeWindowSeconds": 3_600,
            "minFirstDeposit": 1_000_000,
            "maxDepositors": 1_000,
            "domain": world.domain,
        }
        assert {name: world.view(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({0: bytes(32)}, "InvalidConfiguration"),
        ({1: "0x" + "00" * 20}, "InvalidConfiguration"),
        ({2: "0x" + "00" * 20}, "InvalidConfiguration"),
        ({3: []}, "InvalidToken"),
        ({3: ["0x" + "12" * 20]}, "InvalidToken"),
        ({4: 3_599}, "InvalidConfiguration"),
        ({4: 0, 5: 0}, "InvalidConfiguration"),
        ({7: 0}, "InvalidConfiguration"),
        ({7: 1 << 20}, "InvalidConfiguration"),
    ],
)
def test_senseless_configurations_cannot_be_deployed(embedded: Chain, change: dict[int, object], error: str) -> None:
    with embedded.sandbox():
        world = World.create(embedded)
        arguments: list[object] = [
            DEPLOYMENT,
            operator_address(),
            TREASURY,
            world.tokens,
            86_400,
            3_600,
            1,
            1_000,
        ]
        for place, value in change.items():
            arguments[place] = value
        with refused(error):
            embedded.deploy(VAULT, *arguments)
        with refused("InvalidToken"):
            embedded.deploy(VAULT, *arguments[:3], [world.tokens[0]] * 2, 86_400, 3_600, 1, 1_000)
