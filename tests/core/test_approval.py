# SPDX-License-Identifier: GPL-3.0-or-later
"""What only the governor may decide: parameters and the house's money, by a hash from the inbox, once."""

from __future__ import annotations

import msgspec
import pytest

from clearing.core.governance import MAX_APPROVALS
from clearing.core.reducer import Reducer
from clearing.model import commands as c
from clearing.model import ids
from clearing.model.actions import action_hash
from clearing.model.outcomes import GovernanceApproved, InboxIgnored, Outcome, ParamsProposed, WithdrawalAcked
from tests.core import venue as v

GOVERNOR = b"g" * 20


def governed() -> v.Venue:
    """A venue whose vault names a governor."""
    venue = v.Venue()
    vault = msgspec.structs.replace(venue.genesis.vaults[0], governor=GOVERNOR)
    again = v.Venue(chosen=msgspec.structs.replace(venue.genesis, vaults=(vault,)))
    again.oracle({v.BTC: 50 * v.USD})
    return again


def send(venue: v.Venue, action: bytes, owner: bytes = GOVERNOR) -> list[Outcome]:
    index = venue.state.vaults[0].inbox_count
    return venue.operator(c.ConsumeInbox(0, index, ids.INBOX_GOVERNANCE, owner, 0, 0, 1, action))


def proposal(venue: v.Venue, taker_ppm: int = 900) -> c.ProposeParams:
    state = venue.state
    tiers = state.params.fee_tiers
    changed = (msgspec.structs.replace(tiers[0], taker_ppm=taker_ppm), *tiers[1:])
    new = msgspec.structs.replace(state.params, version=state.params.version + 1, fee_tiers=changed)
    return c.ProposeParams(new, state.time_us + state.params.notice_us + ids.DAY_US)


def test_parameters_need_an_approval_and_use_it_up() -> None:
    """Unapproved, approved, and the same once more: refused, taken, refused."""
    venue = governed()
    command = proposal(venue)
    assert v.codes(venue.operator(command)) == ["NOT_APPROVED"]
    assert any(isinstance(o, GovernanceApproved) for o in send(venue, action_hash(command)))
    assert any(isinstance(o, ParamsProposed) for o in venue.operator(command))
    assert v.codes(venue.operator(command)) == ["NOT_APPROVED"]


def test_an_approval_covers_one_set_alone() -> None:
    """Another figure is another hash; when it takes force is not part of it, and the notice still holds."""
    venue = governed()
    command = proposal(venue)
    send(venue, action_hash(command))
    assert v.codes(venue.operator(proposal(venue, 901))) == ["NOT_APPROVED"]
    early = msgspec.structs.replace(command, effective_us=venue.state.time_us)
    assert action_hash(early) == action_hash(command)
    assert v.codes(venue.operator(early)) == (["PARAMS_NOTICE"] if venue.state.params.notice_us else [])


def test_a_refused_proposal_keeps_its_approval() -> None:
    """Hard bounds stay hard whatever was voted; and a vote is not lost by a proposal that came too early."""
    venue = governed()
    bad = proposal(venue, -(10**7))
    send(venue, action_hash(bad))
    assert v.codes(venue.operator(bad)) == ["PARAMS_OUT_OF_BOUNDS"]
    assert venue.state.approvals == [action_hash(bad)]


def test_only_the_governor_of_the_first_vault_is_heard() -> None:
    """Anybody else's message is consumed and ignored, visibly."""
    venue = governed()
    out = send(venue, bytes(32), owner=b"x" * 20)
    assert [o.code for o in out if isinstance(o, InboxIgnored)] == ["NOT_APPROVED"]
    alone = v.Venue()
    out = send(alone, bytes(32))
    assert [o.code for o in out if isinstance(o, InboxIgnored)] == ["NOT_APPROVED"]


@pytest.mark.parametrize("account", [ids.INSURANCE_FUND, ids.OPERATOR_CAPITAL])
def test_house_money_leaves_only_so(account: int) -> None:
    """Without a governor never; with one only what was approved, once, and only what is free."""
    alone = v.Venue()
    assert v.codes(alone.operator(c.ReleaseHouse(account, 0, 0, 5))) == ["HOUSE_LOCKED"]
    venue = governed()
    index = venue.state.vaults[0].inbox_count
    treasury = venue.state.genesis.treasury
    venue.operator(c.ConsumeInbox(0, index, ids.INBOX_DEPOSIT, treasury, 0, 1_000 * v.USD, 1, bytes(32)))
    venue.operator(c.HouseTransfer(ids.OPERATOR_CAPITAL, ids.INSURANCE_FUND, 400 * v.USD))
    command = c.ReleaseHouse(account, 0, 0, 100 * v.USD)
    assert v.codes(venue.operator(command)) == ["NOT_APPROVED"]
    send(venue, action_hash(command))
    assert any(isinstance(o, WithdrawalAcked) for o in venue.operator(command))
    assert v.codes(venue.operator(command)) == ["NOT_APPROVED"]
    assert v.codes(venue.operator(c.ReleaseHouse(ids.FEES, 0, 0, 1))) == ["HOUSE_LOCKED"]


def test_approvals_are_bounded_and_survive_replay() -> None:
    """The oldest lapses; a replay of the journal holds the same."""
    venue = governed()
    hashes = [number.to_bytes(32, "big") for number in range(MAX_APPROVALS + 3)]
    for value in hashes:
        send(venue, value)
    assert venue.state.approvals == hashes[3:]
    again = v.replay(venue.journal)
    assert isinstance(again, Reducer) and again.state.approvals == hashes[3:]
