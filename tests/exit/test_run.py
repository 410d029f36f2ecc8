# SPDX-License-Identifier: GPL-3.0-or-later
"""Leaving: everyone is paid exactly what is theirs, nothing is left, and an interrupted exit goes on."""

from typing import Any

import pytest

from clearing.chain.abi import interface
from clearing.chain.deploy import deploy, mint
from clearing.chain.errors import ChainError
from clearing.chain.fees import SendPolicy
from clearing.chain.rpc import Rpc
from clearing.chain.transact import Sender
from clearing.chain.vault import VaultClient
from clearing.chain.wallet import Wallet
from clearing.exit.errors import ExitError
from clearing.exit.estimate import cost, dry_run, price
from clearing.exit.plan import Kind, plan, status
from clearing.exit.rebuild import rebuild
from clearing.exit.run import Event, exit_all, run
from tests.exit.proxy import Down, lying_endpoint
from tests.exit.scene import DEADLINE_S, HOUSE, WINDOW_S, Leaves, Scene, member


class Interrupted(Exception):
    """The user pressed Ctrl-C."""


def _live(scene: Scene) -> None:
    """Members 1 and 2 and the house in a final epoch; member 3's and one more deposit unconsumed."""
    scene.deposit(member(1), 1_000, 50)
    scene.deposit(member(2), 500)
    leaves: Leaves = {
        0: (HOUSE, (10, 0), (0, 0)),
        1: (member(1), (900, 30), (90, 20)),
        2: (member(2), (500, 0), (0, 0)),
    }
    scene.close(leaves)
    scene.deposit(member(3), 77, 3)
    scene.deposit(member(1), 5)
    scene.pass_time(WINDOW_S)


PAID = {HOUSE: [10, 0], member(1): [995, 50], member(2): [500, 0], member(3): [77, 3]}


def _kinds(vault: VaultClient, owner: bytes) -> list[Kind]:
    return [step.kind for step in plan(vault, rebuild(vault), owner)]


# -- the whole way out


def test_after_the_deadline_everyone_leaves_and_exactly_zero_remains(scene: Scene) -> None:
    _live(scene)
    scene.pass_time(DEADLINE_S)
    report = exit_all(scene.stranger())
    assert report.complete
    kinds = [event.step.kind for event in report.done]
    assert kinds[0] == Kind.FREEZE
    assert sorted(kinds[1:]) == [Kind.ESCAPE] * 3 + [Kind.REFUND] * 3
    assert scene.holdings() == [0, 0]
    assert scene.balances(scene.vault.address) == [0, 0]
    assert {owner: scene.balances(owner) for owner in PAID} == PAID
    assert report.paid == [sum(column) for column in zip(*PAID.values(), strict=True)]
    assert exit_all(scene.stranger()).done == []


def test_without_any_header_every_deposit_is_refunded(scene: Scene) -> None:
    scene.deposit(member(1), 40, 2)
    scene.deposit(member(2), 2)
    scene.pass_time(DEADLINE_S)
    assert exit_all(scene.stranger()).complete
    assert (scene.balances(member(1)), scene.balances(member(2))) == ([40, 2], [2, 0])
    assert scene.holdings() == [0, 0]


def test_a_header_whose_window_is_open_at_the_freeze_is_void(scene: Scene) -> None:
    """The operator ignores an old deposit and robs member 1 at the last moment, in vain."""
    scene.deposit(member(1), 100)
    scene.close({1: (member(1), (100, 0), (0, 0))})
    scene.deposit(member(2), 20)
    scene.pass_time(DEADLINE_S - 20)
    scene.close({0: (HOUSE, (100, 0), (0, 0)), 1: (member(1), (0, 0), (0, 0))}, consumed=1)
    scene.pass_time(40)
    report = exit_all(scene.stranger())
    assert report.complete
    assert scene.vault.escape_epoch() == 1
    assert (scene.balances(member(1)), scene.balances(member(2)), scene.balances(HOUSE)) == (
        [100, 0],
        [20, 0],
        [0, 0],
    )
    assert scene.holdings() == [0, 0]


# -- one owner


def test_an_acknowledged_withdrawal_is_claimed_while_live_and_once(scene: Scene) -> None:
    _live(scene)
    assert _kinds(scene.reader, member(1)) == [Kind.CLAIM]
    report = run(scene.stranger(), member(1))
    assert (report.paid, scene.balances(member(1))) == ([90, 20], [90, 20])
    assert report.gas_used == sum(event.gas for event in report.done) > 0
    assert _kinds(scene.reader, member(1)) == []
    assert run(scene.stranger(), member(1)).done == []


def test_what_was_claimed_while_live_is_not_paid_again_by_the_escape(scene: Scene) -> None:
    _live(scene)
    run(scene.stranger(), member(1))
    scene.pass_time(DEADLINE_S)
    assert run(scene.stranger(), member(1)).paid == [905, 30]
    assert scene.balances(member(1)) == PAID[member(1)]


def test_status_tells_what_is_owed_and_how_long_the_operator_has(scene: Scene) -> None:
    _live(scene)
    tree = rebuild(scene.reader)
    now = status(scene.reader, tree, member(1))
    assert (now.index, now.epoch, now.frozen, now.escaped) == (1, 1, False, False)
    assert (now.owed, now.claimable, now.refundable, now.claimed) == ((990, 50), (90, 20), (5, 0), (0, 0))
    assert 0 < now.seconds_to_freeze == now.freeze_at_s - now.chain_time_s <= DEADLINE_S - WINDOW_S
    scene.pass_time(DEADLINE_S)
    assert status(scene.reader, tree, member(1)).seconds_to_freeze == 0
    run(scene.stranger(), member(1))
    then = status(scene.reader, rebuild(scene.reader), member(1))
    assert (then.frozen, then.escaped, then.owed, then.refundable) == (True, True, (0, 0), (0, 0))
    assert then.claimed == (990, 50)
    assert scene.last is not None and then.escape_header == scene.last.hash()


def test_a_stranger_is_owed_nothing_and_does_not_freeze(scene: Scene) -> None:
    _live(scene)
    scene.pass_time(DEADLINE_S)
    assert status(scene.reader, rebuild(scene.reader), member(9)).index is None
    assert run(scene.stranger(), member(9)).done == []
    assert not scene.vault.frozen()


def test_a_plan_is_estimated_without_a_key_and_sends_nothing(scene: Scene) -> None:
    _live(scene)
    scene.pass_time(DEADLINE_S)
    vault, head = scene.reader, scene.rpc.block_number()
    tree = rebuild(vault)
    before = dry_run(vault, plan(vault, tree, member(1)))
    assert [(e.step.kind, e.gas is None) for e in before] == [
        (Kind.FREEZE, False),
        (Kind.ESCAPE, True),
        (Kind.REFUND, True),
    ]
    assert scene.rpc.block_number() == head
    scene.stranger().freeze()
    after = dry_run(vault, plan(vault, tree, member(1)))
    assert [e.step.kind for e in after] == [Kind.ESCAPE, Kind.REFUND]
    assert all(e.gas is not None and e.used < e.gas < 1_000_000 for e in after)
    at = price(vault)
    told = cost(after, at)
    assert told.used == sum(e.used for e in after)
    assert (told.likely_wei, told.most_wei) == (
        told.used * at.likely_wei,
        sum(e.gas or 0 for e in after) * at.most_wei,
    )
    report = run(scene.stranger(), member(1))
    assert [event.gas <= e.used for event, e in zip(report.done, after, strict=True)] == [True, True]


def test_an_exit_without_a_key_is_named_before_anything_is_read(scene: Scene) -> None:
    with pytest.raises(ChainError, match="KEY_FILE"):
        run(VaultClient(Rpc("http://127.0.0.1:1"), scene.vault.address), member(1))


def test_a_key_without_ether_is_refused_and_named(scene: Scene) -> None:
    _live(scene)
    poor = VaultClient(scene.rpc, scene.vault.address, Wallet(b"\x09" * 32))
    with pytest.raises(ExitError, match="NO_FEE_MONEY"):
        run(poor, member(1))
    assert scene.balances(member(1)) == [0, 0]


def test_a_fee_above_the_ceiling_is_not_paid_and_says_what_to_do(scene: Scene) -> None:
    _live(scene)
    policy = SendPolicy(max_fee_wei=1)
    thrifty = VaultClient(scene.rpc, scene.vault.address, scene.stranger().wallet, policy=policy)
    with pytest.raises(ChainError, match=r"FEE_TOO_HIGH.*--max-fee"):
        run(thrifty, member(1))
    assert scene.balances(member(1)) == [0, 0]


# -- interruptions


@pytest.mark.parametrize("after", [3, *(pytest.param(n, marks=pytest.mark.slow) for n in (0, 1, 2, 4, 5, 6))])
def test_an_interrupted_exit_goes_on_where_it_ended(scene: Scene, after: int) -> None:
    """Stopped after any number of steps, a new run from nothing but the chain completes it."""
    _live(scene)
    scene.pass_time(DEADLINE_S)
    done = 0

    def listener(event: Event) -> None:
        nonlocal done
        if event.state == "start" and done == after:
            raise Interrupted
        done += event.state == "done"

    with pytest.raises(Interrupted):
        exit_all(scene.stranger(), listener, in_flight=1)
    assert exit_all(scene.stranger()).complete
    assert {owner: scene.balances(owner) for owner in PAID} == PAID
    assert scene.holdings() == [0, 0]


def test_a_step_that_somebody_else_did_meanwhile_is_skipped(scene: Scene) -> None:
    _live(scene)
    scene.pass_time(DEADLINE_S)
    states = []

    def listener(event: Event) -> None:
        states.append((event.step.kind, event.state))
        if event.state == "start":
            scene.vault.send(event.step.function, *event.step.arguments)

    report = run(scene.stranger(), member(1), listener)
    assert report.complete and not report.done
    assert [event.step.kind for event in report.skipped] == [Kind.FREEZE, Kind.ESCAPE, Kind.REFUND]
    assert scene.balances(member(1)) == PAID[member(1)]


def test_an_endpoint_lost_midway_stops_the_run_and_the_next_one_finishes_it(scene: Scene) -> None:
    _live(scene)
    scene.pass_time(DEADLINE_S)
    sent = 0

    def alter(method: str, params: list[Any], result: Any) -> Any:
        nonlocal sent
        sent += method == "eth_sendRawTransaction"
        if sent >= 3:
            raise Down  # the third transaction is mined and its answer is lost
        return result

    with lying_endpoint(scene.rpc.url, alter) as url, Rpc(url, attempts=2, pause_s=0.01) as rpc:
        vault = VaultClient(rpc, scene.vault.address, scene.stranger().wallet, timeout_s=0.2)
        with pytest.raises(ChainError, match="RPC_UNREACHABLE"):
            exit_all(vault)
    assert exit_all(scene.stranger()).complete
    assert {owner: scene.balances(owner) for owner in PAID} == PAID
    assert scene.holdings() == [0, 0]


# -- a token that refuses


def test_a_refusing_token_leaves_credit_that_a_later_run_pays(scene: Scene) -> None:
    """The listed member's payment waits as credit and holds nobody up; unlisted, a run pays it."""
    token = deploy(scene.rpc, scene.wallet, "BlockingToken").contract
    blocked = Scene.deploy(scene.rpc, lanes=1, tokens=[token], beside=scene.vault.address)
    blocked.deposit(member(1), 100)
    blocked.deposit(member(2), 30)
    blocked.close({1: (member(1), (100,), (0,)), 2: (member(2), (30,), (0,))})
    blocked.pass_time(DEADLINE_S)
    known = interface("BlockingToken")
    sender = Sender(scene.rpc, scene.wallet, [known])
    sender.send(token, known.call("list", member(1), True))
    report = exit_all(blocked.stranger())
    assert (report.paid, report.credited) == ([30], [100])
    assert blocked.vault.credit(member(1), 0) == 100
    again = run(blocked.stranger(), member(1))
    assert not again.complete
    assert "Listed" in again.failed[0].message or "unknown error" in again.failed[0].message
    sender.send(token, known.call("list", member(1), False))
    assert run(blocked.stranger(), member(1)).paid == [100]
    assert (blocked.balances(member(1)), blocked.balances(member(2))) == ([100], [30])
    assert blocked.balances(blocked.vault.address) == [0]


@pytest.mark.slow
def test_donations_stay_out_of_the_accounting(scene: Scene) -> None:
    _live(scene)
    mint(scene.rpc, scene.wallet, scene.vault.tokens()[0], scene.vault.address, 1_000_000)
    scene.pass_time(DEADLINE_S)
    assert exit_all(scene.stranger()).complete
    assert {owner: scene.balances(owner) for owner in PAID} == PAID
    assert scene.holdings() == [0, 0]
