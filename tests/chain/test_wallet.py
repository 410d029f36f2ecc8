# SPDX-License-Identifier: GPL-3.0-or-later
"""Key files are private and never overwritten; our hand-laid EIP-712 digests are eth-account's."""

from pathlib import Path

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils import keccak
from hypothesis import given
from hypothesis import strategies as st

from clearing.chain.errors import ChainError
from clearing.chain.wallet import (
    Wallet,
    attestation_digest,
    checkpoint_digest,
    post_epoch_digest,
    recover,
    voucher_digest,
)
from proofs.inbox import Voucher

KEYS = st.integers(1, 2**255).map(lambda n: n.to_bytes(32, "big"))
HASHES = st.binary(min_size=32, max_size=32)
ADDRESSES = st.binary(min_size=20, max_size=20)
U64 = st.integers(0, 2**64 - 1)


def _digest(
    chain_id: int, vault: bytes, primary: str, fields: list[tuple[str, str]], message: dict[str, object]
) -> bytes:
    address = "0x" + vault.hex()
    domain = {"name": "Novate Vault", "version": "1", "chainId": chain_id, "verifyingContract": address}
    types = {primary: [{"type": kind, "name": name} for kind, name in fields]}
    signable = encode_typed_data(domain, types, message)
    return keccak(b"\x19" + signable.version + signable.header + signable.body)


@given(st.integers(1, 2**64), ADDRESSES, HASHES)
def test_headers_are_signed_as_eip_712_in_the_vaults_domain(chain_id: int, vault: bytes, one: bytes) -> None:
    for primary, ours in (("PostEpoch", post_epoch_digest), ("Attestation", attestation_digest)):
        assert ours(chain_id, vault, one) == _digest(chain_id, vault, primary, [("bytes32", "header")], {"header": one})


@given(st.integers(1, 2**64), ADDRESSES, HASHES, ADDRESSES, st.integers(0, 255), st.integers(0, 2**128 - 1), U64)
def test_vouchers_are_signed_as_eip_712(
    chain_id: int, vault: bytes, one: bytes, owner: bytes, asset: int, cumulative: int, expiry: int
) -> None:
    kinds = "bytes32", "address", "uint8", "uint128", "uint64"
    names = "domain", "owner", "asset", "cumulative", "expiry"
    message = dict(zip(names, (one, "0x" + owner.hex(), asset, cumulative, expiry), strict=True))
    wanted = _digest(chain_id, vault, "Voucher", list(zip(kinds, names, strict=True)), message)
    assert voucher_digest(chain_id, vault, Voucher(one, owner, asset, cumulative, expiry)) == wanted


@given(HASHES, HASHES, U64)
def test_checkpoints_are_signed_in_the_journals_domain_that_names_no_chain(one: bytes, two: bytes, size: int) -> None:
    domain = {"name": "Novate Journal", "version": "1", "salt": one}
    kinds = "bytes32", "uint64", "bytes32"
    names = "domain", "size", "root"
    types = {"Checkpoint": [{"type": kind, "name": name} for kind, name in zip(kinds, names, strict=True)]}
    signable = encode_typed_data(domain, types, {"domain": one, "size": size, "root": two})
    assert checkpoint_digest(one, size, two) == keccak(b"\x19" + signable.version + signable.header + signable.body)


@given(KEYS, HASHES)
def test_signatures_recover_to_the_wallets_address(key: bytes, digest: bytes) -> None:
    wallet = Wallet(key)
    assert wallet.address.hex() == Account.from_key(key).address[2:].lower()
    signature = wallet.sign_digest(digest)
    assert recover(digest, signature) == wallet.address
    assert int.from_bytes(signature[32:64], "big") <= (2**256 - 1) // 2


@given(st.binary(max_size=70), HASHES)
def test_hostile_signatures_recover_without_raising(signature: bytes, digest: bytes) -> None:
    assert len(recover(digest, signature)) in (0, 20)


def test_key_files_round_trip_and_are_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key"
    wallet = Wallet.create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Wallet.load(path).address == wallet.address
    with pytest.raises(ChainError, match="never overwritten"):
        Wallet.create(path)
    assert wallet.address.hex() in repr(wallet)
    assert path.read_text().strip() not in repr(wallet)


def test_bad_key_files_are_named_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "key"
    with pytest.raises(ChainError, match="KEY_FILE: cannot read"):
        Wallet.load(path)
    Wallet.create(path)
    path.chmod(0o644)
    with pytest.raises(ChainError, match="chmod 600"):
        Wallet.load(path)
    path.chmod(0o600)
    for text in ("", "zz", "00" * 32, "ff" * 32, "11" * 31):
        path.write_text(text)
        with pytest.raises(ChainError, match="KEY_FILE"):
            Wallet.load(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ChainError, match="KEY_FILE"):
        Wallet.load(path)
