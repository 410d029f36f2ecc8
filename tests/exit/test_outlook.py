# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told: how the vault stands, what to do next and when; and assets by names that tokens cannot abuse."""

import pytest

from clearing.chain.rpc import Rpc
from clearing.exit.assets import Asset, read_assets, shown
from clearing.exit.estimate import ether
from clearing.exit.outlook import Advice, Outlook, advise, duration, read_outlook
from clearing.exit.plan import read_vault, status
from clearing.exit.rebuild import rebuild
from clearing.exit.run import run
from tests.exit.proxy import lying_endpoint
from tests.exit.scene import HOUSE, WINDOW_S, Scene, member, wallet_of

ATTESTORS = [wallet_of(number) for number in (5, 6, 7)]


def _told(scene: Scene, owner: bytes) -> tuple[Outlook, Advice]:
    proofs = rebuild(scene.reader)
    state = read_vault(scene.reader, proofs)
    outlook = read_outlook(scene.reader, state)
    return outlook, advise(status(scene.reader, proofs, owner, state), outlook, read_assets(scene.reader))


def test_each_stage_says_what_to_do_and_when(scene: Scene) -> None:
    """Posted, final with something to claim, final without, overdue, frozen, done; following each advice's time
    leads to the next stage."""
    scene.deposit(member(1), 100)
    scene.close({1: (member(1), (90, 0), (10, 0))})
    outlook, advice = _told(scene, member(1))
    assert [row.epoch for row in outlook.pending] == [1] and not outlook.final_epoch
    assert advice.at_s == scene.vault.final_at(1) and "come back after that" in advice.text
    scene.pass_time(advice.at_s - scene.rpc.time_s())
    outlook, advice = _told(scene, member(1))
    assert outlook.final_epoch == 1 and "0.00001 T0 can be paid now" in advice.text
    run(scene.stranger(), member(1))
    _, advice = _told(scene, member(1))
    assert "novate force exit" in advice.text and advice.at_s == scene.vault.freeze_at_s()
    _, idle = _told(scene, member(9))
    assert "nothing is owed here" in idle.text and idle.at_s is None
    scene.pass_time(advice.at_s - scene.rpc.time_s() + 1)
    outlook, advice = _told(scene, member(1))
    assert "the deadline has passed: the vault can be frozen now" in outlook.lines()
    assert "the operator is overdue" in advice.text
    scene.client(4).freeze()
    outlook, advice = _told(scene, member(1))
    assert "(deadline); epoch 1 pays" in outlook.lines()[0] and "0.00009 T0 can be paid now" in advice.text
    run(scene.stranger(), member(1))
    assert "nothing is left" in _told(scene, member(1))[1].text


def test_a_veto_is_told_with_its_end_and_with_what_it_ends_in(scene: Scene) -> None:
    """While it stands it says until when; upheld, the vault is frozen at the epoch before it."""
    place = Scene.deploy(scene.rpc, tokens=scene.vault.tokens(), attestors=ATTESTORS, beside=scene.vault.address)
    first, second = (place.client(number) for number in (5, 6))
    place.deposit(member(1), 100)
    place.close({1: (member(1), (100, 0), (0, 0))})
    place.pass_time(WINDOW_S)
    robbery = place.close({0: (HOUSE, (100, 0), (0, 0)), 1: (member(1), (0, 0), (0, 0))})
    first.veto(2, robbery.hash(), bytes(32))
    outlook, advice = _told(place, member(1))
    (row,) = outlook.pending
    assert (row.epoch, row.vetoed_by, row.objectors) == (2, ATTESTORS[0].address, 1)
    assert row.final_at_s == place.vault.final_at(2) == advice.at_s and "held by a veto" in advice.text
    assert any("unless the veto of 0x" in line for line in outlook.lines())
    second.second(2, robbery.hash())
    outlook, advice = _told(place, member(1))
    assert (outlook.frozen, outlook.freeze_reason, outlook.final_epoch, outlook.pending) == (True, "veto", 1, ())
    assert run(place.stranger(), member(1)).paid == [100, 0]


# -- assets


def test_amounts_are_exact_in_the_tokens_own_units() -> None:
    dollar, none = Asset(0, b"", "USD", 6), Asset(1, b"", "asset 1", None)
    whole = Asset(2, b"", "NFT", 0)
    assert [dollar.text(x) for x in (0, 1, 1_500_000, 10**12)] == ["0 USD", "0.000001 USD", "1.5 USD", "1,000,000 USD"]
    assert (none.text(1_234), whole.text(7)) == ("1,234 atoms of asset 1", "7 NFT")
    assert shown([dollar, none], (0, 5)) == "5 atoms of asset 1"
    assert shown([dollar, none], (0, 0)) == "0 USD"


@pytest.mark.parametrize(
    ("symbol", "decimals", "wanted"),
    [
        (b"\x1b[2J", 6, ("asset 0", 6)),
        (b"A" * 90, 18, ("A" * 12, 18)),
        (b"US D", 6, ("asset 0", 6)),
        ("UЅD".encode(), 6, ("asset 0", 6)),
        (b"", 200, ("asset 0", None)),
        (None, None, ("asset 0", None)),
    ],
)
def test_a_token_that_says_strange_things_of_itself_is_shown_plainly(
    scene: Scene, symbol: bytes | None, decimals: int | None, wanted: tuple[str, int | None]
) -> None:
    """Control characters, look-alikes, endless names, absurd decimals, or no answer at all."""
    from clearing.chain.abi import interface

    selectors = {"0x" + interface("TestToken").call(name).hex(): name for name in ("symbol", "decimals")}

    def alter(method: str, params: list[object], result: object) -> object:
        call = params[0] if method == "eth_call" else None
        name = selectors.get(str(call.get("data"))) if isinstance(call, dict) else None
        if name == "symbol":
            text = b"" if symbol is None else symbol
            body = (32).to_bytes(32, "big") + len(text).to_bytes(32, "big") + text + bytes(-len(text) % 32)
            return "0x" if symbol is None else "0x" + body.hex()
        if name == "decimals":
            return "0x" if decimals is None else "0x" + decimals.to_bytes(32, "big").hex()
        return result

    with lying_endpoint(scene.rpc.url, alter) as url, Rpc(url) as rpc:
        first, second = read_assets(type(scene.reader)(rpc, scene.vault.address))
    assert (first.symbol, first.decimals) == wanted
    assert second.symbol != first.symbol, "two assets are never called alike"


def test_words_for_time_and_ether() -> None:
    assert duration(3_725) == "1 h 2 min 5 s" and duration(-5) == "0 h 0 min 0 s"
    assert ether(1_234_567 * 10**12) == "1.234567 ETH" and ether(12 * 10**9) == "0.0000000120 ETH"
