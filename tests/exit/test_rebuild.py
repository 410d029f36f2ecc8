# SPDX-License-Identifier: GPL-3.0-or-later
"""From a URL and an address alone, the exit tree is rebuilt exactly, or the reason why not is named."""

import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from clearing.chain.abi import interface
from clearing.chain.deploy import deploy
from clearing.chain.errors import ChainError
from clearing.chain.rpc import Rpc
from clearing.chain.transact import Sender
from clearing.chain.vault import VaultClient
from clearing.exit.errors import ExitError
from clearing.exit.rebuild import Rebuilt, rebuild
from proofs.diff import DiffRow
from proofs.leaf import ExitLeaf
from proofs.sumtree import SumTree
from tests.exit.proxy import Alter, lying_endpoint
from tests.exit.scene import HOUSE, WINDOW_S, Scene, member

TOPICS = {name: "0x" + event.topic.hex() for name, event in interface("Vault").events.items()}


def _rebuilt(vault: VaultClient, epoch: int | None = None) -> Rebuilt:
    found = rebuild(vault, epoch)
    assert found is not None
    return found


def _posted(scene: Scene) -> None:
    """Two epochs, three members, several chunks."""
    scene.deposit(member(1), 1_000, 50)
    scene.deposit(member(2), 500)
    scene.close({1: (member(1), (1_000, 50), (0, 0)), 2: (member(2), (500, 0), (0, 0))}, split=1)
    scene.deposit(member(3), 0, 7)
    scene.close({0: (HOUSE, (5, 0), (0, 0)), 1: (member(1), (900, 40), (90, 10)), 3: (member(3), (0, 7), (0, 0))})
    scene.pass_time(WINDOW_S)


@pytest.fixture(scope="module")
def posted(fresh_vault: tuple[Rpc, bytes]) -> Iterator[Scene]:
    """The scene of `_posted`, made once for tests that only read."""
    rpc, address = fresh_vault
    snapshot = rpc.request("evm_snapshot")
    made = Scene.deploy(rpc, tokens=VaultClient(rpc, address).tokens(), beside=address)
    _posted(made)
    yield made
    assert rpc.request("evm_revert", snapshot) is True


def test_every_epoch_of_a_random_history_is_rebuilt_leaf_for_leaf(
    scene: Scene, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leaves appear, change and empty out over epochs and chunks; each epoch's tree is the operator's, also when
    the diffs are read a few epochs at a time."""
    monkeypatch.setattr("clearing.exit.rebuild.GROUP_EPOCHS", 2)
    scene.deposit(member(1), 10**12, 10**12)
    owners = {0: HOUSE}
    wanted: list[tuple[list[ExitLeaf], bytes, tuple[int, ...]]] = []
    for _ in range(5):
        changed = {}
        for index in rng.sample(range(200), rng.randrange(1, 30)):
            owner = owners.setdefault(index, member(index))
            values = [rng.choice([0, 1, rng.randrange(10**9)]) for _ in range(4)]
            changed[index] = (owner, tuple(values[:2]), tuple(values[2:]))
        scene.close(changed, split=rng.randrange(1, 12))
        wanted.append((scene.tree.leaves(), scene.tree.root, scene.tree.sums))
    for epoch, (leaves, root, sums) in enumerate(wanted, 1):
        found = _rebuilt(scene.reader, epoch)
        assert [found.leaves[index] for index in sorted(found.leaves)] == leaves
        assert (found.tree.root, found.tree.sums, found.epoch) == (root, sums, epoch)


def test_an_epoch_without_changes_is_rebuilt(scene: Scene) -> None:
    scene.close({})
    scene.pass_time(WINDOW_S)
    assert _rebuilt(scene.reader).leaves == {}


def test_the_default_epoch_is_the_last_final_one_and_none_before_that(scene: Scene) -> None:
    assert rebuild(scene.reader) is None
    scene.deposit(member(1), 100)
    scene.close({1: (member(1), (100, 0), (0, 0))})
    assert rebuild(scene.reader) is None
    scene.pass_time(WINDOW_S)
    scene.close({1: (member(1), (90, 0), (10, 0))})
    assert _rebuilt(scene.reader).epoch == 1
    assert _rebuilt(scene.reader, 2).leaves[1].exits == (90, 0)


def test_an_unposted_epoch_is_named(scene: Scene) -> None:
    with pytest.raises(ExitError, match="EPOCH_UNKNOWN"):
        rebuild(scene.reader, 1)


@pytest.mark.parametrize("kind", ["nobody", "token", "wallet"])
def test_an_address_that_is_no_vault_is_named(scene: Scene, kind: str) -> None:
    address = {"nobody": b"\x01" * 20, "token": scene.vault.tokens()[0], "wallet": scene.wallet.address}[kind]
    with pytest.raises((ExitError, ChainError)) as caught:
        rebuild(VaultClient(scene.rpc, address))
    assert caught.value.code == ("WRONG_DOMAIN" if kind == "token" else "NO_CODE")


def test_chunks_posted_through_a_contract_wallet_are_found(scene: Scene) -> None:
    """A Safe's call carries ours inside its own calldata."""
    safe = deploy(scene.rpc, scene.wallet, "ContractWallet", scene.wallet.address).contract
    through = Scene.deploy(scene.rpc, operator=safe, beside=scene.vault.address)
    known = interface("ContractWallet")

    def post(*arguments: Any) -> None:
        inner = through.vault.abi.call("postEpoch", *arguments)
        outer = known.call("execute", through.vault.address, inner)
        Sender(scene.rpc, scene.wallet, [known]).send(safe, outer)

    through.post = post  # type: ignore[method-assign, assignment]
    _posted(through)
    (event,) = through.reader.epochs(epoch=1)
    assert len(through.reader.posted_chunks(event) or []) == 2
    assert _rebuilt(through.reader).tree.root == through.tree.root


# -- an operator who publishes nonsense


def test_a_root_that_the_published_leaves_do_not_give_is_named(scene: Scene) -> None:
    scene.deposit(member(1), 100)
    other = SumTree(scene.tree.domain, 2)
    other.update([ExitLeaf(1, member(2), (100, 0), (0, 0))])
    scene.close({1: (member(1), (100, 0), (0, 0))}, root=other.root)
    scene.pass_time(WINDOW_S)
    with pytest.raises(ExitError, match="ROOT_MISMATCH"):
        rebuild(scene.reader)


def test_rows_that_hide_a_leaf_are_named(scene: Scene) -> None:
    scene.deposit(member(1), 100)
    rows = [DiffRow(1, member(1), (60, 0), (0, 0))]
    scene.close({1: (member(1), (60, 0), (0, 0)), 2: (member(2), (40, 0), (0, 0))}, rows=rows)
    scene.pass_time(WINDOW_S)
    with pytest.raises(ExitError, match="ROOT_MISMATCH"):
        rebuild(scene.reader)


def test_a_new_leaf_without_an_owner_is_named(scene: Scene) -> None:
    scene.deposit(member(1), 100)
    scene.close({1: (member(1), (60, 0), (0, 0))}, rows=[DiffRow(1, None, (60, 0), (0, 0))])
    scene.pass_time(WINDOW_S)
    with pytest.raises(ExitError, match="DIFF_INVALID"):
        rebuild(scene.reader)


def test_a_repeated_owner_locks_nobody_out(scene: Scene) -> None:
    scene.deposit(member(1), 100)
    scene.close({1: (member(1), (60, 0), (0, 0))})
    scene.close({1: (member(1), (50, 0), (0, 0))}, rows=[DiffRow(1, member(1), (50, 0), (0, 0))])
    scene.pass_time(WINDOW_S)
    assert _rebuilt(scene.reader).leaves[1].exits == (50, 0)


# -- an endpoint that lies


@contextmanager
def _through(scene: Scene, alter: Alter) -> Iterator[VaultClient]:
    with lying_endpoint(scene.rpc.url, alter) as url, Rpc(url, attempts=2, pause_s=0.01) as rpc:
        yield VaultClient(rpc, scene.vault.address)


def _without_logs(event: str, keep: int = 0) -> Alter:
    def alter(method: str, params: list[Any], result: Any) -> Any:
        if method != "eth_getLogs" or params[0]["topics"][0] != TOPICS[event]:
            return result
        return result[:keep]

    return alter


def _without_second_chunk() -> Alter:
    """Hides the chunk that comes second, in scans and when it is asked for by its block."""
    seen: list[str] = []

    def alter(method: str, params: list[Any], result: Any) -> Any:
        if method != "eth_getLogs" or params[0]["topics"][0] != TOPICS["DiffPublished"]:
            return result
        seen.extend(log["topics"][1] for log in result if log["topics"][1] not in seen)
        return [log for log in result if log["topics"][1] not in seen[1:2]]

    return alter


def _flipping(event: str) -> Alter:
    """Changes one byte in the middle of an event's payload."""

    def alter(method: str, params: list[Any], result: Any) -> Any:
        if method == "eth_getLogs" and params[0]["topics"][0] == TOPICS[event]:
            for log in result:
                at = 2 + 2 * 80
                log["data"] = log["data"][:at] + f"{int(log['data'][at], 16) ^ 1:x}" + log["data"][at + 1 :]
        return result

    return alter


@pytest.mark.parametrize(
    ("alter", "code"),
    [
        (_without_logs("DiffPublished"), "DIFF_MISSING"),
        (_without_second_chunk(), "DIFF_MISSING"),
        (_without_logs("EpochPosted"), "HEADER_MISSING"),
        (_without_logs("EpochPosted", keep=1), "HEADER_MISSING"),
        (_flipping("DiffPublished"), "RPC_BAD_DATA"),
        (_flipping("EpochPosted"), "RPC_BAD_DATA"),
    ],
)
def test_withheld_and_altered_logs_are_named(posted: Scene, alter: Alter, code: str) -> None:
    with _through(posted, alter) as vault, pytest.raises((ExitError, ChainError)) as caught:
        rebuild(vault)
    assert caught.value.code == code


def test_one_chunk_missing_from_the_scan_is_fetched_by_its_hash(posted: Scene) -> None:
    """Log indexes lose single logs; the contract says in which block a chunk is."""

    def alter(method: str, params: list[Any], result: Any) -> Any:
        wide = method == "eth_getLogs" and params[0]["fromBlock"] != params[0]["toBlock"]
        return [] if wide and params[0]["topics"][0] == TOPICS["DiffPublished"] else result

    with _through(posted, alter) as vault:
        assert _rebuilt(vault).tree.root == posted.tree.root


def test_an_endpoint_without_old_transactions_still_serves_an_exit(posted: Scene) -> None:
    with _through(posted, lambda m, _, result: None if m == "eth_getTransactionByHash" else result) as vault:
        assert _rebuilt(vault).tree.root == posted.tree.root


def test_stray_chunks_of_strangers_change_nothing(scene: Scene) -> None:
    scene.vault.publish_diff(b"\x01\x02" + (2).to_bytes(8, "big") + b"garbage")
    _posted(scene)
    assert _rebuilt(scene.reader).tree.root == scene.tree.root


def test_no_endpoint_is_unreachable(posted: Scene) -> None:
    vault = VaultClient(Rpc("http://127.0.0.1:1", attempts=2, pause_s=0.01), posted.vault.address)
    with pytest.raises(ChainError, match="RPC_UNREACHABLE"):
        rebuild(vault)


def test_rebuilding_imports_nothing_of_the_operators_and_nothing_slow(posted: Scene) -> None:
    """Run as a process of its own, with a URL and an address; it prints the root."""
    program = (
        "import sys; from clearing.chain.rpc import Rpc; from clearing.chain.vault import VaultClient;"
        "from clearing.exit.rebuild import rebuild; import clearing.exit.run;"
        "found = rebuild(VaultClient(Rpc(sys.argv[1]), bytes.fromhex(sys.argv[2])));"
        "banned = ('journal', 'clearing.core', 'clearing.service', 'eth_account', 'eth_abi', 'web3', 'eth');"
        "loaded = [name for name in banned if name in sys.modules];"
        "sys.exit(f'loaded: {loaded}') if loaded else print(found.tree.root.hex())"
    )
    command = [sys.executable, "-c", program, posted.rpc.url, posted.vault.address.hex()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == posted.tree.root.hex()
