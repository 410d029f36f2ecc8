# SPDX-License-Identifier: GPL-3.0-or-later
"""Blobs: one content has one blob, hashes are the network's, and real nodes take our transactions."""

import hashlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearing.chain import blobs
from clearing.chain.abi import keccak
from clearing.chain.errors import ChainError
from clearing.chain.rpc import Rpc, hexed
from clearing.chain.transact import Sender
from clearing.chain.wallet import Wallet
from tests.chain.nodes import Anvil

ANYBODY = bytes(19) + b"\xb1"


@pytest.mark.parametrize("size", [0, 1, 27, 28, 58, 59, 98_304, blobs.CAPACITY_BYTES])
def test_bytes_come_back_from_a_blob_of_valid_elements(size: int) -> None:
    data = hashlib.shake_256(b"data").digest(size)
    blob = blobs.encode(data)
    assert len(blob) == blobs.BLOB_BYTES
    assert not any(blob[::32])
    assert blobs.decode(blob) == data


@given(st.binary(max_size=300), st.integers(0, blobs.BLOB_BYTES - 1), st.integers(1, 255))
def test_every_other_blob_has_other_content_or_none(data: bytes, at: int, change: int) -> None:
    """Flipping any byte is refused or changes what is decoded: two blobs never mean the same."""
    blob = bytearray(blobs.encode(data))
    blob[at] ^= change
    try:
        assert blobs.decode(bytes(blob)) != data
    except ChainError as error:
        if error.code != "BAD_BLOB":
            raise


def test_what_does_not_fit_goes_into_several_blobs() -> None:
    data = hashlib.shake_256(b"long").digest(2 * blobs.CAPACITY_BYTES + 1)
    made = blobs.encode_all(data)
    assert len(made) == 3
    assert blobs.decode_all(made) == data
    assert blobs.decode_all(blobs.encode_all(b"")) == b""
    with pytest.raises(ChainError, match=r"BAD_BLOB.*do not fit"):
        blobs.encode(data)


@pytest.mark.parametrize("blob", [b"", bytes(blobs.BLOB_BYTES - 1), bytes(blobs.BLOB_BYTES + 32)])
@pytest.mark.slow
def test_other_lengths_are_no_blobs(blob: bytes) -> None:
    for read in (blobs.decode, blobs.versioned_hash):
        with pytest.raises(ChainError, match="BAD_BLOB"):
            read(blob)


def test_a_length_beyond_the_blob_is_refused() -> None:
    blob = bytearray(blobs.encode(b""))
    blob[1:5] = (blobs.CAPACITY_BYTES + 1).to_bytes(4, "big")
    with pytest.raises(ChainError, match="length"):
        blobs.decode(bytes(blob))


@pytest.mark.slow
def test_the_empty_polynomials_hash_is_the_one_of_the_specification() -> None:
    """The commitment of the zero blob is the point at infinity, c0 and 47 zero bytes (EIP-4844)."""
    infinity = b"\xc0" + bytes(47)
    assert blobs.commitment(bytes(blobs.BLOB_BYTES)) == infinity
    assert blobs.versioned_hash(bytes(blobs.BLOB_BYTES)) == b"\x01" + hashlib.sha256(infinity).digest()[1:]


@pytest.mark.slow
def test_an_archived_blob_is_checked_against_the_hash_on_the_chain() -> None:
    blob, other = blobs.encode(b"leaves"), blobs.encode(b"leaver")
    assert blobs.verified(blob, blobs.versioned_hash(blob)) == b"leaves"
    with pytest.raises(ChainError, match=r"BAD_BLOB.*try another archive"):
        blobs.verified(other, blobs.versioned_hash(blob))


@pytest.mark.slow
def test_elements_above_the_modulus_have_no_commitment() -> None:
    with pytest.raises(ChainError, match="BAD_BLOB"):
        blobs.commitment(b"\xff" * blobs.BLOB_BYTES)


@pytest.mark.parametrize("cells", [True, False])
@pytest.mark.slow
def test_both_wrapped_forms_open_and_altered_ones_do_not(wallet: Wallet, cells: bool) -> None:
    made = [blobs.encode(b"one"), blobs.encode(b"two")]
    forms, tx_hash = wallet.sign_blob_transaction(_fields(1, ANYBODY), made)
    form = forms[0 if cells else 1]
    body, found = blobs.unwrapped(form)
    assert found == made
    assert len(body) < 400
    assert keccak(body) == tx_hash
    for altered in (form.replace(b"one", b"eno"), form[:-1] + bytes([form[-1] ^ 1]), form[:-1], b"\x03", b"\x03\xc0"):
        with pytest.raises(ChainError, match="BAD_BLOB"):
            blobs.unwrapped(altered)


def _fields(chain_id: int, to: bytes) -> dict[str, object]:
    prices = {"maxFeePerGas": 10**10, "maxPriorityFeePerGas": 10**9, "maxFeePerBlobGas": 10**9}
    return prices | {"chainId": chain_id, "nonce": 0, "gas": 21_000, "value": 0, "data": b"", "to": to}


def test_the_trusted_setup_is_loaded_once(wallet: Wallet) -> None:
    """A second signature costs proofs only: eth-account alone would load the setup several times, 1.5 s each."""
    blobs.commitment(blobs.encode(b"warm"))
    start = time.process_time()
    wallet.sign_blob_transaction(_fields(1, ANYBODY), [blobs.encode(b"fresh")])
    assert time.process_time() - start < 1.0
    assert blobs._load_setup.cache_info().misses == 1


@pytest.mark.slow
@pytest.mark.parametrize("node", ["embedded", "anvil"])
def test_nodes_take_blob_transactions_and_hand_the_blobs_out(
    node: str, request: pytest.FixtureRequest, wallet: Wallet
) -> None:
    url = request.getfixturevalue("evm").url if node == "embedded" else _automining(request)
    made = (blobs.encode(b"first" * 9_000), blobs.encode(b"second"))
    with Rpc(url) as rpc:
        snapshot = rpc.request("evm_snapshot")
        receipt = Sender(rpc, wallet).send(ANYBODY, b"", value=5, blobs=made)
        raw = rpc.request("eth_getTransactionReceipt", hexed(receipt.tx_hash))
        assert (receipt.ok, raw["type"], rpc.balance(ANYBODY)) == (True, "0x3", 5)
        for blob in made:
            stored = rpc.request("anvil_getBlobByHash", hexed(blobs.versioned_hash(blob)))
            assert bytes.fromhex(stored[2:]) == blob
        assert rpc.request("evm_revert", snapshot) is True


def _automining(request: pytest.FixtureRequest) -> str:
    anvil: Anvil = request.getfixturevalue("anvil")
    anvil.request("evm_setAutomine", True)
    return anvil.url


@pytest.mark.slow
def test_the_embedded_chain_refuses_blobs_that_do_not_open_their_commitments(rpc: Rpc, wallet: Wallet) -> None:
    fields = _fields(rpc.chain_id(), ANYBODY) | {"nonce": rpc.nonce(wallet.address)}
    forms, _ = wallet.sign_blob_transaction(fields, [blobs.encode(b"true")])
    for altered in (forms[0].replace(b"true", b"lies"), forms[1].replace(b"true", b"lies")):
        with pytest.raises(ChainError, match=r"TX_REFUSED.*do not open"):
            rpc.send_raw(altered)
    rpc.send_raw(forms[1])


@pytest.mark.slow
def test_a_waiting_blob_transaction_is_replaced_at_twice_the_price(anvil: Anvil, wallet: Wallet) -> None:
    with Rpc(anvil.url) as rpc:
        shop = Sender(rpc, wallet)
        item = shop.submit(ANYBODY, b"", value=6, blobs=(blobs.encode(b"slow"),))
        first = item.bid
        shop.outbox._replace(item, rpc.block_number())
        assert all(new >= 2 * old for new, old in zip(item.bid, first, strict=True))
        assert item.blocked is None
        anvil.mine()
        assert shop.wait(item).tx_hash == item.hashes[1]
        assert rpc.balance(ANYBODY) == 6
