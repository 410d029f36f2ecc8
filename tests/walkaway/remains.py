# SPDX-License-Identifier: GPL-3.0-or-later
"""What is left when the operator is dead and its data deleted: two chains, and what everybody is owed by them.

Rules: what is owed is computed from the accounts that a replay of the dead operator's journal gives at each epoch's
close (cash, positions at the epoch's marks, collateral), and not from exit leaves, diffs or trees; that is done before
the data is deleted, and the tools that leave know nothing of it.
"""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from operator import add
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from clearing.audit.replay import ReplayedEpoch, Replayer, replay
from clearing.chain.embedded import dev_key
from clearing.chain.errors import ChainError
from clearing.chain.rpc import Rpc
from clearing.chain.vault import VaultClient, refund_arguments
from clearing.chain.wallet import Wallet, post_epoch_digest
from clearing.core.margin import equity
from clearing.core.reducer import Reducer
from clearing.core.state import State
from clearing.exit.rebuild import Rebuilt, rebuild
from clearing.exit.run import exit_all
from clearing.model import ids
from clearing.service.layout import Layout
from clearing.service.recover import open_store
from journal.replay import entries
from proofs.hashing import sha256
from tests.chain.nodes import Down, altering
from tests.nodes import ChainNode
from tests.service.chains import DEADLINE_S
from tests.service.world import MAP_BYTES, TREASURY, owner_of
from tests.walkaway.stage import ASSETS, DONATION, STRANGER, Message, Venue

ROOT = Path(__file__).resolve().parents[2]

# (owner, asset): atoms
Amounts = Counter[tuple[bytes, int]]


class Promise(NamedTuple):
    """What a vault owes in all (exits and acknowledged withdrawals) at an epoch, and the inbox messages in it."""

    owed: Amounts
    consumed: int


# epoch: per vault
Books = dict[int, list[Promise]]


def read_books(venue: Venue) -> Books:
    """What each vault owes at each epoch. Asserts that the journal outlived the kill and is what was acknowledged."""
    books: Books = {}

    def at_close(reducer: Reducer, epoch: ReplayedEpoch) -> None:
        headers = [header for header in epoch.headers if header is not None]
        books[epoch.outcome.epoch] = [
            Promise(_owed(reducer.state, vault), header.inbox_count) for vault, header in enumerate(headers)
        ]
        held = [slot.inst.spec.kind for account in reducer.state.accounts for slot in account.slots.values()]
        assert {ids.PERPETUAL, ids.OPTION} <= set(held), "positions are open at every close"

    with open_store(Layout(venue.data), MAP_BYTES, read_only=True) as store:
        report = replay(entries(store), replayer=Replayer(on_epoch=at_close))
    assert report.ok, report.divergence
    assert report.epochs[-1].journal_size <= venue.acknowledged < report.size, "acknowledged, durable, in no epoch"
    return books


def compare_with_deposits(books: Books, venue: Venue) -> None:
    """Who never traded is owed what they paid in: bitcoin where it lies, dollars over both chains but for the rounding
    on each. This knows nothing of the operator's books but what they say."""
    names = [
        *venue.names(range(venue.traders, venue.members)),
        *(f"{who} {n}" for who in ("late", "coiner") for n in range(2)),
    ]
    for promises in books.values():
        came: list[Amounts] = [Counter() for _ in promises]
        for vault, promise in enumerate(promises):
            for message in venue.ledger[vault][: promise.consumed]:
                came[vault][message.owner, message.asset] += message.atoms
        for owner in map(owner_of, names):
            dollars = sum(rows[owner, 0] for rows in came) - sum(promise.owed[owner, 0] for promise in promises)
            assert 0 <= dollars <= len(promises)
            for promise, rows in zip(promises, came, strict=True):
                assert [promise.owed[owner, a] for a in range(1, ASSETS)] == [rows[owner, a] for a in range(1, ASSETS)]


def _owed(state: State, number: int) -> Amounts:
    """Settlement claims in proportion to where the settlement asset lies, collateral where it lies, the rest the
    house's; rounded down as the protocol says. Only for times when nobody is in debt."""
    vault = state.vaults[number]
    held = [state.assets[vault.first_lane + asset].held for asset in range(ASSETS)]
    everywhere = sum(state.assets[other.first_lane].held for other in state.vaults)
    owed: Amounts = Counter()
    rest = list(held)
    for owner in state.owners.values():
        for account in owner.accounts if owner.number else ():
            claim = equity(account)
            assert claim >= 0
            row = [claim * held[0] // everywhere]
            for asset in range(1, ASSETS):
                holding = account.holdings.get(vault.first_lane + asset)
                row.append(holding.amount if holding is not None else 0)
            for asset, atoms in enumerate(row):
                owed[owner.address, asset] += atoms
                rest[asset] -= atoms
        for asset in range(ASSETS):
            owed[owner.address, asset] += owner.acks[vault.first_lane + asset]
    for asset in range(ASSETS):
        owed[TREASURY, asset] += rest[asset]
    return owed


@dataclass
class Remains:
    """Two chains. `ledger` is what was sent to each vault's inbox, by the senders' own records; `spent` once a chain
    is no longer what the operator left, and cannot be put back. `stolen`: the operator's key, which somebody has."""

    folder: Path
    vaults: list[VaultClient]
    books: Books
    ledger: list[list[Message]]
    stolen: Wallet
    spent: bool = False

    # --- the chains ---

    @contextmanager
    def again(self) -> Iterator["Remains"]:
        """The same remains for one test; the chains are put back afterwards."""
        snapshots = [vault.rpc.request("evm_snapshot") for vault in self.vaults]
        yield replace(self, ledger=[list(rows) for rows in self.ledger])
        for vault, snapshot in zip(self.vaults, snapshots, strict=True):
            assert vault.rpc.request("evm_revert", snapshot) is True

    def forget_last_header(self, vault: int) -> None:
        """Reorganise the chain from the block of its last header on; what was sent to it since is gone too."""
        self.spent = True
        client = self.vaults[vault]
        epoch = client.epoch_count()
        block = client.header_block(epoch)
        client.rpc.request("anvil_reorg", client.rpc.block_number() - block + 1, [])
        assert client.epoch_count() == epoch - 1
        self.ledger[vault] = [message for message in self.ledger[vault] if message.block < block]
        assert client.inbox_count() == len(self.ledger[vault])

    def prove_theft(self, vault: int) -> None:
        """The thief signs a second header of the last epoch; whoever shows both to the vault freezes it at once."""
        client = self.vaults[vault]
        posted = rebuild(client, client.epoch_count())
        assert posted is not None
        other = msgspec.structs.replace(posted.header, state_root=bytes(32)).encode()
        signed = [
            (header, self.stolen.sign_digest(post_epoch_digest(client.rpc.chain_id(), client.address, sha256(header))))
            for header in (posted.header_bytes, other)
        ]
        client.prove_double_header(*signed[0], *signed[1])
        assert client.frozen()

    def pass_deadline(self) -> None:
        for vault in self.vaults:
            vault.rpc.request("evm_increaseTime", DEADLINE_S + 1)
            vault.rpc.request("evm_mine")

    # --- who is owed what ---

    def behind(self, vault: int, epoch: int) -> list[tuple[int, Message]]:
        """Deposits that the epoch's header does not count, by number."""
        first = self.books[epoch][vault].consumed
        return [(number, m) for number, m in enumerate(self.ledger[vault]) if number >= first and m.atoms]

    def owed(self, vault: int, epoch: int) -> Amounts:
        """In all, from the first to the last payment, when the vault's escape header is that epoch's."""
        owed = Counter(self.books[epoch][vault].owed)
        for _, message in self.behind(vault, epoch):
            owed[message.owner, message.asset] += message.atoms
        return +owed

    def paid(self, vault: int) -> Amounts:
        """What the wallets of all who ever had to do with the venue hold now; they began with nothing."""
        known = {owner for promises in self.books.values() for owner, _ in promises[vault].owed}
        known |= {message.owner for message in self.ledger[vault]}
        client = self.vaults[vault]
        return +Counter({(w, a): client.token_balance(a, w) for w in sorted(known) for a in range(ASSETS)})

    def came_in(self, vault: int) -> list[int]:
        """Atoms per asset."""
        return [sum(m.atoms for m in self.ledger[vault] if m.asset == asset) for asset in range(ASSETS)]

    # --- leaving ---

    def novate(self, *arguments: str, urls: Sequence[str] = ()) -> "subprocess.Popen[str]":
        """`novate exit` in an empty folder, told the endpoints and the vaults' addresses and nothing else."""
        empty, wallet = self.folder / "empty", self.folder / "stranger.wallet"
        empty.mkdir(exist_ok=True)
        if not wallet.exists():
            Wallet(dev_key(STRANGER)).save(wallet)
        command = [sys.executable, "-m", "clearing.cli", "exit", "--wallet", str(wallet), "--json", *arguments]
        for number, vault in enumerate(self.vaults):
            url = urls[number] if urls else vault.rpc.url
            command += ["--rpc", url, "--vault", "0x" + vault.address.hex()]
        environment = {"PATH": os.defpath, "PYTHONPATH": str(ROOT), "HOME": str(empty)}
        return subprocess.Popen(
            command, cwd=empty, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def leave(self, *arguments: str) -> list[dict[str, Any]]:
        """Run it to its end; per vault what it says it did."""
        process = self.novate(*arguments)
        out, err = process.communicate(timeout=900)
        assert process.returncode == 0, f"{out}\n{err}"
        assert not list((self.folder / "empty").iterdir()), "it keeps nothing"
        rows: list[dict[str, Any]] = json.loads(out)["vaults"]
        return rows

    def leave_until_killed(self, transactions: int) -> None:
        """`novate exit --all`, killed at the moment when a chain took its n-th transaction and it does not know."""
        sent = 0

        def alter(method: str, _params: list[Any], result: Any) -> Any:
            nonlocal sent
            if method == "eth_sendRawTransaction":
                sent += 1
                if sent >= transactions:
                    process.kill()
                    raise Down
            return result

        with ExitStack() as stack:
            urls = [stack.enter_context(altering(vault.rpc.url, alter)) for vault in self.vaults]
            process = self.novate("--all", urls=urls)
            _, err = process.communicate(timeout=900)
        assert process.returncode == -9, err


@contextmanager
def abandoned(folder: Path, nodes: Sequence[ChainNode], members: int, traders: int) -> Iterator[Remains]:
    """A venue with so many members, of whom some trade, whose operator was killed and whose data is gone."""
    venue = Venue(folder, nodes, members, traders)
    try:
        venue.live()
    except BaseException:
        print(venue.operator.log.read_text()[-4_000:])
        raise
    finally:
        venue.end()
    books = read_books(venue)
    compare_with_deposits(books, venue)
    stolen = Wallet.load(venue.data / "keys/operator.secp256k1")
    shutil.rmtree(venue.folder / "venue")
    key = Wallet(dev_key(STRANGER))
    with ExitStack() as stack:
        rpcs = [stack.enter_context(Rpc(node.url)) for node in nodes]
        vaults = [VaultClient(rpc, place.vault.address, key) for rpc, place in zip(rpcs, venue.places, strict=True)]
        yield Remains(folder, vaults, books, venue.ledger, stolen)


# --- what must hold ---


def refused(client: VaultClient, function: str, arguments: tuple[Any, ...]) -> str:
    """The error by which the contract refuses a call; empty when it does not."""
    try:
        client.estimate(function, *arguments)
    except ChainError as error:
        return error.reason
    return ""


def nobody_gets_more(remains: Remains, vault: int, epoch: int) -> None:
    """Every owner tries again, with every header there is and every message of the inbox, and is refused; and so is a
    stranger who does it for everyone."""
    client, tried = remains.vaults[vault], set[bytes]()
    for number in range(1, client.epoch_count() + 1):
        proofs = rebuild(client, number)
        assert proofs is not None
        for owner in proofs.owners():
            _nothing_for(client, proofs, owner, epoch)
            tried.add(owner)
    behind = {index for index, _ in remains.behind(vault, epoch)}
    for message, _, _ in client.inbox(0):
        wanted = "DepositConsumed" if message.index < client.escape_inbox_count() else "WrongMessage"
        wanted = "AlreadyRefunded" if message.index in behind else wanted
        assert refused(client, "refund", refund_arguments(message)) == wanted
        tried.add(message.owner)
    assert tried >= {owner for owner, _ in remains.owed(vault, epoch)}
    report = exit_all(client)
    assert (report.done, report.skipped, report.failed, report.paid) == ([], [], [], [0] * ASSETS)


def _nothing_for(client: VaultClient, proofs: Rebuilt, owner: bytes, epoch: int) -> None:
    """One owner's second escape and second claim with one header are refused. (Whom nothing was left for needed no
    escape, and would be paid nothing by one.)"""
    claim = proofs.claim_of(owner)
    assert claim is not None
    if proofs.epoch != epoch:
        assert refused(client, "escape", claim.arguments()) == "NotEscapeHeader"
    elif client.escaped(owner):
        assert refused(client, "escape", claim.arguments()) == "AlreadyEscaped"
    else:
        assert [client.claimed_of(owner, a) for a in range(ASSETS)] == list(map(add, claim.exits, claim.withdraw_acks))
    reasons = {"HeaderNotFinal"} if proofs.epoch > epoch else {"NothingToClaim", "AlreadyEscaped"}
    assert refused(client, "claim", claim.arguments()) in reasons


def all_are_paid(remains: Remains, vault: int, epoch: int) -> None:
    """To the atom, for each owner and asset; and what remains belongs to nobody."""
    client = remains.vaults[vault]
    assert (client.frozen(), client.escape_epoch()) == (True, epoch)
    owed, paid = remains.owed(vault, epoch), remains.paid(vault)
    assert paid == owed, {key: (owed[key], paid[key]) for key in owed | paid if owed[key] != paid[key]}
    for asset, came_in in enumerate(remains.came_in(vault)):
        assert sum(atoms for (_, a), atoms in paid.items() if a == asset) == came_in
        assert (client.holdings(asset), client.token_balance(asset, client.address)) == (0, DONATION)
