# SPDX-License-Identifier: GPL-3.0-or-later
"""The sender on a real node with a real pool: whatever happens in between, a call is mined once.

Every test counts what arrived, since that is the rule: nothing is paid twice, and nothing is lost.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest

from clearing.chain.embedded import dev_key
from clearing.chain.errors import ChainError
from clearing.chain.fees import GWEI, SendPolicy
from clearing.chain.rpc import Receipt, Rpc
from clearing.chain.transact import Sender
from clearing.chain.wallet import Wallet
from tests.chain.nodes import Anvil, Down, altering, answering, free_port

SHOP = bytes(18) + b"\x5b\x01"
QUICK = SendPolicy(replace_after_s=0.25, replace_after_blocks=1_000, resend_after_s=0.2, lost_after_s=0.3)
PATIENT = replace(QUICK, replace_after_s=60.0)


class Make(Protocol):
    def __call__(
        self,
        url: str,
        wallet: Wallet,
        policy: SendPolicy = QUICK,
        timeout_s: float = 15.0,
        folder: Path | None = None,
    ) -> Sender:
        """A sender with a connection, and so an outbox, of its own: as another process would have."""


@pytest.fixture
def sender() -> Iterator[Make]:
    with ExitStack() as stack:

        def make(
            url: str,
            wallet: Wallet,
            policy: SendPolicy = QUICK,
            timeout_s: float = 15.0,
            folder: Path | None = None,
        ) -> Sender:
            rpc = stack.enter_context(Rpc(url, attempts=2, pause_s=0.02))
            return Sender(rpc, wallet, timeout_s=timeout_s, policy=policy, folder=folder)

        yield make


@contextmanager
def waiting(run: Callable[[], Receipt]) -> Iterator[Callable[[], Receipt]]:
    """Run a send in a thread; the value waits for its receipt (or raises what it raised)."""
    found: list[Receipt | BaseException] = []

    def target() -> None:
        try:
            found.append(run())
        except BaseException as error:  # noqa: BLE001 - handed to the test
            found.append(error)

    thread = threading.Thread(target=target)
    thread.start()

    def result() -> Receipt:
        thread.join(20)
        assert found, "the send did not end"
        if isinstance(found[0], BaseException):
            raise found[0]
        return found[0]

    yield result
    thread.join(20)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.02)


def pool_size(anvil: Anvil) -> int:
    status = anvil.request("txpool_status")
    return int(status["pending"], 16) + int(status["queued"], 16)


def test_several_transactions_wait_at_once_and_each_is_mined_once(sender: Make, anvil: Anvil, wallet: Wallet) -> None:
    shop = sender(anvil.url, wallet)
    before, nonce = shop.rpc.balance(SHOP), shop.rpc.nonce(wallet.address)
    items = [shop.submit(SHOP, b"", value=10**n) for n in range(4)]
    assert [item.nonce for item in items] == list(range(nonce, nonce + 4))
    anvil.mine()
    assert all(shop.wait(item).ok for item in items)
    assert shop.rpc.balance(SHOP) - before == 1_111
    assert not shop.outbox.waiting


def test_a_transaction_that_a_raised_base_fee_leaves_behind_is_replaced(
    sender: Make, anvil: Anvil, wallet: Wallet
) -> None:
    shop = sender(anvil.url, wallet)
    before = shop.rpc.balance(SHOP)
    item = shop.submit(SHOP, b"", value=7)
    anvil.next_base_fee(3 * item.bid.max_fee_wei)
    anvil.mine()
    assert shop.rpc.receipt(item.hashes[0]) is None
    with waiting(lambda: shop.wait(item)) as result:
        until(lambda: len(item.hashes) > 1 and item.bid.max_fee_wei > 3 * shop.rpc.block().base_fee_wei // 2)
        anvil.mine()
        receipt = result()
    assert receipt.ok
    assert receipt.tx_hash in item.hashes[1:]
    assert shop.rpc.balance(SHOP) - before == 7
    assert pool_size(anvil) == 0


@pytest.mark.slow
def test_the_first_form_is_found_when_it_is_mined_after_all(sender: Make, anvil: Anvil, wallet: Wallet) -> None:
    """A replacement that no miner saw: the endpoint took it and passed it to nobody."""
    passed: list[str] = []

    def swallow(request: dict[str, Any]) -> dict[str, Any]:
        if request["method"] == "eth_sendRawTransaction":
            passed.append(request["params"][0])
            if len(passed) > 1:
                return {"result": "0x" + "00" * 32}
        return {"result": anvil.request(request["method"], *request["params"])}

    with answering(swallow) as url:
        shop = sender(url, wallet)
        before = shop.rpc.balance(SHOP)
        item = shop.submit(SHOP, b"", value=9)
        with waiting(lambda: shop.wait(item)) as result:
            until(lambda: len(passed) > 2)
            anvil.mine()
            assert result().tx_hash == item.hashes[0]
        assert len(item.hashes) > 1
        assert shop.rpc.balance(SHOP) - before == 9


def test_a_transaction_that_the_pool_forgot_is_sent_again_as_it_was(sender: Make, anvil: Anvil, wallet: Wallet) -> None:
    shop = sender(anvil.url, wallet, PATIENT)
    before = shop.rpc.balance(SHOP)
    item = shop.submit(SHOP, b"", value=11)
    anvil.request("anvil_dropAllTransactions")
    assert pool_size(anvil) == 0
    with waiting(lambda: shop.wait(item)) as result:
        until(lambda: pool_size(anvil) == 1)
        anvil.mine()
        assert result().tx_hash == item.hashes[0]
    assert len(item.hashes) == 1
    assert shop.rpc.balance(SHOP) - before == 11


def test_a_send_outlives_a_restart_of_the_node_that_lost_its_pool(sender: Make, wallet: Wallet, tmp_path: Path) -> None:
    node = Anvil(free_port(), ("--no-mining",), tmp_path / "state.json").start()
    try:
        shop = sender(node.url, wallet, PATIENT)
        shop.rpc.chain_id()
        node.mine()
        with waiting(lambda: shop.send(SHOP, b"", value=13)) as result:
            until(lambda: pool_size(node) == 1)
            node.stop()
            node.start()  # what it keeps of a restart is the state and not the pool
            until(lambda: pool_size(node) == 1)
            node.mine()
            assert result().ok
        assert shop.rpc.balance(SHOP) == 13
    finally:
        node.stop()


def test_an_answer_that_was_lost_costs_nothing(sender: Make, anvil: Anvil, wallet: Wallet) -> None:
    """The endpoint takes every transaction and answers none of the sends."""

    def cut(method: str, params: list[Any], result: Any) -> Any:
        if method == "eth_sendRawTransaction":
            raise Down
        return result

    with altering(anvil.url, cut) as url:
        shop = sender(url, wallet)
        before = shop.rpc.balance(SHOP)
        with waiting(lambda: shop.send(SHOP, b"", value=17)) as result:
            until(lambda: pool_size(anvil) == 1)
            anvil.mine()
            assert result().ok
        assert shop.rpc.balance(SHOP) - before == 17


def test_a_transaction_that_was_mined_while_its_answer_was_lost_is_not_paid_again(
    sender: Make, anvil: Anvil, wallet: Wallet
) -> None:
    """Sent again it would be refused for its used nonce, which must not be taken for somebody else's."""
    lost = 0

    def cut(method: str, params: list[Any], result: Any) -> Any:
        nonlocal lost
        if method == "eth_sendRawTransaction" and not lost:
            lost += 1
            raise Down
        return result

    anvil.request("evm_setAutomine", True)
    with altering(anvil.url, cut) as url:
        shop = sender(url, wallet)
        before, nonce = shop.rpc.balance(SHOP), shop.rpc.nonce(wallet.address)
        assert shop.send(SHOP, b"", value=17).ok
        assert (lost, shop.rpc.balance(SHOP) - before, shop.rpc.nonce(wallet.address) - nonce) == (1, 17, 1)


@pytest.mark.slow
def test_a_call_whose_waiter_gave_up_is_gone_on_with_and_not_sent_twice(
    sender: Make, anvil: Anvil, wallet: Wallet
) -> None:
    shop = sender(anvil.url, wallet, PATIENT, timeout_s=0.3)
    before = shop.rpc.balance(SHOP)
    with pytest.raises(ChainError, match=r"TX_TIMEOUT.*run again later"):
        shop.send(SHOP, b"", value=19)
    (left,) = shop.settle()
    with pytest.raises(ChainError, match="TX_TIMEOUT"):
        shop.send(SHOP, b"", value=19)
    assert shop.settle() == [left]
    assert pool_size(anvil) == 1
    anvil.mine()
    assert shop.settle() == [left]  # another send saw that it was mined; nobody was told
    assert shop.send(SHOP, b"", value=19).tx_hash == left.hashes[0]
    assert shop.rpc.balance(SHOP) - before == 19
    with pytest.raises(ChainError, match="TX_TIMEOUT"):  # what was answered for is over: this is a new one
        shop.send(SHOP, b"", value=19)
    anvil.mine()
    assert shop.rpc.balance(SHOP) - before == 38
    (told,) = shop.settle()
    shop.outbox.forget(told)
    assert shop.settle() == []


def test_an_orphan_that_a_reorganisation_undid_goes_on(sender: Make, anvil: Anvil, wallet: Wallet) -> None:
    shop = sender(anvil.url, wallet, PATIENT, timeout_s=0.3)
    before = shop.rpc.balance(SHOP)
    with pytest.raises(ChainError, match="TX_TIMEOUT"):
        shop.send(SHOP, b"", value=31)
    anvil.mine()
    shop.settle()
    anvil.request("anvil_rollback", 1)
    anvil.request("anvil_dropAllTransactions")
    later = Sender(shop.rpc, wallet, timeout_s=15, policy=PATIENT)  # the same connection, so the same outbox
    with waiting(lambda: later.send(SHOP, b"", value=31)) as result:
        until(lambda: pool_size(anvil) == 1)
        anvil.mine()
        assert result().ok
    assert shop.rpc.balance(SHOP) - before == 31


def test_a_mined_orphan_is_known_after_a_restart(sender: Make, anvil: Anvil, wallet: Wallet, tmp_path: Path) -> None:
    """The process ended after another send had seen the orphan mined: the file still tells the next one."""
    first = sender(anvil.url, wallet, PATIENT, timeout_s=0.3, folder=tmp_path)
    before = first.rpc.balance(SHOP)
    with pytest.raises(ChainError, match="TX_TIMEOUT"):
        first.send(SHOP, b"", value=37)
    anvil.mine()
    first.settle()
    again = sender(anvil.url, wallet, PATIENT, folder=tmp_path)
    assert again.send(SHOP, b"", value=37).ok
    assert again.rpc.balance(SHOP) - before == 37
    assert not list(tmp_path.iterdir())


def test_a_receipt_that_comes_late_is_waited_for_before_anything_is_signed_anew(
    sender: Make, anvil: Anvil, wallet: Wallet
) -> None:
    """Behind one URL: a node that knows the nonce is used, and one that does not know our receipt yet."""
    hidden = [True]

    def hide(method: str, params: list[Any], result: Any) -> Any:
        return None if hidden[0] and method == "eth_getTransactionReceipt" else result

    with altering(anvil.url, hide) as url:
        shop = sender(url, wallet, replace(PATIENT, lost_after_s=60.0))
        before = shop.rpc.balance(SHOP)
        item = shop.submit(SHOP, b"", value=41)
        anvil.mine()
        with waiting(lambda: shop.wait(item)) as result:
            until(lambda: item.used_up_s > 0)
            time.sleep(0.5)
            hidden[0] = False
            assert result().tx_hash == item.hashes[0]
        assert len(item.hashes) == 1
        assert pool_size(anvil) == 0
        assert shop.rpc.balance(SHOP) - before == 41


def test_a_restarted_process_goes_on_with_what_it_sent(
    sender: Make, anvil: Anvil, wallet: Wallet, tmp_path: Path
) -> None:
    first = sender(anvil.url, wallet, PATIENT, folder=tmp_path)
    before = first.rpc.balance(SHOP)
    item = first.submit(SHOP, b"\x01\x02", value=23)
    assert len(list(tmp_path.iterdir())) == 1
    anvil.request("anvil_dropAllTransactions")  # and the node forgot it as well
    again = sender(anvil.url, wallet, folder=tmp_path)
    with waiting(lambda: again.send(SHOP, b"\x01\x02", value=23)) as result:
        until(lambda: pool_size(anvil) == 1)
        anvil.mine()
        assert result().ok
    assert again.rpc.balance(SHOP) - before == 23
    assert again.rpc.nonce(wallet.address) == item.nonce + 1
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_read_stops_the_send(
    sender: Make, anvil: Anvil, wallet: Wallet, tmp_path: Path
) -> None:
    """What a damaged file was about may still be mined, so nothing new is signed before someone looked."""
    first = sender(anvil.url, wallet, PATIENT, folder=tmp_path)
    first.submit(SHOP, b"", value=1)
    (file,) = tmp_path.iterdir()
    file.write_text(file.read_text()[:-9])
    with pytest.raises(ChainError, match=r"OUTBOX_FOLDER.*is damaged"):
        sender(anvil.url, wallet, folder=tmp_path).send(SHOP, b"", value=1)
    assert pool_size(anvil) == 1
    (tmp_path / "file").write_text("")
    with pytest.raises(ChainError, match="OUTBOX_FOLDER"):
        sender(anvil.url, wallet, folder=tmp_path / "file").send(SHOP, b"", value=1)


@pytest.mark.slow
def test_fees_above_the_ceiling_are_refused_before_and_after_sending(
    sender: Make, anvil: Anvil, wallet: Wallet
) -> None:
    cheap = SendPolicy(max_fee_wei=GWEI, urgent_max_fee_wei=50 * GWEI, replace_after_s=0.1, resend_after_s=0.2)
    anvil.next_base_fee(30 * GWEI)
    anvil.mine()
    shop = sender(anvil.url, wallet, cheap, timeout_s=0.6)
    with pytest.raises(ChainError, match=r"FEE_TOO_HIGH.*the ceiling is 1; wait, or raise max_fee_wei"):
        shop.send(SHOP, b"", value=29)
    assert pool_size(anvil) == 0
    anvil.next_base_fee(GWEI // 2)
    anvil.mine()
    item = shop.submit(SHOP, b"", value=29)
    anvil.next_base_fee(30 * GWEI)
    anvil.mine()
    with pytest.raises(ChainError, match=r"FEE_TOO_HIGH.*is not mined after"):
        shop.wait(item)
    before = shop.rpc.balance(SHOP)
    with waiting(lambda: shop.send(SHOP, b"", value=29, urgency=1.0)) as result:
        until(lambda: item.bid.max_fee_wei > 30 * GWEI)
        anvil.mine()
        assert result().ok
    assert shop.rpc.balance(SHOP) - before == 29


def test_a_nonce_that_another_process_took_is_given_up_for_a_fresh_one(
    sender: Make, anvil: Anvil, wallet: Wallet
) -> None:
    """Both read the same pending count; the second is refused, or finds its nonce used up."""
    one = sender(anvil.url, wallet)
    count = one.rpc.nonce(wallet.address)
    stale = iter([hex(count)])

    def outdated(method: str, params: list[Any], result: Any) -> Any:
        pending = method == "eth_getTransactionCount" and params[1] == "pending"
        return next(stale, result) if pending else result

    before = one.rpc.balance(SHOP)
    item = one.submit(SHOP, b"", value=100)
    with altering(anvil.url, outdated) as url:
        other = sender(url, wallet)
        later = other.submit(SHOP, b"", value=200)
        assert next(stale, None) is None
        assert (item.nonce, later.nonce) == (count, count + 1)
        anvil.mine()
        assert one.wait(item).ok
        assert other.wait(later).ok
    assert one.rpc.balance(SHOP) - before == 300


def test_a_nonce_used_up_while_waiting_is_noticed(sender: Make, anvil: Anvil, wallet: Wallet) -> None:
    """Another process replaces our transaction by a dearer one of its own."""
    shop = sender(anvil.url, wallet, PATIENT)
    before = shop.rpc.balance(SHOP)
    item = shop.submit(SHOP, b"", value=1_000)
    thief = {
        "type": 2,
        "chainId": 31_337,
        "nonce": item.nonce,
        "maxFeePerGas": item.bid.max_fee_wei * 3,
        "maxPriorityFeePerGas": item.bid.max_fee_wei * 3,
        "gas": 21_000,
        "value": 1,
        "data": b"",
        "to": SHOP,
    }
    shop.rpc.send_raw(wallet.sign_transaction(thief)[0])
    anvil.mine()
    with waiting(lambda: shop.wait(item)) as result:
        until(lambda: pool_size(anvil) == 1)
        anvil.mine()
        assert result().ok
    assert shop.rpc.balance(SHOP) - before == 1_001


def test_a_gap_that_a_lost_transaction_left_is_filled(sender: Make, anvil: Anvil, wallet: Wallet) -> None:
    """Another process's transaction below ours is gone for good: ours would wait for ever."""
    lost = sender(anvil.url, wallet).submit(SHOP, b"", value=50)
    shop = sender(anvil.url, wallet)
    before = shop.rpc.balance(SHOP)
    item = shop.submit(SHOP, b"", value=60)
    assert item.nonce == lost.nonce + 1
    anvil.request("anvil_dropTransaction", "0x" + lost.hashes[0].hex())
    with waiting(lambda: shop.wait(item)) as result:
        until(lambda: int(anvil.request("txpool_status")["pending"], 16) == 2)
        anvil.mine()
        assert result().ok
    assert shop.rpc.balance(SHOP) - before == 60


def test_a_refused_transaction_leaves_nothing_behind(
    sender: Make, anvil: Anvil, wallet: Wallet, tmp_path: Path
) -> None:
    poor = sender(anvil.url, Wallet(b"\x05" * 32), folder=tmp_path)
    with pytest.raises(ChainError, match="TX_REFUSED"):
        poor.send(SHOP, b"", value=1, gas=21_000)
    assert not poor.outbox.waiting
    assert not list(tmp_path.iterdir())


def test_threads_that_share_a_key_take_different_nonces(sender: Make, anvil: Anvil, wallet: Wallet) -> None:
    shop = sender(anvil.url, wallet, PATIENT)
    before, nonces, lock = shop.rpc.balance(SHOP), list[int](), threading.Lock()

    def pay() -> None:
        item = shop.submit(SHOP, b"", value=1, gas=21_000)
        with lock:
            nonces.append(item.nonce)

    threads = [threading.Thread(target=pay) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    anvil.mine()
    assert len(set(nonces)) == 8
    assert shop.rpc.balance(SHOP) - before == 8


def test_dev_accounts_pay_on_the_embedded_chain_too(rpc: Rpc) -> None:
    shop = Sender(rpc, Wallet(dev_key(1)))
    assert [shop.send(SHOP, b"", value=1).block_number for _ in range(3)][2] == rpc.block_number()
    assert rpc.balance(SHOP) == 3
