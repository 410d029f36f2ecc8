# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Safe (1.4.1 and 1.5.0) on the test chain: singleton, proxy factory, compatibility handler, owners.

Rules: the code is the npm packages' own artifacts, read where `npm ci` put them and never copied; that it is what
stands at Safe's published addresses follows from CREATE2 and is a test. Digests are laid out by hand after
Safe's documentation.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from eth_hash.auto import keccak
from eth_keys.datatypes import PrivateKey

from contracts import Artifact, abi
from tests.contract.chain import Chain, Receipt, events
from tests.contract.reference import address, u
from tests.contract.signing import address_of, sign

MODULES = Path(__file__).resolve().parents[2] / "contracts/node_modules/@safe-global"
PACKAGES = {"1.4.1": "safe-contracts", "1.5.0": "safe-smart-account"}
SOURCES = {
    "Safe": "Safe.sol/Safe",
    "SafeProxyFactory": "proxies/SafeProxyFactory.sol/SafeProxyFactory",
    "CompatibilityFallbackHandler": "handler/CompatibilityFallbackHandler.sol/CompatibilityFallbackHandler",
}
# https://github.com/safe-global/safe-deployments, "canonical": the same on every chain.
SINGLETON_FACTORY = "0x914d7fec6aac8cd542e72bca78b30650d45643d7"
PUBLISHED = {
    "1.4.1": {
        "Safe": "0x41675c099f32341bf84bfc5382af534df5c7461a",
        "SafeProxyFactory": "0x4e1dcf7ad4e460cfd30791ccc4f9c8a4f820ec67",
        "CompatibilityFallbackHandler": "0xfd0732dc9e303f09fcef3a7388ad10a83459ec99",
    },
    "1.5.0": {
        "Safe": "0xff51a5898e281db6dfc7855790607438df2ca44b",
        "SafeProxyFactory": "0x14f2982d601c9458f93bd70b218933a6f8165e7b",
        "CompatibilityFallbackHandler": "0x3efcbb83a4a7afcb4f68d501e2c2203a38be77f4",
    },
}
NOBODY = "0x" + "00" * 20
SAFE_DOMAIN = keccak(b"EIP712Domain(uint256 chainId,address verifyingContract)")
SAFE_MESSAGE = keccak(b"SafeMessage(bytes message)")
SAFE_TX = keccak(
    b"SafeTx(address to,uint256 value,bytes data,uint8 operation,uint256 safeTxGas,uint256 baseGas,"
    b"uint256 gasPrice,address gasToken,address refundReceiver,uint256 nonce)"
)


@cache
def artifact(version: str, name: str) -> Artifact:
    """One of Safe's contracts; skips the test when the packages are not installed."""
    file = MODULES / PACKAGES[version] / "build/artifacts/contracts" / f"{SOURCES[name]}.json"
    if not file.is_file():
        pytest.skip("Safe is not installed: run `npm ci` in contracts/")
    fields = json.loads(file.read_text())
    code, runtime = bytes.fromhex(fields["bytecode"][2:]), bytes.fromhex(fields["deployedBytecode"][2:])
    return Artifact(name, fields["sourceName"], "", {}, {}, fields["abi"], code, runtime, ())


def published_address(version: str, name: str) -> str:
    """Where the singleton factory puts this code: CREATE2 with salt zero."""
    code = artifact(version, name).bytecode
    return "0x" + keccak(b"\xff" + address(SINGLETON_FACTORY) + bytes(32) + keccak(code))[12:].hex()


@dataclass
class Safe:
    """A proxy with its owners, ascending by address, of whom `threshold` must sign."""

    chain: Chain
    version: str
    address: str
    owners: list[PrivateKey]
    threshold: int

    @classmethod
    def create(cls, chain: Chain, version: str, owners: list[PrivateKey], threshold: int) -> "Safe":
        place = {name: chain.deploy(artifact(version, name)) for name in SOURCES}
        sorted_owners = sorted(owners, key=lambda one: address(address_of(one)))
        names = [address_of(one) for one in sorted_owners]
        handler = place["CompatibilityFallbackHandler"]
        setup = (names, threshold, NOBODY, b"", handler, NOBODY, 0, NOBODY)
        initializer = abi.encode_call(artifact(version, "Safe"), "setup", *setup)
        factory = artifact(version, "SafeProxyFactory")
        receipt = chain.send(
            factory, place["SafeProxyFactory"], "createProxyWithNonce", place["Safe"], initializer, 7, gas=1_000_000
        )
        (created,) = events(receipt, factory, "ProxyCreation")
        return cls(chain, version, created["proxy"], sorted_owners, threshold)

    def _digest(self, struct: bytes) -> bytes:
        domain = keccak(SAFE_DOMAIN + u(self.chain.chain_id, 256) + bytes(12) + address(self.address))
        return bytes(keccak(b"\x19\x01" + domain + keccak(struct)))

    def message_digest(self, digest: bytes) -> bytes:
        """What an owner signs so that the Safe signs `digest`: a Safe message around it."""
        return self._digest(SAFE_MESSAGE + keccak(digest))

    def signature(self, digest: bytes, signers: list[PrivateKey]) -> bytes:
        return b"".join(sign(one, self.message_digest(digest)) for one in signers)

    def view(self, function: str) -> Any:
        return self.chain.call(artifact(self.version, "Safe"), self.address, function)

    def execute(self, to: str, data: bytes, signers: list[PrivateKey]) -> Receipt:
        """A Safe transaction, signed off-chain and submitted by anyone. Raises `Reverted`."""
        words = [address(to).rjust(32, b"\0"), u(0, 256), keccak(data), *(u(0, 256) for _ in range(6))]
        digest = self._digest(SAFE_TX + b"".join(words) + u(self.view("nonce"), 256))
        signatures = b"".join(sign(one, digest) for one in signers)
        safe = artifact(self.version, "Safe")
        arguments = (to, 0, data, 0, 0, 0, 0, NOBODY, NOBODY, signatures)
        return self.chain.send(safe, self.address, "execTransaction", *arguments, sender=4)
