# SPDX-License-Identifier: GPL-3.0-or-later
"""Several endpoints behind one port: failover, lag, and endpoints that lie.

The bad ones are real HTTP servers in front of a real chain, which alter what they are told to.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from clearing.chain.deploy import deploy_token, mint
from clearing.chain.embedded import EmbeddedEvm, start_embedded
from clearing.chain.errors import ChainError
from clearing.chain.pool import connect
from clearing.chain.rpc import Rpc, hexed
from clearing.chain.transact import Sender
from clearing.chain.wallet import Wallet
from tests.chain.nodes import Alter, Anvil, Down, altering, answering, free_port

QUICK: dict[str, Any] = {"head_ttl_s": 0.0, "timeout_s": 5.0, "attempts": 1, "agree_pause_s": 0.02}
ANYBODY = bytes(19) + b"\xe1"


@contextmanager
def pool(url: str, *alterations: Alter, **options: Any) -> Iterator[Rpc]:
    """The chain at `url`, and the same behind one altering proxy each."""
    with ExitStack() as stack:
        urls = [url, *(stack.enter_context(altering(url, alter)) for alter in alterations)]
        yield stack.enter_context(connect(urls, **QUICK | options))


def honest(_method: str, _params: list[Any], result: Any) -> Any:
    return result


def lie(about: str, told: Callable[[Any], Any]) -> Alter:
    """Alters the results of one method."""
    return lambda method, _params, result: told(result) if method == about else result


def behind(blocks: int) -> Alter:
    """An endpoint that has not got the newest blocks yet."""

    def alter(method: str, params: list[Any], result: Any) -> Any:
        if method == "eth_blockNumber":
            return hex(max(0, int(result, 16) - blocks))
        return result

    return alter


def dead(_method: str, _params: list[Any], _result: Any) -> Any:
    raise Down


@pytest.fixture
def token(rpc: Rpc, wallet: Wallet) -> bytes:
    """A contract with an event, code and storage."""
    address = deploy_token(rpc, wallet)
    mint(rpc, wallet, address, ANYBODY, 77)
    return address


def test_one_endpoint_is_a_plain_connection(evm: EmbeddedEvm) -> None:
    with connect(f" {evm.url} ,") as one, connect([evm.url, evm.url]) as same:
        assert one.url == same.url == evm.url
        assert one.block() == same.block()


@pytest.mark.parametrize("urls", ["", " , ", []])
def test_no_endpoint_is_refused(urls: Any) -> None:
    with pytest.raises(ChainError, match="RPC_UNREACHABLE: no endpoint is given"):
        connect(urls)


def test_an_impossible_quorum_is_refused(evm: EmbeddedEvm) -> None:
    for quorum in (0, 2):
        with pytest.raises(ChainError, match="INVALID_ARGUMENT"):
            connect(evm.url, quorum=quorum)


def test_everything_works_through_honest_endpoints(evm: EmbeddedEvm, rpc: Rpc, wallet: Wallet, token: bytes) -> None:
    with pool(evm.url, honest, honest) as many:
        receipt = Sender(many, wallet).send(ANYBODY, b"", value=5)
        assert many.balance(ANYBODY) == 5
        assert many.receipt(receipt.tx_hash) == receipt
        assert many.transaction(receipt.tx_hash) == (ANYBODY, b"")
        assert many.code(token) == rpc.code(token)
        assert list(many.logs(token, [])) == list(rpc.logs(token, []))
        assert many.block() == many.block("finalized") == rpc.block()
        assert many.block(0) == rpc.block(0)
        assert (many.chain_id(), many.nonce(wallet.address)) == (rpc.chain_id(), rpc.nonce(wallet.address))
        assert many.fees() == rpc.fees()
        assert many.time_s() >= rpc.block().time_s
        assert many.url.count("http") == 3


def test_a_dead_endpoint_is_passed_over_and_taken_back(evm: EmbeddedEvm, rpc: Rpc, wallet: Wallet) -> None:
    broken = [True]

    def alter(method: str, params: list[Any], result: Any) -> Any:
        return dead(method, params, result) if broken[0] else result

    with altering(evm.url, alter) as url, connect([url, evm.url], **QUICK) as two:
        assert two.block() == rpc.block()
        assert Sender(two, wallet).send(ANYBODY, b"", value=1).ok
        broken[0] = False
        time.sleep(1.1)  # the first cooldown
        two.block_number()
        broken.append(False)
    with pytest.raises(ChainError, match="RPC_UNREACHABLE"):
        connect([f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"], attempts=1).block()


LIES: list[tuple[str, Callable[[Any], Any], Callable[[Rpc, bytes], Any]]] = [
    ("eth_call", lambda r: "0x" + "00" * 31 + "01", lambda rpc, token: rpc.call(token, b"\x18\x16\x0d\xdd")),
    ("eth_getCode", lambda r: "0x6000", lambda rpc, token: rpc.code(token)),
    ("eth_getBalance", lambda r: "0x7", lambda rpc, token: rpc.balance(ANYBODY)),
    ("eth_getLogs", lambda r: r[:-1], lambda rpc, token: list(rpc.logs(token, []))),
    ("eth_getLogs", lambda r: [], lambda rpc, token: list(rpc.logs(token, []))),
    ("eth_getBlockByNumber", lambda r: r | {"hash": "0x" + "ee" * 32}, lambda rpc, token: rpc.block()),
    ("eth_getBlockByNumber", lambda r: r | {"timestamp": "0x1"}, lambda rpc, token: rpc.block(1)),
    ("eth_getTransactionCount", lambda r: "0x0", lambda rpc, token: rpc.nonce(Wallet(b"\x01" * 32).address, "latest")),
]


@pytest.mark.parametrize(("method", "told", "read"), LIES[:-1], ids=[str(n) for n in range(len(LIES) - 1)])
def test_an_endpoint_that_lies_is_found_out_and_named(
    method: str, told: Callable[[Any], Any], read: Callable[[Rpc, bytes], Any], evm: EmbeddedEvm, token: bytes
) -> None:
    with pool(evm.url, honest, lie(method, told)) as three:
        with pytest.raises(ChainError) as caught:
            read(three, token)
        assert caught.value.code == "RPC_DISAGREE"
        liar = three.url.split(", ")[2]
        for word in (evm.url, liar, method, "lies or is broken"):
            assert word in caught.value.message
    with pool(evm.url, honest) as two:
        read(two, token)


def test_a_nonce_that_an_endpoint_forgets_is_found_out(evm: EmbeddedEvm, wallet: Wallet, token: bytes) -> None:
    """Believed, it would have us take a mined transaction for lost, and pay again."""
    with pool(evm.url, lie("eth_getTransactionCount", lambda _: "0x0")) as two:
        with pytest.raises(ChainError, match="RPC_DISAGREE"):
            two.nonce(wallet.address, "latest")
        assert two.nonce(wallet.address) > 0  # what is pending is the most that any knows


@pytest.mark.parametrize(
    "told", [lambda r: None, lambda r: r and r | {"status": "0x0"}, lambda r: r and r | {"logs": []}]
)
def test_a_false_receipt_is_found_out(told: Callable[[Any], Any], evm: EmbeddedEvm, rpc: Rpc, wallet: Wallet) -> None:
    deployed = Sender(rpc, wallet).send(None, bytes.fromhex("60006000a0600080f3"))
    assert deployed.logs
    liar = lie("eth_getTransactionReceipt", told)
    with pool(evm.url, liar) as two, pytest.raises(ChainError, match="RPC_DISAGREE"):
        two.receipt(deployed.tx_hash)


def test_a_revert_that_one_endpoint_hides_is_found_out(evm: EmbeddedEvm, rpc: Rpc, token: bytes) -> None:
    """Same call, one says it reverts and the other says it pays."""
    unknown = b"\xde\xad\xbe\xef"

    def paying(request: dict[str, Any]) -> dict[str, Any]:
        if request["method"] == "eth_call":
            return {"result": "0x01"}
        return {"result": rpc.request(request["method"], *request["params"])}

    with pool(evm.url, honest) as two, pytest.raises(ChainError, match="TX_REVERTED"):
        two.call(token, unknown)
    with (
        answering(paying) as url,
        connect([evm.url, url], **QUICK) as two,
        pytest.raises(ChainError, match="RPC_DISAGREE"),
    ):
        two.call(token, unknown)


def test_a_difference_that_passes_is_asked_about_again(evm: EmbeddedEvm, rpc: Rpc, token: bytes) -> None:
    """Honest nodes differ for a moment while a reorganisation reaches them."""
    wrong = iter(["0x6000", "0x6000"])
    with pool(evm.url, lie("eth_getCode", lambda r: next(wrong, r))) as two:
        assert two.code(token) == rpc.code(token)
    assert next(wrong, None) is None


def test_the_newest_block_is_the_one_that_all_have(evm: EmbeddedEvm, rpc: Rpc, wallet: Wallet) -> None:
    """A node two blocks late is asked about what it has; so nobody's `latest` is compared with another's."""
    Sender(rpc, wallet).send(ANYBODY, b"", value=1)
    before = rpc.block()
    for _ in range(2):
        Sender(rpc, wallet).send(ANYBODY, b"", value=1)
    with pool(evm.url, behind(2)) as two:
        assert two.block() == before
        assert two.balance(ANYBODY) == 1


def test_a_node_far_behind_is_passed_over(evm: EmbeddedEvm, rpc: Rpc, wallet: Wallet) -> None:
    for _ in range(8):
        Sender(rpc, wallet).send(ANYBODY, b"", value=1)
    with pool(evm.url, behind(7), max_lag_blocks=6) as two:
        assert two.block() == rpc.block()
        assert two.balance(ANYBODY) == 8
    needed = pytest.raises(ChainError, match=r"RPC_UNREACHABLE: 1 of .* up and in step, 2 are needed")
    with pool(evm.url, behind(7), max_lag_blocks=6, quorum=2) as two, needed:
        two.block()


def test_one_that_pretends_to_be_ahead_does_not_leave_the_others_behind(evm: EmbeddedEvm, rpc: Rpc) -> None:
    """Alone in front it would be the only one in step, and could say what it likes."""
    ahead = lie("eth_blockNumber", lambda r: hex(int(r, 16) + 1_000))
    with pool(evm.url, honest, ahead) as three:
        assert three.block() == rpc.block()
    with pool(evm.url, ahead, quorum=2) as two, pytest.raises(ChainError, match="2 are needed"):
        two.block()


@pytest.mark.slow
def test_a_receipt_waits_for_the_slower_node_and_is_not_forgotten(evm: EmbeddedEvm, rpc: Rpc, wallet: Wallet) -> None:
    """While one in step has not got the block, nothing is mined yet; once handed out, no view is older."""
    late = [True]

    def alter(method: str, params: list[Any], result: Any) -> Any:
        if not late[0]:
            return result
        if method == "eth_getTransactionReceipt":
            return None
        return behind(1)(method, params, result)

    receipt = Sender(rpc, wallet).send(ANYBODY, b"", value=3)
    with pool(evm.url, alter) as two:
        assert two.receipt(receipt.tx_hash) is None
        late[0] = False
        assert two.receipt(receipt.tx_hash) == receipt
        late[0] = True
        assert two.block_number() == receipt.block_number  # the late one is waited for, then passed over
        assert two.balance(ANYBODY) == 3


def test_a_transaction_reaches_the_chain_past_an_endpoint_that_holds_it_back(
    evm: EmbeddedEvm, rpc: Rpc, wallet: Wallet
) -> None:
    with answering(censor) as url, connect([url, evm.url], **QUICK) as two:
        assert Sender(two, wallet, timeout_s=20).send(ANYBODY, b"", value=9).ok
    assert rpc.balance(ANYBODY) == 9


def censor(request: dict[str, Any]) -> dict[str, Any]:
    """Takes every raw transaction and drops it; knows nothing else."""
    if request["method"] == "eth_sendRawTransaction":
        return {"result": "0x" + "ab" * 32}
    return {"error": {"code": -32000, "message": "busy"}}


def test_log_pages_are_sized_for_the_endpoint_that_serves_least(evm: EmbeddedEvm, rpc: Rpc, wallet: Wallet) -> None:
    """The embedded chain serves 7 blocks a query; every log is found once, and both are asked for all."""
    token = deploy_token(rpc, wallet)
    for _ in range(20):
        mint(rpc, wallet, token, ANYBODY, 1)
    with pool(evm.url, honest) as two:
        assert len(list(two.logs(token, []))) == 20


def test_endpoints_of_two_chains_are_no_pool(evm: EmbeddedEvm, anvil: Anvil) -> None:
    other = start_embedded(chain_id=5, dev_accounts=1, idle_exit_s=60)
    try:
        with connect([evm.url, other.url]) as two, pytest.raises(ChainError, match=r"WRONG_CHAIN.*31337.*chain 5"):
            two.block_number()
    finally:
        other.stop()


def test_a_pool_over_real_nodes_sends_and_reads(anvil: Anvil, wallet: Wallet) -> None:
    anvil.request("evm_setAutomine", True)
    with pool(anvil.url, honest, behind(1), quorum=2) as three:
        receipt = Sender(three, wallet, timeout_s=20).send(ANYBODY, b"", value=4)
        assert receipt.ok
        assert three.balance(ANYBODY) == 4
        block = three.request("eth_getBlockByNumber", hex(receipt.block_number), False)
        assert hexed(receipt.tx_hash) in block["transactions"]


def test_keys_in_urls_stay_out_of_messages(evm: EmbeddedEvm) -> None:
    url = evm.url.replace("http://", "http://user:secret@") + "/v3/secret"
    with connect([url, evm.url + "/other"]) as two:
        assert "secret" not in two.url
    nowhere = f"http://127.0.0.1:{free_port()}/v3/secret"
    with connect(nowhere, attempts=1) as gone, pytest.raises(ChainError) as caught:
        gone.block_number()
    assert "secret" not in caught.value.message
