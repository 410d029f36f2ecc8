# SPDX-License-Identifier: GPL-3.0-or-later
"""A frozen vault is closed, and its escape is settled by the true leaves and messages of its escape header alone."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from clearing.core import vaults
from clearing.core.snapshot import dump, load
from clearing.model import commands as c
from clearing.model.signature import sign
from tests.core import venue as v
from tests.core.chains import USD_0, USD_1, Chains
from tests.core.test_escape_settlement import lived_in, settle
from tests.core.test_hostile import without_nonces


def test_a_frozen_vault_takes_nothing_and_nothing_is_paid_until_it_is_settled() -> None:
    venue = lived_in()
    assert venue.freeze(1, 2) == []
    assert venue.freeze(1, 2) == ["VAULT_FROZEN"]
    assert v.codes(venue.give("ann", USD_1, 5)) == ["VAULT_FROZEN"]
    assert venue.take("cat", USD_1, 5) == ["VAULT_FROZEN"]
    assert venue.take("cat", USD_0, 5) == ["ESCAPE_UNSETTLED"]
    block = (1, bytes(32))
    assert v.codes(venue.operator(c.CloseEpoch(venue.state.epoch + 1, (block, block)))) == ["ESCAPE_UNSETTLED"]
    venue.give("ann", USD_0, 5)
    assert venue.collect(1, 2) == []
    assert v.codes(venue.operator(c.SettleEscape(1))) == []
    assert venue.take("cat", USD_1, 5) == ["VAULT_FROZEN"]
    assert venue.take("dan", USD_0, 5) == []
    assert v.codes(venue.operator(c.CloseEpoch(venue.state.epoch + 1, (block, block)))) == ["INVALID_FIELD"]
    closed = venue.close_epoch()
    assert [part.live for part in closed.vaults] == [True, False]
    assert closed.vaults[1].exit_sums == (0, 0, 0)
    for owner in venue.state.owners.values():
        assert owner.leaves[1] == -1 and owner.exits[USD_1] == 0
    assert load(venue.snapshots[-1][1], closed).vaults[1].settled


def test_only_a_vault_and_an_epoch_that_exist_freeze() -> None:
    venue = lived_in(2)
    for vault, epoch, code in ((2, 1, "UNKNOWN_ASSET"), (-1, 1, "UNKNOWN_ASSET"), (1, 3, "EPOCH_OUT_OF_ORDER")):
        assert venue.freeze(vault, epoch) == [code]
    assert venue.freeze(0, -1) == ["EPOCH_OUT_OF_ORDER"]
    for command in (c.EscapeLeaves(0, ()), c.EscapeDeposits(0, ()), c.SettleEscape(0)):
        assert v.codes(venue.operator(command)) == ["NOT_FROZEN"]
    for other in (c.EscapeLeaves(2, ()), c.EscapeDeposits(-1, ()), c.SettleEscape(9)):
        assert v.codes(venue.operator(other)) == ["UNKNOWN_ASSET"]
    settle(venue, 0, 2)
    for late in (c.EscapeLeaves(0, ()), c.EscapeDeposits(0, ()), c.SettleEscape(0), c.FreezeVault(0, 2)):
        assert v.codes(venue.operator(late)) == ["VAULT_FROZEN"]


def test_each_step_stands_alone_in_its_batch() -> None:
    """Their work is bounded per entry."""
    venue = lived_in()
    for command in (c.EscapeLeaves(1, ()), c.EscapeDeposits(1, ()), c.SettleEscape(1)):
        batch = c.OperatorBatch(venue.deployment, venue.nonce("operator"), (command, c.FundingTick()))
        assert v.refusal(venue, sign(batch, venue.operator_seed)) == "BATCH_SIZE"


def amended(venue: Chains, change: Callable[[c.EscapeLeaf], c.EscapeLeaf], at: int) -> list[c.EscapeLeaf]:
    rows = venue.rows(1, 2)
    rows[at] = change(rows[at])
    return rows


def more(leaf: c.EscapeLeaf) -> c.EscapeLeaf:
    return msgspec.structs.replace(leaf, exits=(leaf.exits[0] + 1, *leaf.exits[1:]))


def shifted(leaf: c.EscapeLeaf) -> c.EscapeLeaf:
    """One atom from exit to counter: the sums stay."""
    return c.EscapeLeaf(
        leaf.index, leaf.owner, (leaf.exits[0] - 1, *leaf.exits[1:]), (leaf.acks[0] + 1, *leaf.acks[1:])
    )


WRONG_LEAVES: dict[str, Callable[[Chains], list[c.EscapeLeaf]]] = {
    "none": lambda venue: [],
    "one is missing": lambda venue: venue.rows(1, 2)[:-1],
    "the first is missing": lambda venue: venue.rows(1, 2)[1:],
    "an atom more": lambda venue: amended(venue, more, 2),
    "an atom elsewhere in the leaf": lambda venue: amended(venue, shifted, 2),
    "another epoch's": lambda venue: venue.rows(1, 3),
    "an earlier epoch's": lambda venue: venue.rows(1, 1),
}


@pytest.mark.parametrize("name", WRONG_LEAVES)
def test_other_leaves_are_collected_and_not_believed(name: str) -> None:
    """They are no basis for a debit; thrown away, the true ones are taken."""
    venue = lived_in()
    assert venue.freeze(1, 2) == []
    for row in WRONG_LEAVES[name](venue):
        venue.operator(c.EscapeLeaves(1, (row,)))
    assert v.codes(venue.operator(c.EscapeDeposits(1, tuple(venue.late(1, 2))))) == []
    before = without_nonces(dump(venue.state))
    assert v.codes(venue.operator(c.SettleEscape(1))) == ["ESCAPE_MISMATCH"]
    assert without_nonces(dump(venue.state)) == before
    assert not v.codes(venue.operator(c.EscapeLeaves(1, ())))
    assert not v.codes(venue.operator(c.EscapeLeaves(1, tuple(venue.rows(1, 2)))))
    assert not v.codes(venue.operator(c.SettleEscape(1)))


def test_leaves_that_cannot_be_the_headers_are_refused_at_once() -> None:
    """Out of order, of unknown owners, at another's index, of another shape: nothing of the command is kept."""
    venue = lived_in()
    venue.freeze(1, 2)
    rows = venue.rows(1, 2)
    alter = msgspec.structs.replace
    bad = [
        ((rows[1], rows[0]), "ESCAPE_MISMATCH"),
        ((rows[0], rows[0]), "ESCAPE_MISMATCH"),
        ((rows[0], alter(rows[1], owner=bytes(20))), "ESCAPE_MISMATCH"),
        ((rows[0], alter(rows[1], owner=b"")), "ESCAPE_MISMATCH"),
        ((rows[0], alter(rows[1], owner=rows[2].owner)), "ESCAPE_MISMATCH"),
        ((rows[0], alter(rows[1], index=2**40)), "ESCAPE_MISMATCH"),
        ((alter(rows[0], index=-1),), "ESCAPE_MISMATCH"),
        ((rows[0], alter(rows[1], exits=rows[1].exits[:2])), "INVALID_FIELD"),
        ((rows[0], alter(rows[1], acks=())), "INVALID_FIELD"),
        ((rows[0], alter(rows[1], exits=(-1, 0, 0))), "INVALID_FIELD"),
    ]
    for leaves, code in bad:
        assert v.codes(venue.operator(c.EscapeLeaves(1, leaves))) == [code]
    assert (venue.state.vaults[1].escape_next, venue.collect(1, 2)) == (0, [])
    assert v.codes(venue.operator(c.EscapeLeaves(1, (rows[0],)))) == ["ESCAPE_MISMATCH"], "they are in already"
    assert v.codes(venue.operator(c.SettleEscape(1))) == []


def test_only_the_messages_after_the_header_are_taken_and_in_order() -> None:
    """By index at once, by content when the rolling hash is compared."""
    venue = lived_in()
    venue.freeze(1, 2)
    assert v.codes(venue.operator(c.EscapeLeaves(1, tuple(venue.rows(1, 2))))) == []
    late, alter = venue.late(1, 2), msgspec.structs.replace
    assert len(late) == 4 and venue.state.vaults[1].escape_inbox_count == late[0].index
    for messages, code in (
        (late[1:], "INBOX_OUT_OF_ORDER"),
        (late[::-1], "INBOX_OUT_OF_ORDER"),
        ([alter(late[0], vault=0)], "INBOX_OUT_OF_ORDER"),
        ([*late, alter(late[-1], index=late[-1].index + 1)], "ESCAPE_MISMATCH"),
        ([alter(late[0], data=b"")], "INVALID_FIELD"),
    ):
        assert v.codes(venue.operator(c.EscapeDeposits(1, tuple(messages)))) == [code]
    assert v.codes(venue.operator(c.SettleEscape(1))) == ["ESCAPE_MISMATCH"]
    forged = [alter(late[0], amount_atoms=late[0].amount_atoms + 1), *late[1:]]
    assert v.codes(venue.operator(c.EscapeDeposits(1, tuple(forged)))) == []
    assert v.codes(venue.operator(c.SettleEscape(1))) == ["ESCAPE_MISMATCH"]
    assert v.codes(venue.operator(c.EscapeDeposits(1, ()))) == []
    assert v.codes(venue.operator(c.EscapeDeposits(1, tuple(late)))) == []
    assert v.codes(venue.operator(c.SettleEscape(1))) == []


def test_two_vaults_may_freeze_one_after_the_other() -> None:
    """Both are settled before anything else; then nothing is left, and nobody is owed anything here."""
    venue = lived_in()
    venue.close_epoch()
    assert venue.freeze(0, 3) == [] and venue.freeze(1, 4) == []
    assert venue.collect(0, 3) == [] and venue.collect(1, 4) == []
    assert v.codes(venue.operator(c.SettleEscape(1))) == []
    assert vaults.unsettled(venue.state)
    assert v.codes(venue.operator(c.SettleEscape(0))) == []
    assert venue.state.holdings == 0
    closed = venue.close_epoch()
    assert [part.live for part in closed.vaults] == [False, False]
    assert all(not any(owner.exits) for owner in venue.state.owners.values())
