# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold after every entry (debug and test builds) and at every epoch (always)."""

from clearing.core.margin import equity
from clearing.core.state import State
from clearing.model.errors import InvariantViolation
from clearing.model.ids import HOUSE_ACCOUNTS


def check(state: State) -> None:
    """Raise `InvariantViolation` unless money is conserved in every asset and positions sum to zero."""
    total = sum(equity(account) for account in state.accounts)
    if total != state.holdings:
        raise InvariantViolation(
            "MONEY_NOT_CONSERVED",
            f"claims sum to {total} atoms, holdings are {state.holdings}; stop and replay",
        )
    _check_collateral(state)
    for inst in state.instruments.values():
        net = longs = 0
        for account in inst.holders.values():
            size = account.slots[inst.id].size
            net += size
            longs += max(size, 0)
        # A contract that is being settled is paid holder by holder, at a price that is the same for all.
        if net and not inst.settle:
            raise InvariantViolation("POSITIONS_NOT_ZERO_SUM", f"instrument {inst.id} nets to {net} lots")
        if longs != inst.open_interest:
            raise InvariantViolation(
                "OPEN_INTEREST_WRONG",
                f"instrument {inst.id}: longs {longs}, open interest {inst.open_interest}",
            )
    _check_lanes(state)
    _check_members(state)


def _check_lanes(state: State) -> None:
    """Per lane: what was deposited is held or was acknowledged, and the last exits are what the totals say; a settled
    vault is empty."""
    owners = list(state.owners.values())
    for lane, asset in enumerate(state.assets):
        acks = [owner.acks[lane] for owner in owners]
        if asset.held < 0 or min(acks, default=0) < 0:
            raise InvariantViolation("NEGATIVE_COUNTER", "holdings and withdrawal counters never go below zero")
        if asset.held + sum(acks) != asset.deposited:
            raise InvariantViolation(
                "MONEY_NOT_CONSERVED",
                f"lane {lane}: {asset.held} atoms held and {sum(acks)} acknowledged, {asset.deposited} deposited",
            )
        if sum(owner.exits[lane] for owner in owners if owner.number) != state.user_exits[lane]:
            raise InvariantViolation("EXITS_WRONG", f"lane {lane}: members' exits do not sum to their total")
    for vault in state.vaults:
        if vault.settled and any(asset.held or asset.deposited for asset in vault.assets(state)):
            raise InvariantViolation("MONEY_NOT_CONSERVED", f"vault {vault.number} is settled and not empty")


def check_sums(state: State) -> None:
    """Directly after the exits were committed: every live tree sums to what was ever deposited in its lanes (exits to
    the holdings, counters of withdrawals to the rest). Raises `InvariantViolation`."""
    for vault in state.vaults:
        promised = tuple(asset.deposited for asset in vault.assets(state))
        if vault.live and vault.exit_tree.sums != promised:
            raise InvariantViolation(
                "EXITS_WRONG", f"vault {vault.number}: the tree sums to {vault.exit_tree.sums}, deposited {promised}"
            )


def _check_collateral(state: State) -> None:
    """Per lane: what accounts hold is what its vault holds, and the holders are those who hold."""
    sums = [0] * state.lanes
    for account in state.accounts:
        for lane, held in account.holdings.items():
            sums[lane] += held.amount
            asset = state.assets[lane]
            if held.amount <= 0 or asset.settlement or asset.holders.get(account.number) is not account:
                raise InvariantViolation(
                    "HOLDING_WRONG", f"account {account.number} holds {held.amount} of asset {lane}, or is not listed"
                )
    for lane, asset in enumerate(state.assets):
        if sums[lane] != asset.held and not asset.settlement:
            raise InvariantViolation(
                "MONEY_NOT_CONSERVED",
                f"accounts hold {sums[lane]} atoms of asset {lane}, the vault {asset.held}; stop and replay",
            )
        if any(lane not in account.holdings for account in asset.holders.values()):
            raise InvariantViolation("HOLDING_WRONG", f"a listed holder of asset {lane} holds none")


def _check_members(state: State) -> None:
    """Pledges and auctions belong to members, and the list of auctions is complete."""
    for account in state.accounts:
        house = account.number < HOUSE_ACCOUNTS
        if account.pledged < 0 or (house and account.pledged):
            raise InvariantViolation("PLEDGE_WRONG", f"account {account.number} pledges {account.pledged} atoms")
        listed = state.auctions.get(account.number) is account
        if listed != (account.auction is not None) or (house and listed):
            raise InvariantViolation("AUCTION_WRONG", f"account {account.number}: its auction and the list differ")


def check_books(state: State) -> None:
    """Raise `InvariantViolation` unless books, order indexes and open sums agree (test builds)."""
    listed = 0
    for inst in state.instruments.values():
        for side in inst.book.sides:
            if side.keys != sorted(side.levels):
                raise InvariantViolation("BOOK_UNSORTED", f"instrument {inst.id}: level keys out of order")
            for order in side.orders():
                listed += 1
                if state.orders.get(order.order_id) is not order or order.open_lots <= 0:
                    raise InvariantViolation("BOOK_UNINDEXED", f"order {order.order_id} is not indexed")
        if inst.book.best(0) and inst.book.best(1) and inst.book.best(0) >= inst.book.best(1):
            raise InvariantViolation("BOOK_CROSSED", f"instrument {inst.id} is crossed")
    if listed != len(state.orders) or listed != sum(len(a.orders) for a in state.accounts):
        raise InvariantViolation("ORDER_INDEX_WRONG", "books, global and account indexes differ in length")
    for account in state.accounts:
        for slot in account.slots.values():
            bought = [o for o in account.orders.values() if o.slot is slot and o.side == 0]
            sold = [o for o in account.orders.values() if o.slot is slot and o.side == 1]
            sums = (
                sum(o.open_lots for o in bought),
                sum(o.open_lots * o.price for o in bought),
                sum(o.open_lots for o in sold),
                sum(o.open_lots * o.price for o in sold),
            )
            if sums != (slot.buy_lots, slot.buy_cost, slot.sell_lots, slot.sell_cost):
                raise InvariantViolation(
                    "OPEN_SUMS_WRONG",
                    f"account {account.number}: open order sums differ",
                )
