# SPDX-License-Identifier: GPL-3.0-or-later
"""A snapshot is used only if every value in it is the one that the epoch committed to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from clearing.core.reducer import Reducer
from clearing.core.snapshot import dump, load
from clearing.model import commands as c
from clearing.model import ids
from clearing.model.errors import NovateError
from clearing.model.outcomes import EpochClosed
from clearing.model.params import Params
from tests.core import venue as v

Path = tuple[int, ...]


def lived_in() -> v.Venue:
    """A venue in which every part of the state has something in it."""
    venue = v.Venue(Params(oracle_quorum=2), publishers=3)
    for name in ("ann", "bob", "cat"):
        venue.fund(name, 5_000 * v.USD)
    venue.deposit("treasury", 1_000 * v.USD)
    venue.register("ann", label="b", scope=ids.SCOPE_TRADE)
    venue.revoke("ann", label="b")
    for publisher in range(3):
        venue.oracle({v.BTC: 50 * v.USD, v.ETH: 20 * v.USD + publisher}, publisher)
    venue.do("ann", c.Transfer(3, 700 * v.USD))
    for day in range(3):
        venue.advance(v.DAY)
        for publisher in range(3):
            venue.oracle({v.BTC: 50 * v.USD, v.ETH: 20 * v.USD}, publisher)
        venue.sell("ann", 50 * v.USD, 11 + day)
        venue.buy("bob", 50 * v.USD, 7)
        venue.operator(c.FundingTick())
    venue.do("cat", venue.order(ids.BUY, 19 * v.USD, 3, v.ETH, tif=ids.GTT, expiry_us=venue.now_us + v.HOUR))
    first = venue.order(ids.BUY, 18 * v.USD, 2, v.ETH)
    venue.do("cat", venue.order(ids.BUY, 19 * v.USD, 2, v.ETH), first, venue.order(ids.BUY, 18 * v.USD, 9, v.ETH))
    venue.do("cat", c.ReplaceOrder(first.client_order_id, 18 * v.USD, 3))  # now behind the other
    venue.do("bob", venue.order(ids.SELL, 51 * v.USD, 3, reduce_only=True), c.Withdraw(0, 0, 12_345))
    venue.close_epoch()
    return venue


@pytest.fixture(scope="module")
def committed() -> tuple[bytes, EpochClosed]:
    venue = lived_in()
    return dump(venue.state), venue.snapshots[-1][2]


def paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """Where the scalars are in nested lists."""
    if isinstance(value, list):
        for position, item in enumerate(value):
            yield from paths(item, (*path, position))
    else:
        yield path


def changed(payload: bytes, path: Path) -> tuple[bytes, bytes]:
    """The payload with the scalar at `path` changed, and a description of the change."""
    tree = msgspec.msgpack.decode(payload)
    node = tree
    for step in path[:-1]:
        node = node[step]
    old = node[path[-1]]
    match old:
        case bool():
            new: Any = not old
        case int():
            new = old + 1
        case b"":
            new = bytes(1)
        case bytes():
            new = old[:-1] + bytes([old[-1] ^ 1])
        case None:
            new = 1
        case _:
            new = old + "x"
    node[path[-1]] = new
    return msgspec.msgpack.encode(tree), f"{path}: {old!r} -> {new!r}".encode()


def accepted(payload: bytes, closed: EpochClosed) -> bytes | None:
    """What `load` makes of it, dumped again, or None when it refuses in its own words."""
    code = ""
    try:
        return dump(load(payload, closed))
    except NovateError as error:
        code = error.code
    assert code in ("SNAPSHOT_MALFORMED", "SNAPSHOT_MISMATCH")
    return None


def test_any_single_changed_value_is_found(committed: tuple[bytes, EpochClosed]) -> None:
    """Every scalar of the payload, one at a time: load refuses, or what it loads is the original."""
    payload, closed = committed
    scalars = list(paths(msgspec.msgpack.decode(payload)))
    assert len(scalars) > 250
    missed = []
    for path in scalars:
        tampered, what = changed(payload, path)
        if accepted(tampered, closed) not in (None, payload):
            missed.append(what)
    assert not missed, "\n".join(map(str, missed))


def test_rows_in_another_order_load_to_the_same_state_or_not_at_all(
    committed: tuple[bytes, EpochClosed],
) -> None:
    """The order of orders decides who trades first, so it may not be the snapshot's to choose."""
    payload, closed = committed
    for table in range(2, 5):
        tree = msgspec.msgpack.decode(payload)
        tree[table].reverse()
        assert accepted(msgspec.msgpack.encode(tree), closed) in (None, payload)


def test_truncated_payloads_are_refused(committed: tuple[bytes, EpochClosed]) -> None:
    payload, closed = committed
    for length in range(0, len(payload), 37):
        with pytest.raises(NovateError) as caught:
            load(payload[:length], closed)
        assert caught.value.code == "SNAPSHOT_MALFORMED"


def test_snapshot_and_tail_are_the_live_state() -> None:
    """What happens after a restore is what would have happened without it, roots included."""
    venue = lived_in()
    length, payload, closed = venue.snapshots[-1]
    venue.advance(2 * v.HOUR)
    for publisher in range(3):
        venue.oracle({v.BTC: 49 * v.USD, v.ETH: 20 * v.USD}, publisher)
    venue.operator(c.FundingTick())
    venue.operator(c.ExpireOrders())
    venue.sell("bob", 18 * v.USD, 4, v.ETH)
    venue.sell("bob", 18 * v.USD, 4, v.ETH)
    venue.do("cat", c.CancelAll())
    venue.close_epoch()
    tail = v.replay(venue.journal[length:], Reducer(state=load(payload, closed)))
    assert dump(tail.state) == dump(venue.state)
    assert tail.state.state_tree.root == venue.state.state_tree.root
    assert tail.state.vaults[0].exit_tree.root == venue.state.vaults[0].exit_tree.root


def test_whatever_changes_an_account_renews_its_leaf() -> None:
    """One change between two epochs; `Venue` compares the trees with ones built from nothing."""
    venue = lived_in()
    venue.do("cat", c.Transfer(1, 5))
    number = venue.account("cat", 1).number
    expiry = venue.now_us + 2 * v.HOUR
    gtt = venue.order(ids.BUY, 17 * v.USD, 1, v.ETH, tif=ids.GTT, expiry_us=expiry)
    own = venue.order(ids.BUY, 19 * v.USD, 1, v.ETH)
    changes: list[Callable[[], object]] = [
        lambda: venue.submit(venue.batch("cat", [c.CancelOrder(999)], number)),
        lambda: venue.register("ann", label="b"),
        lambda: venue.revoke("ann", label="b"),
        lambda: venue.do("cat", gtt, own),
        lambda: venue.do("cat", venue.order(ids.SELL, 19 * v.USD, 1, v.ETH, stp=ids.STP_CANCEL_MAKER)),
        lambda: venue.advance(2 * v.HOUR),
        lambda: venue.operator(c.ExpireOrders()),
        lambda: venue.operator(c.FundingTick()),
        lambda: [venue.oracle({v.BTC: 51 * v.USD, v.ETH: 20 * v.USD}, p) for p in range(3)],
        lambda: venue.do("cat", c.Transfer(2, 5)),
        lambda: venue.deposit("bob", 5),
        lambda: venue.operator(c.HouseTransfer(ids.OPERATOR_CAPITAL, ids.INSURANCE_FUND, 7)),
        lambda: venue.do("cat", c.CancelAll()),
    ]
    roots = [venue.close_epoch().globals_hash]
    for change in changes:
        change()
        roots.append(venue.close_epoch().globals_hash)
    assert len(set(roots)) == len(changes) + 1
