# SPDX-License-Identifier: GPL-3.0-or-later
"""The embedded EVM process behaves as the node our client expects."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clearing.chain.embedded import EmbeddedEvm, dev_key, start_embedded
from clearing.chain.errors import ChainError
from clearing.chain.rpc import Rpc
from clearing.chain.transact import Sender
from clearing.chain.wallet import Wallet

# Deploys a contract that reverts with the first four bytes of its calldata's last word.
REVERTER = bytes.fromhex("600b600c600039600b6000f3") + bytes.fromhex("6000356000526004601cfd")


def test_value_moves_and_the_receipt_says_so(rpc: Rpc, wallet: Wallet) -> None:
    other = bytes(19) + b"\x77"
    before = rpc.balance(other)
    receipt = Sender(rpc, wallet).send(other, b"", value=5)
    assert receipt.ok
    assert receipt.gas_used == 21_000
    assert rpc.balance(other) == before + 5
    assert rpc.receipt(receipt.tx_hash) == receipt
    assert rpc.transaction(receipt.tx_hash) == (other, b"")


def test_a_revert_carries_its_data_in_calls_estimates_and_transactions(rpc: Rpc, wallet: Wallet) -> None:
    sender = Sender(rpc, wallet)
    contract = sender.send(None, REVERTER).contract
    assert len(rpc.code(contract)) == 11
    data = (0xDEADBEEF).to_bytes(32, "big")
    for attempt in (
        lambda: rpc.call(contract, data),
        lambda: rpc.estimate_gas(wallet.address, contract, data),
        lambda: sender.send(contract, data),
        lambda: sender.send(contract, data, gas=100_000),
    ):
        with pytest.raises(ChainError) as caught:
            attempt()
        assert caught.value.code == "TX_REVERTED"
        assert caught.value.data == bytes.fromhex("deadbeef")


def test_invalid_transactions_are_refused_and_named(rpc: Rpc, wallet: Wallet) -> None:
    poor = Wallet(b"\x05" * 32)
    with pytest.raises(ChainError) as caught:
        Sender(rpc, poor).send(wallet.address, b"", value=1, gas=21_000)
    assert caught.value.code == "TX_REFUSED"
    for raw in (b"", b"\x02\x01", b"\xff" * 40, b"\xc0"):
        with pytest.raises(ChainError) as caught:
            rpc.send_raw(raw)
        assert caught.value.code == "TX_REFUSED"


def test_a_transaction_for_another_chain_is_refused(rpc: Rpc, wallet: Wallet) -> None:
    fees = rpc.fees()
    fields = {
        "type": 2,
        "chainId": 1,
        "nonce": rpc.nonce(wallet.address),
        "maxFeePerGas": fees.max_fee_wei,
        "maxPriorityFeePerGas": fees.max_priority_wei,
        "gas": 21_000,
        "value": 1,
        "data": b"",
        "to": wallet.address,
    }
    with pytest.raises(ChainError, match="signed for chain 1"):
        rpc.send_raw(wallet.sign_transaction(fields)[0])


def test_sending_the_same_bytes_twice_is_sending_once(rpc: Rpc, wallet: Wallet) -> None:
    other, fees = bytes(19) + b"\x78", rpc.fees()
    fields = {
        "type": 2,
        "chainId": rpc.chain_id(),
        "nonce": rpc.nonce(wallet.address),
        "maxFeePerGas": fees.max_fee_wei,
        "maxPriorityFeePerGas": fees.max_priority_wei,
        "gas": 21_000,
        "value": 3,
        "data": b"",
        "to": other,
    }
    raw, tx_hash = wallet.sign_transaction(fields)
    assert rpc.send_raw(raw) == rpc.send_raw(raw) == tx_hash
    assert rpc.balance(other) == 3


def test_time_moves_by_what_was_asked_even_when_blocks_ran_ahead(rpc: Rpc, wallet: Wallet) -> None:
    for _ in range(5):
        Sender(rpc, wallet).send(wallet.address, b"", gas=21_000)
    before = rpc.time_s()
    rpc.request("evm_increaseTime", 86_400)
    rpc.request("evm_mine")
    assert 86_400 <= rpc.block().time_s - before <= 86_402


def test_a_reverted_snapshot_forgets_blocks_and_the_chain_goes_on(rpc: Rpc, wallet: Wallet) -> None:
    other, sender = bytes(19) + b"\x79", Sender(rpc, wallet)
    sender.send(other, b"", value=1)
    snapshot, head = rpc.request("evm_snapshot"), rpc.block()
    gone = sender.send(other, b"", value=10)
    assert rpc.request("evm_revert", snapshot) is True
    assert rpc.block() == head
    assert rpc.receipt(gone.tx_hash) is None
    again = sender.send(other, b"", value=100)
    assert rpc.balance(other) == 101
    assert again.block_number == gone.block_number
    assert rpc.balance(other) == 101


def test_unknown_methods_and_bad_parameters_are_answers_and_not_crashes(rpc: Rpc) -> None:
    requests: list[tuple[str, list[object]]] = [
        ("eth_mystery", []),
        ("eth_getBalance", []),
        ("eth_getBalance", ["0xzz", "latest"]),
        ("eth_call", ["text"]),
        ("eth_getLogs", [7]),
        ("eth_getBlockByNumber", ["tomorrow", False]),
        ("evm_increaseTime", [-1]),
    ]
    for method, params in requests:
        with pytest.raises(ChainError):
            rpc.request(method, *params)
    assert rpc.chain_id() == 31_337


@pytest.mark.slow
def test_the_process_outlives_its_parent_and_exits_when_idle(tmp_path: Path) -> None:
    """A parent that starts an EVM and is killed leaves it serving; idle, it goes by itself."""
    program = (
        "import time; from pathlib import Path; from clearing.chain.embedded import start_embedded;"
        "e = start_embedded(idle_exit_s=2, dev_accounts=1);"
        f"Path({str(tmp_path / 'url')!r}).write_text(e.url + ' ' + str(e.process.pid)); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program])
    deadline = time.monotonic() + 30
    while not (tmp_path / "url").exists() or not (tmp_path / "url").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    url, pid = (tmp_path / "url").read_text().split()
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    with Rpc(url) as rpc:
        assert rpc.balance(Wallet(dev_key(0)).address) > 0
    while _alive(int(pid)):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_a_taken_port_is_a_named_error(evm: EmbeddedEvm) -> None:
    with pytest.raises(ChainError) as caught:
        start_embedded(port=int(evm.url.rsplit(":", 1)[1]), dev_accounts=0)
    assert caught.value.code == "EVM_START_FAILED"
    assert "Address already in use" in caught.value.message
