# SPDX-License-Identifier: GPL-3.0-or-later
"""Everybody leaves after the operator was killed in the middle of an epoch and its data deleted.

Rule: with two RPC endpoints, two addresses and a stranger's key for the fees, every owner gets on each chain exactly
what that chain's last final header promised, less what was paid before, and the deposits which it did not consume; what
is paid is what is owed, and nothing remains that belongs to somebody. Nobody gets anything a second time. A tool that
was killed on the way is started again.

The tests with a thousand accounts differ from the others in their numbers alone.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from clearing.chain.vault import VaultClient
from clearing.chain.wallet import Wallet
from clearing.exit.run import run
from tests.chain.nodes import anvil_binary
from tests.nodes import start_node
from tests.service.world import owner_of, seed_of
from tests.walkaway.remains import Remains, abandoned, all_are_paid, nobody_gets_more
from tests.walkaway.stage import EPOCHS

CHAINS = (31_337, 31_338)
DOZEN, THOUSAND = (16, 8), (1_000, 60)  # members, and how many of them trade

RemainsOf = Callable[[tuple[int, int]], Remains]


@contextmanager
def _dead(folder: Path, members: int, traders: int) -> Iterator[Remains]:
    nodes = [start_node(chain_id=chain) for chain in CHAINS]
    try:
        with abandoned(folder, nodes, members, traders) as found:
            yield found
    finally:
        for node in nodes:
            node.stop()


@pytest.fixture(scope="module")
def remains_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RemainsOf]:
    """The remains of a venue of some size; one venue lives and dies for all tests that leave the chains as it did.
    (Reverted by more than some hundred blocks, anvil loses its contracts at the next reorganisation.)"""
    kept: dict[tuple[int, int], Remains] = {}
    with ExitStack() as stack:

        def get(size: tuple[int, int]) -> Remains:
            if size not in kept or kept[size].spent:
                kept[size] = stack.enter_context(_dead(tmp_path_factory.mktemp("venue"), *size))
            return kept[size]

        yield get


def _everyone_leaves(remains: Remains, epochs: Sequence[int], kills: Sequence[int] = ()) -> None:
    """All of it, by the header of `epochs` on each chain; the tool is killed after so many transactions each time."""
    owed = [sum(remains.owed(vault, epoch).values()) for vault, epoch in enumerate(epochs)]
    for transactions in kills:
        before = [remains.paid(vault) for vault in range(2)]
        remains.leave_until_killed(transactions)
        paid = [sum(remains.paid(vault).values()) for vault in range(2)]
        assert sum(paid) < sum(owed)
        # The first transaction is the freeze, and every other one pays.
        assert (transactions > 1) == (before != [remains.paid(vault) for vault in range(2)])
    paid = [sum(remains.paid(vault).values()) for vault in range(2)]
    rows = remains.leave("--all")
    for vault, epoch in enumerate(epochs):
        all_are_paid(remains, vault, epoch)
        assert sum(map(int, rows[vault]["paid_atoms"])) == owed[vault] - paid[vault]
        nobody_gets_more(remains, vault, epoch)
        all_are_paid(remains, vault, epoch)


def _walk_away(remains: Remains, kills: Sequence[int]) -> None:
    remains.spent = True
    remains.pass_deadline()
    _everyone_leaves(remains, [EPOCHS, EPOCHS], kills)


def _walk_away_after_a_reorganisation(remains: Remains) -> None:
    remains.forget_last_header(1)
    assert remains.behind(1, EPOCHS - 1), "deposits that the lost header had counted"
    remains.pass_deadline()
    # Somebody leaves alone, with an own key, and freezes one vault for all.
    client = VaultClient(remains.vaults[0].rpc, remains.vaults[0].address, Wallet(seed_of("walker 6")))
    alone = run(client, owner_of("walker 6"))
    assert alone.complete and sum(alone.paid) > 0 and client.frozen()
    _everyone_leaves(remains, [EPOCHS, EPOCHS - 1])


@pytest.mark.slow
def test_everyone_walks_away(remains_of: RemainsOf) -> None:
    """Both chains pay by their last header, to the atom, though the tool is killed among the escapes."""
    with remains_of(DOZEN).again() as remains:
        _walk_away(remains, kills=[9])


@pytest.mark.slow
def test_everyone_walks_away_from_headers_that_a_fault_made_void(remains_of: RemainsOf) -> None:
    """The dead operator's key is used for a second header within the windows of the last two. That chain pays by the
    header before them, though they stay posted, and gives the deposits that they had counted back."""
    with remains_of(DOZEN).again() as remains:
        remains.prove_theft(1)
        assert remains.vaults[1].epoch_count() == EPOCHS
        remains.pass_deadline()
        _everyone_leaves(remains, [EPOCHS, 1])


@pytest.mark.slow
def test_everyone_walks_away_after_a_reorganisation(remains_of: RemainsOf) -> None:
    """One chain forgets its last header: it pays by the one before, and gives the deposits behind that back."""
    _walk_away_after_a_reorganisation(remains_of(DOZEN))


@pytest.mark.slow
def test_a_thousand_walk_away(remains_of: RemainsOf) -> None:
    """The same with a thousand accounts; the tool is killed at the freeze, on the first chain and on the second."""
    anvil_binary()
    _walk_away(remains_of(THOUSAND), kills=[1, 250, 800])


@pytest.mark.slow
def test_a_thousand_walk_away_after_a_reorganisation(remains_of: RemainsOf) -> None:
    """The same with a thousand accounts."""
    anvil_binary()
    _walk_away_after_a_reorganisation(remains_of(THOUSAND))
