# SPDX-License-Identifier: GPL-3.0-or-later
"""Fees follow the freeze deadline, on a real node with a real pool (anvil), and what an epoch costs is known.

Rule: time is the chain's, moved by the test; where a transaction waits in the pool, it is the machine's, moved too.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from clearing.chain.errors import ChainError
from clearing.chain.fees import GWEI
from clearing.service.config import VaultConfig
from clearing.service.node import Node
from clearing.service.ops.figures import Money
from tests.chain.nodes import Anvil, free_port
from tests.service.chains import DEADLINE_S, Deployed, deploy_venue

CEILING_GWEI = 5


@pytest.fixture
def anvil() -> Iterator[Anvil]:
    running = Anvil(free_port(), ("--chain-id", "31337")).start()
    yield running
    running.stop()


@pytest.fixture
def venue(anvil: Anvil, tmp_path: Path) -> Iterator[Deployed]:
    found = deploy_venue(tmp_path / "venue", [anvil])
    yield found
    found.rpc.close()


def node_of(venue: Deployed) -> Node:
    """An operator who pays at most CEILING_GWEI while there is time."""
    return venue.node(vaults=(VaultConfig((venue.rpc.url,), 0, 1, CEILING_GWEI),))


def to_deadline(venue: Deployed, anvil: Anvil, share: float, base_gwei: int) -> None:
    """Move the chain to where `share` of the deadline is used up, at a base fee."""
    left = venue.vault.freeze_at_s() - venue.rpc.time_s()
    anvil.request("evm_increaseTime", int(left - DEADLINE_S * (1 - share)))
    anvil.mine()
    anvil.next_base_fee(base_gwei * GWEI)


def bids(anvil: Anvil) -> list[tuple[int, int]]:
    """(cap, tip) in wei per gas of every waiting transaction."""
    pool = anvil.request("txpool_content")["pending"]
    found = [row for rows in pool.values() for row in rows.values()]
    return [(int(row["maxFeePerGas"], 16), int(row["maxPriorityFeePerGas"], 16)) for row in found]


def test_a_price_above_the_ceiling_is_waited_out_until_the_deadline_nears(venue: Deployed, anvil: Anvil) -> None:
    """At 20 gwei nothing is posted for the first half of the time, as the operator chose; towards its end the ceiling
    rises to ten times the choice, and the header goes out before anyone can freeze."""
    node = node_of(venue)
    try:
        poster = node.poster.vaults[0]
        anvil.next_base_fee(20 * GWEI)
        with pytest.raises(ChainError, match="FEE_TOO_HIGH"):
            node.poster.turn()
        to_deadline(venue, anvil, 0.45, 20)
        with pytest.raises(ChainError, match="FEE_TOO_HIGH"):
            node.poster.post_missing()
        assert poster.urgency == 0.0 and venue.vault.epoch_count() == 0
        to_deadline(venue, anvil, 0.90, 20)
        node.poster.post_missing()
        assert venue.vault.epoch_count() == 1 and not venue.vault.frozen()
        node.poster.post_missing()
        assert poster.urgency == 0.0, "a header was posted: the time begins anew"
        assert poster.seconds_left is not None and poster.seconds_left > DEADLINE_S * 0.9
    finally:
        node.close()


@pytest.mark.slow
def test_what_waits_in_the_pool_is_bid_for_at_the_urgency_of_the_moment(venue: Deployed, anvil: Anvil) -> None:
    """A header that was sent without hurry and is not mined: as the deadline nears, its replacements carry the urgent
    tip, although nobody sends it again. It is mined once."""
    node = node_of(venue)
    try:
        poster = node.poster.vaults[0]
        client = poster.link.require()
        client._policy = replace(client._policy, replace_after_s=0.3, replace_after_blocks=10_000)
        node.poster._post_missing()
        anvil.request("evm_setAutomine", False)
        thread = threading.Thread(target=node.poster.turn, daemon=True)
        thread.start()
        first = _wait_for_bids(anvil, 0)
        _wait_for_bids(anvil, first[1])
        calm = bids(anvil)[0]
        clock, moved = time.monotonic, DEADLINE_S * 0.999
        poster.hurry._clock_s = lambda: clock() + moved
        assert poster.urgency > 0.95
        hurried = _wait_for_bids(anvil, calm[1] * 4)
        assert hurried[1] > calm[1] * 4, "by 12.5 % a step it would have taken a dozen replacements"
        anvil.request("evm_setAutomine", True)
        anvil.mine()
        thread.join(20)
        assert not thread.is_alive() and venue.vault.epoch_count() == 1
    finally:
        node.close()


def _wait_for_bids(anvil: Anvil, above_tip_wei: int) -> tuple[int, int]:
    """The first waiting bid with a higher tip than this."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        found = bids(anvil)
        if found and found[0][1] > above_tip_wei:
            return found[0]
        time.sleep(0.02)
    raise AssertionError(f"no bid above {above_tip_wei}: {bids(anvil)}")


def test_the_clock_runs_on_while_the_chain_is_silent(venue: Deployed, anvil: Anvil) -> None:
    """The last answer, less the time since: an operator is not told that all is well by a figure that stands still."""
    node = node_of(venue)
    try:
        node.poster.post_missing()
        hurry = node.poster.vaults[0].hurry
        before = hurry.seconds_left
        assert before is not None and DEADLINE_S - 60 < before <= DEADLINE_S
        anvil.stop()
        clock = hurry._clock_s
        hurry._clock_s = lambda: clock() + DEADLINE_S * 0.75
        left = hurry.seconds_left
        assert left is not None and left < before * 0.26
        assert hurry.urgency() == pytest.approx(0.5, abs=0.05)
        assert hurry.age_s is not None and hurry.age_s > DEADLINE_S * 0.74
        names = {(a.name, a.severity) for a in node.watch.judge(node.watch.gauges.read())} if node.watch else set()
        assert ("NovateFreezeNear", "critical") in names and ("NovateChainSilent", "warning") in names
    finally:
        node.close()


def test_epochs_of_gas_left_are_what_the_balance_pays_for(venue: Deployed) -> None:
    """Every wei that left the operator's address was the cost of an epoch; a restarted operator asks the chain."""
    node = venue.node()
    try:
        money, address = Money(node.poster.vaults[0].link, node.poster.vaults[0]), node.genesis.operator_address
        money.look()
        assert (money.balance_wei, money.epochs_left) == (10**18, None)
        for _ in range(3):
            node.poster.turn()
        money.look()
        costs = list(node.poster.vaults[0].costs_wei)
        assert len(costs) == 3 and sum(costs) == 10**18 - venue.rpc.balance(address)
        assert money.epochs_left == venue.rpc.balance(address) // (sum(costs) // 3)
    finally:
        node.close()
    again = venue.node()
    try:
        money = Money(again.poster.vaults[0].link, again.poster.vaults[0])
        money.look()
        assert money.epoch_cost_wei is not None and 0 < money.epoch_cost_wei <= costs[-1]
        assert again.poster.turn().epoch == 4
        assert money.epoch_cost_wei == again.poster.vaults[0].costs_wei[0]
    finally:
        again.close()
