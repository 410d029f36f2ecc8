# SPDX-License-Identifier: GPL-3.0-or-later
"""The checked-in artifacts are what the sources compile to, and deployed code can be held against them."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import ArtifactError, abi, libraries_in, link, load, runtime_matches
from tests.contract.chain import Chain, refused
from tests.contract.reference import attestors_hash
from tests.contract.signing import ATTESTORS, address_of
from tests.contract.world import (
    DEPLOYMENT,
    NOBODY,
    SECONDING_S,
    TREASURY,
    VAULT,
    VETO_BOND,
    WINDOW_S,
    World,
    operator_address,
)
from tools import build_contracts

ARTIFACTS = sorted(path.stem for path in build_contracts.ARTIFACTS.glob("*.json"))
MAX_RUNTIME_BYTES = 24_576
MAX_CREATION_BYTES = 49_152
SIGNERS = [address_of(one) for one in ATTESTORS[:3]]
GOVERNOR = "0x" + "66" * 20


@pytest.mark.slow
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


@pytest.mark.parametrize("name", ARTIFACTS)
def test_every_contract_fits_into_the_code_size_limits(name: str) -> None:
    """EIP-170 and EIP-3860 refuse larger ones on every public chain."""
    assert len(load(name).runtime) <= MAX_RUNTIME_BYTES
    assert len(load(name).bytecode) <= MAX_CREATION_BYTES


def test_a_vault_cannot_be_deployed_without_its_library() -> None:
    """An address of zeros would be a vault whose proofs all fail."""
    with pytest.raises(ArtifactError) as caught:
        link(VAULT, {})
    assert caught.value.code == "UNLINKED_LIBRARY" and "Evidence" in caught.value.message


def test_the_library_of_a_deployed_vault_is_known_and_checked(evm: Chain) -> None:
    """Whoever linked another library could have it say anything: its address is read and its code compared."""
    world = World.create(evm)
    found = libraries_in(VAULT, evm.backend.code(world.vault))
    assert {name: "0x" + address.hex() for name, address in found.items()} == evm.libraries
    assert runtime_matches(load("Evidence"), evm.backend.code(evm.libraries["Evidence"]))
    assert not runtime_matches(load("Evidence"), evm.backend.code(world.tokens[0]))


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
def test_any_other_changed_byte_is_noticed(data: st.DataObject) -> None:
    """runtime_matches masks the immutables and the library's address and nothing else."""
    hidden = {i for start, length in VAULT.immutables for i in range(start, start + length)}
    hidden |= {i for _, start in VAULT.runtime_links for i in range(start, start + 20)}
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
        world = World.create(embedded, attestors=3, threshold=2, governor=GOVERNOR, operator_bond=12_345)
        expected = {
            "deploymentId": DEPLOYMENT,
            "operator": operator_address(),
            "treasury": TREASURY,
            "tokens": tuple(world.tokens),
            "lanes": 1,
            "governor": GOVERNOR,
            "deadlineSeconds": 86_400,
            "challengeWindowSeconds": 3_600,
            "secondingSeconds": 1_800,
            "minFirstDeposit": 1_000_000,
            "maxDepositors": 1_000,
            "attestors": tuple(SIGNERS),
            "threshold": 2,
            "vetoQuorum": 2,
            "attestorsHash": attestors_hash(2, SIGNERS),
            "vetoBondWei": VETO_BOND,
            "requiredBondWei": 12_345,
            "domain": world.domain,
        }
        assert {name: world.view(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"deployment": bytes(32)}, "InvalidConfiguration"),
        ({"operator": NOBODY}, "InvalidConfiguration"),
        ({"treasury": NOBODY}, "InvalidConfiguration"),
        ({"tokens": [], "float_caps": []}, "InvalidToken"),
        ({"tokens": ["0x" + "12" * 20]}, "InvalidToken"),
        ({"deadline_s": WINDOW_S + SECONDING_S - 1}, "InvalidConfiguration"),
        ({"deadline_s": 0, "window_s": 0, "seconding_s": 0}, "InvalidConfiguration"),
        ({"deadline_s": 1 << 40}, "InvalidConfiguration"),
        ({"window_s": (1 << 64) - 1}, "InvalidConfiguration"),
        ({"seconding_s": (1 << 64) - 1}, "InvalidConfiguration"),
        ({"max_depositors": 0}, "InvalidConfiguration"),
        ({"max_depositors": 1 << 20}, "InvalidConfiguration"),
        ({"attestors": SIGNERS[::-1], "threshold": 2}, "InvalidConfiguration"),
        ({"attestors": [SIGNERS[0]] * 2, "threshold": 1}, "InvalidConfiguration"),
        ({"attestors": [NOBODY, *SIGNERS], "threshold": 1}, "InvalidConfiguration"),
        ({"attestors": SIGNERS, "threshold": 0}, "InvalidConfiguration"),
        ({"attestors": SIGNERS, "threshold": 4}, "InvalidConfiguration"),
        ({"attestors": [], "threshold": 1}, "InvalidConfiguration"),
        ({"attestors": [f"0x{n:040x}" for n in range(1, 18)], "threshold": 9}, "InvalidConfiguration"),
        ({"float_caps": []}, "InvalidConfiguration"),
        ({"float_caps": [1, 1]}, "InvalidConfiguration"),
    ],
)
def test_senseless_configurations_cannot_be_deployed(evm: Chain, change: dict[str, Any], error: str) -> None:
    world = World.create(evm)
    with refused(error):
        evm.deploy(VAULT, world.with_setup(**change).struct())
    with refused("InvalidToken"):
        evm.deploy(VAULT, world.with_setup(tokens=[*world.tokens, *world.tokens]).struct())
    evm.deploy(VAULT, world.with_setup(attestors=SIGNERS, threshold=2).struct())
