# SPDX-License-Identifier: GPL-3.0-or-later
"""The page against a real vault, by endpoints that are honest, late, dead or lying."""

import socket
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from clearing.chain.rpc import Rpc
from contracts import load
from contracts.abi import selector
from proofs import bundle as b
from proofs.header import Header
from proofs.verify import verify_bytes
from tests.browser.material import LOG_KEY, OWNER, Staged, of_scene, offline
from tests.browser.viewer import FOLDER, Shown, Viewer
from tests.exit.scene import WINDOW_S, member
from tests.nodes import start_node

pytestmark = pytest.mark.slow

# As the page knows the node; served to it by the test, with the header that lets pages ask.
HONEST, OTHER = "http://rpc.test/key", "http://other.test/"


class World:
    """A chain with a vault whose second epoch is posted and not final, and OWNER's bundle for both epochs."""

    def __init__(self, url: str, scene: Staged) -> None:
        self.url, self.scene = url, scene
        scene.deposit(OWNER, 10**9, 10**9)
        scene.close({1: (OWNER, (5 * 10**6, 7), (0, 0)), 0: (member(1), (10**6, 0), (0, 0))})
        self.first = of_scene(scene)
        scene.pass_time(WINDOW_S + 1)
        scene.close({1: (OWNER, (123_456_789, 7), (10**6, 0))})
        self.second = of_scene(scene)
        self.vault = "0x" + scene.vault.address.hex()

    def open_to(self, viewer: Viewer) -> None:
        viewer.answer(HONEST, self.url)
        viewer.answer(OTHER, self.url)


@pytest.fixture(scope="module")
def made() -> Iterator[World]:
    node = start_node()
    with Rpc(node.url) as rpc:
        address = Staged.deploy(rpc).vault.address
        scene = Staged.attach(rpc, address)
        assert isinstance(scene, Staged)
        yield World(node.url, scene)
    node.stop()


@pytest.fixture
def world(made: World) -> Iterator[World]:
    """As it was, after every test."""
    snapshot = made.scene.rpc.request("evm_snapshot")
    yield made
    assert made.scene.rpc.request("evm_revert", snapshot) is True


@pytest.fixture
def asking(viewer: Viewer, world: World) -> Viewer:
    world.open_to(viewer)
    return viewer


def assert_as_python(shown: Shown, data: bytes, world: World) -> None:
    """Name and status of every step, with the header's hash as the vault has it."""
    header = Header.decode(bytes.fromhex(b.decode(data).header))
    verdict = verify_bytes(data, header_hash=world.scene.vault.header_hash(header.epoch))
    assert [(name, status) for name, status, _ in shown.steps] == [(step.name, step.status) for step in verdict.steps]


def test_a_final_balance_is_good(asking: Viewer, world: World) -> None:
    """Vault, chain and trees agree: then, and only then, it is green; amounts in units of the asset, exactly."""
    world.scene.pass_time(WINDOW_S + 1)
    data = b.encode(world.second)
    shown = asking.balance(data, HONEST, world.vault, LOG_KEY)
    assert (shown.level, shown.code) == ("ok", ""), shown
    assert_as_python(shown, data, world)
    assert "123.456789" in shown.summary and "0.000007" in shown.summary and "T0" in shown.summary
    assert "final" in shown.summary


def test_a_node_as_people_run_it(viewer: Viewer, world: World) -> None:
    """No test between page and node: a page from disk may ask one itself, anvil and the embedded EVM alike."""
    shown = viewer.balance(b.encode(world.first), world.url, world.vault)
    assert (shown.level, shown.status("chain")) == ("ok", "ok"), shown
    assert any(url.startswith(world.url) for url in viewer.requested)


def test_what_is_not_known_is_not_green(asking: Viewer, world: World) -> None:
    """No endpoint, no vault named, not final yet: each keeps the verdict from being good, and says so."""
    data, final = b.encode(world.second), b.encode(world.first)
    for given, code in (((data, HONEST, world.vault), "NOT_FINAL"), ((final, HONEST, ""), "VAULT_NOT_GIVEN")):
        shown = asking.balance(*given)
        assert (shown.level, shown.code) == ("open", code)
        assert_as_python(shown, given[0], world)
    shown = asking.balance(final, "", world.vault)
    assert (shown.level, shown.code) == ("open", "CHAIN_NOT_ASKED")
    assert "not compared with the chain" in shown.headline


def test_a_later_epoch_is_mentioned(asking: Viewer, world: World) -> None:
    """An old bundle is right about then, and says that there is a newer epoch."""
    shown = asking.balance(b.encode(world.first), HONEST, world.vault)
    assert (shown.level, "later epochs, up to 2" in shown.summary) == ("ok", True)


def test_another_vault_than_mine(asking: Viewer, world: World) -> None:
    """However right the bundle is, of another vault it says nothing."""
    shown = asking.balance(b.encode(world.first), HONEST, "0x" + "12" * 20)
    assert (shown.level, shown.code, shown.status("chain")) == ("failed", "WRONG_VAULT", "ok")


def test_a_header_that_was_not_posted(asking: Viewer, world: World) -> None:
    """Fields that no tree covers are covered by the chain: another close time is another header."""
    header = Header.decode(bytes.fromhex(world.first.header))
    for change in ({"close_time_us": header.close_time_us + 1}, {"epoch": 9}, {"epoch": 2}):
        altered = msgspec.structs.replace(header, **change)
        data = b.encode(msgspec.structs.replace(world.first, header=altered.encode().hex()))
        assert verify_bytes(data).ok, "offline nobody can tell"
        shown = asking.balance(data, HONEST, world.vault)
        assert (shown.level, shown.code, shown.status("chain")) == ("failed", "PROOF_INVALID", "failed")
        assert_as_python(shown, data, world)
        assert ("never posted" in shown.said("chain")) == (altered.epoch == 9)


def test_frozen_vaults(asking: Viewer, world: World) -> None:
    """After a freeze the last final epoch pays; later ones are void."""
    world.scene.rpc.request("evm_increaseTime", 1)
    scene = world.scene
    scene.pass_time(WINDOW_S + 1)
    scene.pass_time(3_600)
    scene.stranger().freeze()
    pays = asking.balance(b.encode(world.second), HONEST, world.vault)
    assert (pays.level, "from which everyone is paid" in pays.summary) == ("ok", True)
    older = asking.balance(b.encode(world.first), HONEST, world.vault)
    assert (older.level, older.code) == ("open", "FROZEN_OLDER")
    # A vault that froze before its last header was final: the endpoint says so of this one.
    asking.answer("http://void.test/", world.url, lambda _m, p, r: number(1) if called(p, "escapeEpoch") else r)
    void = asking.balance(b.encode(world.second), "http://void.test/", world.vault)
    assert (void.level, void.code) == ("open", "FROZEN_VOID")


def called(params: list[Any], name: str) -> bool:
    """Whether the request calls this view of the vault."""
    given = params[0].get("data", "") if params and isinstance(params[0], dict) else ""
    return bool(given.startswith("0x" + selector(load("Vault"), name).hex()))


def number(value: int) -> str:
    return "0x" + value.to_bytes(32, "big").hex()


def test_endpoints_that_fail_or_lie(asking: Viewer, world: World) -> None:
    """None of it is evidence against the proof, and none lets it pass: not checked, with a code."""
    data = b.encode(world.first)
    flip = lambda _m, p, r: number(7) if called(p, "headerHash") else r  # noqa: E731
    asking.answer("http://liar.test/", world.url, flip)
    asking.answer("http://chain.test/", world.url, lambda m, _p, r: "0x1" if m == "eth_chainId" else r)
    asking.answer("http://short.test/", world.url, lambda m, _p, r: r[:20] if m == "eth_call" else r)
    asking.answer("http://empty.test/", world.url, lambda m, _p, r: "0x" if m == "eth_call" else r)
    asking.answer("http://blocks.test/", world.url, lambda m, _p, r: None if m == "eth_getBlockByNumber" else r)
    asking.answer("http://words.test/", world.url, lambda m, _p, r: {"a": 1} if m == "eth_chainId" else r)
    asking.reply("http://html.test/", "<html>Too many requests</html>", 429)
    asking.reply("http://huge.test/", "1" * 5_000_000)
    asking.reply("http://null.test/", "null")
    asking.reply("http://no.test/", '{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"<img src=x>\\u202e no"}}')
    cases = [
        (f"{HONEST}, http://liar.test/", "RPC_DISAGREE"), ("http://chain.test/", "WRONG_CHAIN"),
        ("http://short.test/", "RPC_MALFORMED"), ("http://empty.test/", "NO_VAULT"),
        ("http://blocks.test/", "RPC_MALFORMED"), ("http://words.test/", "RPC_MALFORMED"),
        ("http://html.test/", "RPC_MALFORMED"), ("http://huge.test/", "RPC_MALFORMED"),
        ("http://null.test/", "RPC_MALFORMED"), ("http://no.test/", "RPC_REFUSED"),
        (f"{HONEST},http://html.test/", "RPC_MALFORMED"),
    ]  # fmt: skip
    asking.expected_trouble = "the server responded with a status of 429"
    for endpoints, code in cases:
        shown = asking.balance(data, endpoints, world.vault)
        assert (shown.level, shown.code, shown.status("chain")) == ("open", code, "skipped"), endpoints
        assert shown.status("exit") == "ok"
    alone = asking.balance(data, "http://liar.test/", world.vault)
    assert (alone.level, alone.code) == ("failed", "PROOF_INVALID")
    agreeing = asking.balance(data, f"{HONEST} , {OTHER}", world.vault)
    assert (agreeing.level, "rpc.test and other.test" in agreeing.said("chain")) == ("ok", True)
    assert "key" not in agreeing.said("chain"), "an endpoint's path may be a secret"


def test_an_endpoint_that_is_behind(asking: Viewer, world: World) -> None:
    """One that is behind the others is named; one whose newest block is old keeps the verdict open."""
    data, rpc = b.encode(world.first), world.scene.rpc
    old = rpc.request("eth_getBlockByNumber", "0x1", False)
    asking.answer(
        "http://late.test/", world.url, lambda m, p, r: old if m == "eth_getBlockByNumber" and p[0] == "latest" else r
    )
    rpc.request("evm_increaseTime", 600)
    rpc.request("evm_mine")
    shown = asking.balance(data, f"{HONEST},http://late.test/", world.vault)
    assert (shown.level, shown.code) == ("open", "RPC_LAGS")
    assert "late.test is behind" in shown.said("chain")

    def aged(method: str, _params: list[Any], result: Any) -> Any:
        return {**result, "timestamp": "0x5f5e1000"} if method == "eth_getBlockByNumber" else result

    asking.answer("http://aged.test/", world.url, aged)
    shown = asking.balance(data, "http://aged.test/", world.vault)
    assert (shown.level, shown.code, shown.status("chain")) == ("open", "RPC_BEHIND", "ok")


def test_an_endpoint_that_is_not_there(viewer: Viewer, world: World) -> None:
    """A dead one is named, and the rest of the proof is checked all the same."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{probe.getsockname()[1]}"
        viewer.expected_trouble = "net::ERR_CONNECTION_REFUSED"
        shown = viewer.balance(b.encode(world.first), dead, world.vault)
    assert (shown.level, shown.code, shown.status("entry 0")) == ("open", "RPC_UNREACHABLE", "ok")


def test_a_vault_without_a_contract(asking: Viewer, world: World) -> None:
    """A bundle of a vault that is not there."""
    data = b.encode(offline(chain=world.scene.rpc.chain_id()))
    assert asking.balance(data, HONEST).code == "NO_VAULT"


def test_what_is_no_endpoint(viewer: Viewer) -> None:
    """Refused before anything is asked; the field is marked."""
    many = ",".join(f"http://r{number}" for number in range(6))
    for text in ("ftp://rpc.test", "rpc.test", "javascript:alert(1)", "http://u:p@rpc.test", "http://a,http://a", many):
        shown = viewer.balance(b.encode(offline()), text)
        assert shown.code == "RPC_URL"
        assert viewer.page.get_attribute("#rpc", "aria-invalid") == "true"
    assert not [url for url in viewer.requested if url.startswith("http")]


def test_a_hostile_asset(asking: Viewer, world: World) -> None:
    """What a token says of itself is shown as text, bounded, or not at all."""
    symbol = (
        "0x"
        + (32).to_bytes(32, "big").hex()
        + (40).to_bytes(32, "big").hex()
        + ("<img src=x onerror=alert(1)>" * 2)[:32].encode().hex()
    )
    told = {"0x95d89b41": symbol, "0x313ce567": number(18)}
    asking.answer(
        "http://odd.test/", world.url, lambda m, p, r: told.get(p[0].get("data", ""), r) if m == "eth_call" else r
    )
    shown = asking.balance(b.encode(world.first), "http://odd.test/", world.vault)
    assert "<img src=x onerr" in shown.summary and "0.000000000005000000" in shown.summary
    told |= {"0x95d89b41": "0x12", "0x313ce567": number(2**255)}
    shown = asking.balance(b.encode(world.first), "http://odd.test/", world.vault)
    assert (shown.level, "5,000,000 atoms" in shown.summary) == ("ok", True)
    assert asking.page.locator("img").count() == 0


def test_selectors_are_the_contracts(viewer: Viewer) -> None:
    """The hand-laid calldata is of the compiled vault and of a token."""
    known = viewer.page.evaluate("Novate.SELECTORS")
    found = {}
    for signature in known:
        name = signature.partition("(")[0]
        artifact = load("TestToken" if name in ("decimals", "symbol") else "Vault")
        entry = next(one for one in artifact.abi if one.get("name") == name and one["type"] == "function")
        assert signature == f"{name}({','.join(one['type'] for one in entry['inputs'])})"
        found[signature] = selector(artifact, name).hex()
    assert known == found
    assert (FOLDER / "index.html").is_file()
