# SPDX-License-Identifier: GPL-3.0-or-later
"""Several vaults, one margin account: cash is one currency wherever it lies, every vault's tree sums to what that vault
holds, and the chain that fails costs everyone the same."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from clearing.core.margin import equity
from clearing.core.reducer import Reducer
from clearing.core.snapshot import dump, load
from clearing.model import commands as c
from clearing.model import ids
from clearing.model.bounds import validate
from clearing.model.errors import NovateError
from clearing.model.outcomes import Deposited, EpochClosed, WithdrawalAcked
from clearing.model.params import Asset
from tests.core import several as s
from tests.core import venue as v
from tests.core.chains import (
    ASSETS,
    BTC_0,
    BTC_1,
    COIN,
    PLACES,
    PLAIN_1,
    USD_0,
    USD_1,
    Chains,
    with_threshold,
)

NAMES = ("ann", "bob", "cat", "dan")


def claim(venue: v.Venue, name: str) -> int:
    """All accounts' cash and marked positions, atoms."""
    return sum(equity(account) for account in venue.owner_accounts(name))


def exits(venue: v.Venue, name: str) -> list[int]:
    return venue.state.owners[v.address_of(name)].exits


def step(venue: Chains, rng: random.Random) -> None:
    """Somebody moves money in any direction, trades, or the price moves."""
    name, lane = rng.choice(NAMES), rng.randrange(5)
    unit = COIN // 10 if lane in (BTC_0, BTC_1) else v.USD
    match rng.randrange(8):
        case 0 | 1:
            venue.give(name, lane, rng.randrange(1, 3_000) * unit // 7)
        case 2 | 3 if venue.owner_accounts(name):
            codes = venue.take(name, lane, rng.randrange(1, 2_000) * unit // 3)
            assert codes in ([], ["INSUFFICIENT_BALANCE"], ["VAULT_SHORT"], ["BORROW_CAP"])
        case 4 if venue.owner_accounts(name):
            venue.do(name, c.Transfer(1, rng.randrange(1, 500) * unit // 9, lane))
        case 5 | 6:
            price, lots = rng.randrange(49, 52) * v.USD, rng.choice((7, 30, 400))
            for who, side in ((rng.choice(NAMES), ids.BUY), (rng.choice(NAMES), ids.SELL)):
                if venue.owner_accounts(who):
                    venue.do(who, venue.order(side, price, lots))
        case _:
            venue.oracle(s.PRICES | {v.BTC: rng.choice((49, 50, 50, 51, 36, 68)) * v.USD})


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_money_is_conserved_in_every_lane_of_every_vault(seed: int) -> None:
    """Deposits on either chain and withdrawals from either, with trading between: each tree sums to all that came into
    its vault, exits to what is held there, and both to what the chains' own messages say."""
    rng = random.Random(seed)
    venue = Chains()
    for _ in range(25):
        step(venue, rng)
        if rng.random() < 0.2:
            venue.close_epoch()
    venue.close_epoch()
    came, went = [0] * 5, [0] * 5
    for entry in venue.journal:
        for outcome in v.decode_outcomes(entry.outcomes):
            if isinstance(outcome, Deposited | WithdrawalAcked):
                lane = PLACES.index((outcome.vault, outcome.asset))
                (came if isinstance(outcome, Deposited) else went)[lane] += outcome.amount_atoms
    for lane, asset in enumerate(venue.state.assets):
        assert asset.held == came[lane] - went[lane] >= 0
        assert sum(owner.exits[lane] for owner in venue.state.owners.values()) == asset.held
    for vault in venue.state.vaults:
        assert vault.exit_tree.sums == tuple(came[lane] for lane in vault.every_lane)
    assert sum(equity(account) for account in venue.state.accounts) == venue.state.holdings
    assert dump(v.replay(venue.journal).state) == dump(venue.state)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_each_vault_pays_claims_in_proportion_to_what_it_holds(seed: int) -> None:
    """Nobody's cash belongs to a chain: without a deficit each account is owed floor(claim x held there / held in all)
    from each vault, and its collateral where it lies."""
    rng = random.Random(seed)
    venue = Chains()
    for name in NAMES:
        venue.give(name, USD_0, 5_000 * v.USD + rng.randrange(10**9))
    for _ in range(20):
        step(venue, rng)
    venue.close_epoch()
    state = venue.state
    held = [asset.held for asset in state.assets]
    assume(all(equity(account) >= 0 for account in state.accounts))  # debts are tested with the wind-down
    for name in NAMES:
        accounts = venue.owner_accounts(name)
        for lane in (USD_0, USD_1):
            fair = [max(0, equity(account)) * held[lane] // state.holdings for account in accounts]
            assert exits(venue, name)[lane] == sum(fair)
        for lane in (BTC_0, BTC_1, PLAIN_1):
            mine = sum(account.holdings[lane].amount for account in accounts if lane in account.holdings)
            assert exits(venue, name)[lane] == mine


def test_a_withdrawal_chooses_the_vault_as_far_as_that_one_goes() -> None:
    """Cash that came in on one chain leaves through the other; no vault pays what it does not hold."""
    venue = Chains()
    venue.give("ann", USD_0, 900)
    venue.give("bob", USD_1, 500)
    assert venue.take("ann", USD_1, 501) == ["VAULT_SHORT"]
    assert venue.take("ann", USD_1, 901) == ["INSUFFICIENT_BALANCE"]
    assert venue.take("ann", USD_1, 500) == []
    assert venue.take("bob", USD_1, 1) == ["VAULT_SHORT"]
    assert venue.take("bob", USD_0, 500) == []
    assert venue.state.owners[v.address_of("ann")].acks == [0, 0, 500, 0, 0]
    assert [asset.held for asset in venue.state.assets] == [400, 0, 0, 0, 0]
    venue.close_epoch()
    assert (exits(venue, "ann"), exits(venue, "bob")) == ([400, 0, 0, 0, 0], [0] * 5)


def test_collateral_stays_where_it_lies() -> None:
    """Bitcoin of one chain is not bitcoin of the other, and is not withdrawn from there."""
    venue = Chains()
    venue.give("ann", BTC_1, COIN)
    assert venue.take("ann", BTC_0, 1) == ["INSUFFICIENT_BALANCE"]
    assert venue.take("ann", BTC_1, COIN) == []
    for vault, asset in ((2, 0), (-1, 0), (0, 2), (1, 3), (1, -1)):
        assert v.codes(venue.do("ann", c.Withdraw(vault, asset, 1))) == ["UNKNOWN_ASSET"]
    assert v.codes(venue.operator(c.ConsumeInbox(2, 0, 1, bytes(20), 0, 1, 1, bytes(32)))) == ["UNKNOWN_ASSET"]
    assert isinstance(venue.deposit("ann", 1, asset=3, vault=1)[0], Deposited) is False


def test_each_inbox_has_its_own_index_and_hash() -> None:
    """A message of one chain cannot stand in for one of the other."""
    venue = Chains()
    venue.give("ann", USD_0, 5)
    venue.give("ann", USD_1, 5)
    first, second = venue.state.vaults
    assert (first.inbox_count, second.inbox_count) == (1, 1)
    assert first.inbox_hash == second.inbox_hash != bytes(32), "equal messages roll equally; the vault holds its own"
    venue.give("bob", USD_1, 7)
    assert (first.inbox_count, second.inbox_count) == (1, 2)
    assert first.inbox_hash != second.inbox_hash
    late = c.ConsumeInbox(0, 2, 1, v.address_of("bob"), 0, 7, 1, bytes(32))
    assert v.codes(venue.operator(late)) == ["INBOX_OUT_OF_ORDER"]


def test_a_leaf_is_given_when_something_is_first_owed_there() -> None:
    """Per vault dense and in the order of need; who never had anything to claim on a chain has no leaf there, and who
    only traded on it may get one without a deposit."""
    venue = Chains()
    venue.give("ann", USD_0, 1_000)
    venue.close_epoch()
    ann, house = venue.state.owners[v.address_of("ann")], venue.state.owners[v.address_of("treasury")]
    assert (house.leaves, ann.leaves) == ([0, 0], [1, -1])
    venue.give("bob", PLAIN_1, 3)
    venue.give("cat", USD_1, 1_000)
    venue.close_epoch()
    bob, cat = (venue.state.owners[v.address_of(name)] for name in ("bob", "cat"))
    assert (ann.leaves, bob.leaves, cat.leaves) == ([1, 1], [-1, 2], [2, 3])
    assert exits(venue, "ann") == [500, 0, 500, 0, 0]
    venue.take("cat", USD_1, 1_000)
    venue.close_epoch()
    assert (exits(venue, "cat")[USD_1], cat.leaves) == (0, [2, 3]), "a leaf is never given up"


def test_one_owner_moves_everyones_split() -> None:
    """A deposit of one changes what each chain owes the others, who did nothing: their leaves are posted again."""
    venue = Chains()
    venue.give("ann", USD_0, 1_000)
    venue.give("bob", USD_1, 1_000)
    venue.close_epoch()
    assert exits(venue, "ann") == [500, 0, 500, 0, 0]
    quiet = venue.close_epoch()
    assert all(vault.diff_chunks == [] for vault in venue.state.vaults)
    venue.give("bob", USD_1, 2_000)
    assert venue.close_epoch().vaults[0].exit_root != quiet.vaults[0].exit_root
    assert exits(venue, "ann") == [250, 0, 750, 0, 0]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_lost_chain_costs_everyone_the_same_fraction(seed: int) -> None:
    """Vault 1 freezes and, at worst, never pays. What remains of every settlement claim is the same fraction (what lies
    in vault 0 over all, to an atom an account), collateral of vault 0 is whole, that of vault 1 gone: for those who
    put it there, and nobody else."""
    rng = random.Random(seed)
    venue = Chains()
    venue.deposit("treasury", v.USD)  # the house has an atom per account for what rounding leaves to it
    for name in NAMES:
        venue.give(name, rng.choice((USD_0, USD_1)), 5_000 * v.USD + rng.randrange(10**9))
    for _ in range(15):
        step(venue, rng)
    closed = venue.close_epoch()
    assume(not venue.state.coupled and not closed.shortfall_atoms)
    state = venue.state
    accounts = state.accounts[ids.HOUSE_ACCOUNTS :]
    before = {a.number: equity(a) for a in accounts}
    owned = {a.number: {lane: held.amount for lane, held in a.holdings.items()} for a in accounts}
    kept, whole = state.assets[USD_0].held, state.holdings
    assert venue.freeze(1, state.epoch) == []
    assert venue.collect(1, state.epoch) == []
    assert v.codes(venue.operator(c.SettleEscape(1))) == []
    by_owner: dict[int, list[int]] = {}
    for account in accounts:
        assert account.holdings.keys() == {lane for lane in owned[account.number] if lane == BTC_0}
        for lane, held in account.holdings.items():
            assert held.amount == owned[account.number][lane]
        row = by_owner.setdefault(account.owner.number, [0, 0])
        row[0] += before[account.number] * kept
        row[1] += equity(account) * whole
    for fair, left in by_owner.values():
        assert abs(left - fair) <= 2 * whole
    assert state.holdings == kept
    venue.close_epoch()
    for owner in list(state.owners.values())[1:]:
        assert owner.exits[USD_1] == 0
        assert owner.exits[USD_0] == sum(max(0, equity(account)) for account in owner.accounts)


def test_a_snapshot_of_two_vaults_loads_and_goes_on() -> None:
    """Restored, verified against both exit roots, and the same afterwards."""
    venue = Chains()
    for name, lane in (("ann", USD_0), ("bob", USD_1), ("cat", PLAIN_1), ("ann", BTC_1)):
        venue.give(name, lane, 10**9)
    venue.close_epoch()
    venue.take("bob", USD_0, 12_345)
    closed = venue.close_epoch()
    length, payload, _ = venue.snapshots[-1]
    venue.give("bob", USD_1, 77)
    venue.take("ann", USD_1, 10**6)
    venue.close_epoch()
    tail = v.replay(venue.journal[length:], Reducer(state=load(payload, closed)))
    assert dump(tail.state) == dump(venue.state)
    for number in range(2):
        assert tail.state.vaults[number].exit_tree.root == venue.state.vaults[number].exit_tree.root
        swapped = list(closed.vaults)
        swapped[number] = msgspec.structs.replace(swapped[number], exit_root=bytes(32))
        with pytest.raises(NovateError, match="exit root"):
            load(payload, msgspec.structs.replace(closed, vaults=tuple(swapped)))


@pytest.mark.parametrize(
    "blocks",
    [(), ((1, bytes(32)),), ((1, bytes(32)),) * 3, ((1, bytes(32)), (1, b"")), ((-1, bytes(32)), (1, bytes(32)))],
)
def test_an_epoch_names_a_block_of_every_chain(blocks: Any) -> None:
    venue = Chains()
    assert v.codes(venue.operator(c.CloseEpoch(1, blocks))) == ["INVALID_FIELD"]
    assert isinstance(venue.operator(c.CloseEpoch(1, ((1, bytes(32)), (2, bytes(32)))))[-1], EpochClosed)


def wrong(**changes: Any) -> c.Genesis:
    """The genesis of two vaults with the second one changed."""
    genesis = Chains().genesis
    return msgspec.structs.replace(
        genesis, vaults=(genesis.vaults[0], msgspec.structs.replace(genesis.vaults[1], **changes))
    )


def test_a_genesis_that_no_contract_could_have_is_refused() -> None:
    good = Chains().genesis
    ascending = tuple(sorted(v.address_of(name) for name in NAMES))
    bad = [
        wrong(tokens=()),
        wrong(tokens=good.vaults[1].tokens * 2),
        wrong(address=bytes(19)),
        wrong(chain_id=-1),
        wrong(governor=b"x"),
        wrong(attestors=ascending[::-1], threshold=2),
        wrong(attestors=ascending, threshold=5),
        wrong(attestors=ascending, threshold=0),
        wrong(attestors=(), threshold=1),
        wrong(attestors=(ascending[0], ascending[0]), threshold=1),
        wrong(chain_id=good.vaults[0].chain_id, address=good.vaults[0].address),
        msgspec.structs.replace(good, vaults=()),
        msgspec.structs.replace(good, vaults=good.vaults * 3),
    ]
    for genesis in bad:
        with pytest.raises(NovateError) as caught:
            Reducer(genesis)
        assert caught.value.code == "INVALID_GENESIS"
    Reducer(with_threshold(good, *ascending))


def test_the_settlement_asset_has_one_set_of_rules() -> None:
    """Lanes are counted over all vaults, and the second vault's dollar may not have a haircut of its own."""
    params = s.params(assets=ASSETS)
    validate(params, v.INSTRUMENTS, (2, 3))
    for vaults, extra in (((2, 3), Asset(USD_1, "USD2", "USD")), ((2, 3), Asset(5, "X", "BTC")), ((2, 1), ASSETS[2])):
        assets = (*ASSETS[:2], extra)
        with pytest.raises(NovateError, match="INVALID_PARAMS"):
            validate(msgspec.structs.replace(params, assets=assets), v.INSTRUMENTS, vaults)
