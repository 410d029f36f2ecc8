# SPDX-License-Identifier: GPL-3.0-or-later
"""An operator to be killed: a process of its own with a vault on each of two chains, members, trades and epochs.

    python -m tests.walkaway.operator FOLDER BOOKS MEMBERS URL URL

It deploys, takes deposits on either chain, trades, posts epochs, and writes to BOOKS (outside its folder) what its own
records say that each vault owes at each epoch. Then it goes on in the middle of the next epoch (trades, withdrawals,
forced requests, deposits that no header consumed) until it is killed.
"""

import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from clearing.chain.deploy import mint
from clearing.model import commands as c
from clearing.service.node import Node
from proofs.header import Header
from tests.service.chains import WINDOW_S, Deployed, Place, command, deploy_venue, publish, register, take_in
from tests.service.world import USD, order, owner_of

EPOCHS = 3
PRICES = (500_000_000, 480_000_000, 530_000_000)


class Url(NamedTuple):
    """A node that somebody else started and stops."""

    url: str

    def stop(self) -> None:
        pass


class Story:
    """What happens before the kill; `books` collects what will be owed."""

    def __init__(self, folder: Path, members: int, urls: Sequence[str]) -> None:
        self.deployed: Deployed = deploy_venue(folder, [Url(url) for url in urls])
        for place in self.deployed.places:
            payer = place.vault.wallet
            mint(place.rpc, payer, place.vault.tokens()[0], payer.address, 10**16)
            place.vault.approve(0, 2**255)
        self.names = [f"walker {number}" for number in range(members)]
        self.node: Node = self.deployed.node()
        self.books: dict[str, Any] = {
            "vaults": [[place.rpc.chain_id(), place.vault.address.hex()] for place in self.deployed.places],
            "deposits": [[], []],
            "epochs": {},
            "claimed": [0, 0],
        }

    def deposit(self, name: str, vault: int, atoms: int) -> None:
        self.deployed.deposit(name, atoms, vault)
        self.books["deposits"][vault].append([owner_of(name).hex(), atoms])

    def fund(self) -> None:
        """Everyone pays in on one chain, every fifth on both."""
        for number, name in enumerate(self.names):
            self.deposit(name, number % 2, 1_000 * USD + number)
            if number % 5 == 0:
                self.deposit(name, 1 - number % 2, 300 * USD + 7 * number)
        take_in(self.node)

    def trade(self, names: Sequence[str], price: int, coid: int) -> None:
        """Neighbours trade with each other at the price, and each buyer withdraws a little."""
        publish(self.node, price)
        for number, name in enumerate(names):
            command(self.node, name, order(number % 2, price, 1 + number % 3, coid))
            if number % 4 == 0:
                command(self.node, name, c.Withdraw(number % 2, 0, 3 * USD + number))

    def close(self) -> None:
        """An epoch on both chains; what its headers promise goes into the books."""
        record = self.node.poster.turn()
        promised = []
        for vault in range(2):
            header = Header.decode(record.part(vault).header)
            leaves = {
                leaf.owner.hex(): [leaf.exits[0], leaf.withdraw_acks[0]]
                for leaf in self.node.book.leaves(vault, record.epoch)
            }
            assert sum(map(sum, leaves.values())) == header.exit_sums[0]
            promised.append({"leaves": leaves, "consumed": header.inbox_count})
        self.books["epochs"][str(record.epoch)] = promised

    def force(self, place: Place, name: str, exit_: bool) -> None:
        member = place.as_member(name)
        if exit_:
            member.force_exit(0)
        else:
            member.force_withdrawal(0, 0, 0)

    def run(self, books: Path) -> None:
        traders = self.names[: max(4, min(40, len(self.names) // 3 * 2 // 2 * 2))]
        self.fund()
        publish(self.node)
        for name in traders:
            register(self.node, name)
        for number in range(EPOCHS):
            self.trade(traders, PRICES[number], number + 1)
            if number == EPOCHS - 1:
                self.last_epoch_begins()
            self.close()
        # Forced requests and deposits that nobody will consume, and commands that no header will hold.
        for vault, place in enumerate(self.deployed.places):
            self.force(place, traders[vault], vault == 0)
            for name in self.names[vault : vault + 3]:
                self.deposit(name, vault, 11 * USD + vault)
        for place in self.deployed.places:  # the last header is final, so everybody leaves with it
            place.pass_time(WINDOW_S + 1)
        self.trade(traders, PRICES[0], EPOCHS + 1)
        take_in(self.node)
        partial = books.with_suffix(".part")
        partial.write_text(json.dumps(self.books))
        partial.rename(books)
        for coid in itertools.count(EPOCHS + 2):
            self.trade(traders, PRICES[coid % 3], coid)

    def last_epoch_begins(self) -> None:
        """Where a reorganisation will cut: everything after it is forgotten by the second chain."""
        for name in self.names[-2:]:
            self.deposit(name, 1, 5 * USD + 1)
        self.books["cut"] = {
            "snapshot": self.deployed.places[1].rpc.request("evm_snapshot"),
            "deposits": len(self.books["deposits"][1]),
        }
        self.deposit(self.names[-1], 1, 6 * USD + 2)
        take_in(self.node)


def main() -> None:
    folder, books, members, *urls = sys.argv[1:]
    Story(Path(folder), int(members), urls).run(Path(books))


if __name__ == "__main__":
    main()
