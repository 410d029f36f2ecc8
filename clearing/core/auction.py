# SPDX-License-Identifier: GPL-3.0-or-later
"""Dutch auctions of books with options.

Rules:
- Positions change hands at the mark, which changes nobody's equity; what falls is the discount, always in the
  bidder's favour and paid by the account. For the whole book, at time t since the start:
      discount = min((1 - price(t)) x gross, equity less what its remaining needs deserve)
  where price(t) goes from auction_start_ppm to auction_middle_ppm in auction_fast_us, and on to 0 in auction_slow_us;
  gross = max(|marked value of the options|, maintenance margin), both of now. A book whose options have negative
  value therefore pays its bidder, and nobody is ever paid more than the account has: equity / maintenance does not
  fall by an auction, and what has no equity left is for the backstop and the waterfall.
- A bid takes a share of what is left, every position rounded down to lots, and is cut to the smallest share that brings
  equity to target_ppm of maintenance. It costs the options' marked value less the share of the discount; linear
  contracts cost nothing at the mark. `max_pay_atoms` is for the share asked for, and is cut with it.
- The bidder must hold initial margin afterwards, at fresh prices of both books.
- The auction ends SOLD without positions, HEALTHY at the target, BACKSTOP when it took too long.
"""

from typing import NamedTuple

from clearing.core import whatif
from clearing.core.backstop import has_positions, is_stale, move_lots, positions
from clearing.core.margin import assess, headroom
from clearing.core.state import Account, Auction, Slot, State
from clearing.model import ids
from clearing.model.commands import BidAuction
from clearing.model.ids import PPM
from clearing.model.outcomes import AuctionEnded, AuctionFilled, AuctionStarted, PositionTransferred


class Quote(NamedTuple):
    """A share of a book: lots per slot (signed), what their options are worth, and the discount; atoms."""

    share_ppm: int
    lots: tuple[tuple[Slot, int], ...]
    value: int
    discount: int

    @property
    def pay(self) -> int:
        """What the bidder pays, positions at the mark; negative: is paid."""
        return self.value - self.discount


def marked_value(account: Account) -> int:
    """Options at mark, atoms; linear contracts are settled at the mark, and worth nothing there."""
    return sum(slot.size * slot.inst.mark for slot in account.slots.values() if slot.inst.kind == ids.OPTION)


def price_ppm(state: State, elapsed_us: int) -> int:
    """The price as a share of the mark, rounded down: linear from start to middle, and from there to zero."""
    rules = state.params.ladder
    start, middle = rules.auction_start_ppm, rules.auction_middle_ppm
    if elapsed_us < rules.auction_fast_us:
        return start - -(-(start - middle) * elapsed_us // rules.auction_fast_us)
    passed = min(elapsed_us - rules.auction_fast_us, rules.auction_slow_us)
    return middle - -(-middle * passed // rules.auction_slow_us)


def start(state: State, account: Account) -> None:
    """Put the book on offer."""
    value, (_, _, maintenance) = marked_value(account), assess(account)
    account.auction = Auction(state.time_us, value, maintenance)
    state.auctions[account.number] = account
    state.touched[account.number] = account
    state.out.append(AuctionStarted(account.number, state.time_us, value))


def end(state: State, account: Account, reason: str) -> None:
    """Take the book off."""
    account.auction = None
    del state.auctions[account.number]
    state.touched[account.number] = account
    state.out.append(AuctionEnded(account.number, reason))


def is_healthy(state: State, account: Account) -> bool:
    """Has equity reached the target?"""
    now, _, maintenance = assess(account)
    return now * PPM >= state.params.ladder.target_ppm * maintenance


def may_end(state: State, account: Account, now_us: int) -> bool:
    """Is the account on auction, and healthy at fresh prices?"""
    return account.auction is not None and not is_stale(state, account, now_us) and is_healthy(state, account)


def whole_discount(state: State, account: Account, now_us: int) -> int:
    """What a bidder for all that is left gets off; atoms, rounded down, never negative."""
    assert account.auction is not None, "only a book on offer has a price"
    now, _, maintenance = assess(account)
    gross = max(abs(marked_value(account)), maintenance)
    asked = (PPM - price_ppm(state, now_us - account.auction.start_us)) * gross // PPM
    everything = [(slot.inst, -slot.size, slot.inst.mark) for slot in positions(account)]
    _, _, kept = whatif.after(account, everything, 0, assess)
    reserve = -(-now * kept // maintenance) if maintenance else 0
    return max(0, min(asked, now - reserve))


def quote(state: State, account: Account, share_ppm: int, now_us: int) -> Quote:
    """What a share of the book costs now, not cut yet."""
    held = positions(account)
    discount = whole_discount(state, account, now_us)
    lots = [(slot, _share(slot.size, share_ppm)) for slot in held]
    value = sum(moved * slot.inst.mark for slot, moved in lots if slot.inst.kind == ids.OPTION)
    part = discount * share_ppm // PPM
    all_gross = sum(abs(slot.size) * slot.inst.mark for slot in held)
    if all_gross:  # lots that were rounded away bear no discount
        part = min(part, discount * sum(abs(moved) * slot.inst.mark for slot, moved in lots) // all_gross)
    return Quote(share_ppm, tuple((slot, moved) for slot, moved in lots if moved), value, part)


def _share(size: int, share_ppm: int) -> int:
    moved = abs(size) * share_ppm // PPM
    return moved if size > 0 else -moved


def _left(account: Account, found: Quote) -> tuple[int, int]:
    """(equity, maintenance) of the account after this quote."""
    trades = [(slot.inst, -moved, slot.inst.mark) for slot, moved in found.lots]
    now, _, maintenance = whatif.after(account, trades, -found.discount, assess)
    return now, maintenance


def cut(state: State, account: Account, share_ppm: int, now_us: int) -> Quote:
    """The quote for the smallest share that heals the account, at most `share_ppm`."""

    def heals(found: Quote) -> bool:
        now, maintenance = _left(account, found)
        return now * PPM >= state.params.ladder.target_ppm * maintenance

    whole = quote(state, account, share_ppm, now_us)
    if not heals(whole):
        return whole
    low, high = 1, share_ppm
    while low < high:
        middle = (low + high) // 2
        if heals(quote(state, account, middle, now_us)):
            high = middle
        else:
            low = middle + 1
    least = quote(state, account, high, now_us)
    return least if least.lots and heals(least) else whole


def fits(bidder: Account, found: Quote) -> bool:
    """Would the bidder hold initial margin with these positions?"""
    trades = [(slot.inst, moved, slot.inst.mark) for slot, moved in found.lots]
    return whatif.after(bidder, trades, found.discount, headroom) >= 0


def bid(state: State, account: Account, command: BidAuction) -> str:
    """Take a share of a book on offer; `account` is the bidder."""
    if not 0 <= command.account < len(state.accounts):
        return "UNKNOWN_ACCOUNT"
    seller = state.accounts[command.account]
    if seller.auction is None:
        return "NO_AUCTION"
    if seller is account:
        return "SAME_ACCOUNT"
    if not 0 < command.share_ppm <= PPM or abs(command.max_pay_atoms) > ids.MAX_AMOUNT_ATOMS:
        return "INVALID_FIELD"
    if account.auction is not None:
        return "IN_LIQUIDATION"
    if is_stale(state, seller, state.time_us) or is_stale(state, account, state.time_us):
        return "ORACLE_STALE"
    if is_healthy(state, seller):
        return "NO_AUCTION"
    found = cut(state, seller, command.share_ppm, state.time_us)
    code = _refusal(state, account, seller, command, found)
    if code:
        return code
    _fill(state, account, seller, found)
    return ""


def _refusal(state: State, bidder: Account, seller: Account, command: BidAuction, found: Quote) -> str:
    if not found.lots:
        return "SHARE_TOO_SMALL"
    if found.pay * command.share_ppm > command.max_pay_atoms * found.share_ppm:
        return "AUCTION_PRICE"
    before, _, required = assess(seller)
    now, maintenance = _left(seller, found)
    if maintenance > required or now * required < before * maintenance:
        return "SHARE_TOO_SMALL"  # uneven lots would leave the rest worse off
    new = sum(1 for slot, _ in found.lots if slot.inst.id not in bidder.slots)
    if len(bidder.slots) + new > state.params.max_positions:
        return "TOO_MANY_POSITIONS"
    return "" if fits(bidder, found) else "INSUFFICIENT_MARGIN"


def _fill(state: State, bidder: Account, seller: Account, found: Quote) -> None:
    for slot, moved in found.lots:
        mark = slot.inst.mark
        move_lots(state, seller, bidder, slot, moved, mark)
        state.out.append(PositionTransferred(seller.number, bidder.number, slot.inst.id, moved, mark))
    seller.cash -= found.discount
    bidder.cash += found.discount
    state.touched[seller.number] = seller
    state.touched[bidder.number] = bidder
    state.out.append(AuctionFilled(seller.number, bidder.number, found.share_ppm, found.pay, found.discount))
    if not has_positions(seller):
        end(state, seller, "SOLD")
    elif is_healthy(state, seller):
        end(state, seller, "HEALTHY")


def due(state: State, now_us: int) -> int | None:
    """The first account whose auction may end because it is healthy again."""
    return next((number for number, account in state.auctions.items() if may_end(state, account, now_us)), None)
