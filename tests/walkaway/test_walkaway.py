# SPDX-License-Identifier: GPL-3.0-or-later
"""Everybody leaves after the operator was killed in the middle of an epoch and its data deleted.

Rule: with two RPC endpoints, two addresses and a stranger's key for the fees, every owner gets on each chain exactly
what that chain's last final header promised, less what was paid before, and the deposits which it did not consume; what
is paid is what is owed, and nothing remains that belongs to somebody. Nobody gets anything a second time.
"""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from clearing.chain.embedded import dev_key
from clearing.chain.errors import ChainError
from clearing.chain.rpc import Rpc
from clearing.chain.vault import VaultClient
from clearing.chain.wallet import Wallet
from clearing.exit.rebuild import rebuild
from tests.nodes import ChainNode, start_node
from tests.service.chains import DEADLINE_S

ROOT = Path(__file__).resolve().parents[2]
CHAINS = (31_337, 31_338)
STRANGER = 7


@dataclass
class Remains:
    """What is left of a venue: two chains, and the dead operator's books to compare with."""

    folder: Path
    books: dict[str, Any]
    vaults: list[VaultClient]
    wallet: Path

    def arguments(self) -> list[str]:
        places = [("--rpc", vault.rpc.url, "--vault", "0x" + vault.address.hex()) for vault in self.vaults]
        return [part for place in places for part in place]

    def novate(self, *arguments: str) -> "subprocess.Popen[str]":
        """The command line in an empty folder."""
        empty = self.folder / "empty"
        empty.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "clearing.cli", *arguments]
        environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(empty)}
        return subprocess.Popen(
            command, cwd=empty, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def leave(self) -> dict[str, Any]:
        process = self.novate("exit", *self.arguments(), "--all", "--wallet", str(self.wallet), "--json")
        out, err = process.communicate(timeout=900)
        assert process.returncode == 0, f"{out}\n{err}"
        answer: dict[str, Any] = json.loads(out)
        return answer

    def owed(self, vault: int, epoch: int) -> Counter[str]:
        """By owner, from the operator's books: the header's promise, and deposits behind it."""
        promised = self.books["epochs"][str(epoch)][vault]
        owed = Counter({owner: sum(pair) for owner, pair in promised["leaves"].items()})
        for owner, atoms in self._deposits_behind(vault, promised["consumed"]):
            owed[owner] += atoms
        return owed

    def _deposits_behind(self, vault: int, consumed: int) -> list[tuple[str, int]]:
        """Deposits are the only messages up to the last header, so their numbers are the inbox's."""
        return [(owner, atoms) for owner, atoms in self.books["deposits"][vault][consumed:]]

    def paid(self, vault: int) -> Counter[str]:
        """What each owner's wallet holds now; all of them began with nothing."""
        names = {owner for owner, _ in self.books["deposits"][vault]} | set(self.books["epochs"]["1"][vault]["leaves"])
        for promised in self.books["epochs"].values():
            names |= set(promised[vault]["leaves"])
        found = Counter({name: self.vaults[vault].token_balance(0, bytes.fromhex(name)) for name in names})
        return +found

    def forget_last_header(self) -> None:
        """The second chain is reorganised to before its last header; what was sent to it since is undone."""
        cut = self.books["cut"]
        assert self.vaults[1].rpc.request("evm_revert", cut["snapshot"]) is True
        self.books["deposits"][1] = self.books["deposits"][1][: cut["deposits"]]

    def pass_deadline(self) -> None:
        for vault in self.vaults:
            vault.rpc.request("evm_increaseTime", DEADLINE_S + 1)
            vault.rpc.request("evm_mine")


@pytest.fixture
def chains() -> Iterator[list[ChainNode]]:
    running = [start_node(chain_id=chain) for chain in CHAINS]
    yield running
    for node in running:
        node.stop()


@contextmanager
def abandoned(folder: Path, chains: list[ChainNode], members: int) -> Iterator[Remains]:
    """A venue with so many members whose operator was killed and whose data is gone."""
    data, books = folder / "operator", folder / "books.json"
    command = [sys.executable, "-m", "tests.walkaway.operator", str(data), str(books), str(members)]
    log = (folder / "operator.log").open("w")
    process = subprocess.Popen([*command, *(node.url for node in chains)], cwd=ROOT, stdout=log, stderr=log)
    try:
        while not books.exists():
            assert process.poll() is None, (folder / "operator.log").read_text()[-4_000:]
            time.sleep(0.05)
        time.sleep(0.3)  # commands that are acknowledged and in no epoch
        assert process.poll() is None, (folder / "operator.log").read_text()[-4_000:]
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        log.close()
    shutil.rmtree(data)
    written = json.loads(books.read_text())
    vaults = [
        VaultClient(Rpc(node.url), bytes.fromhex(address), Wallet(dev_key(STRANGER)))
        for node, (_, address) in zip(chains, written["vaults"], strict=True)
    ]
    wallet = folder / "stranger.wallet"
    Wallet(dev_key(STRANGER)).save(wallet)
    try:
        yield Remains(folder, written, vaults, wallet)
    finally:
        for vault in vaults:
            vault.rpc.close()


def everyone_leaves(remains: Remains, escapes: list[int], interrupt_after: int = 0) -> None:
    """All of it, with the escape epoch expected of each vault; a run may be killed after so many payments."""
    remains.pass_deadline()
    if interrupt_after:
        _killed_midway(remains, interrupt_after)
    remains.leave()
    for vault, epoch in enumerate(escapes):
        client = remains.vaults[vault]
        assert (client.frozen(), client.escape_epoch()) == (True, epoch)
        owed, paid = remains.owed(vault, epoch), remains.paid(vault)
        assert paid == +owed, {name: (owed[name], paid[name]) for name in owed | paid if owed[name] != paid[name]}
        came_in = sum(atoms for _, atoms in remains.books["deposits"][vault])
        assert sum(paid.values()) + client.holdings(0) == came_in
        assert client.holdings(0) == client.token_balance(0, client.address)
    _nobody_gets_more(remains)


def _killed_midway(remains: Remains, payments: int) -> None:
    process = remains.novate("exit", *remains.arguments(), "--all", "--wallet", str(remains.wallet))
    while sum(map(len, map(remains.paid, range(2)))) < payments:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.kill()
    process.communicate()


def _nobody_gets_more(remains: Remains) -> None:
    """The same command pays nothing again, and each contract refuses the second escape of everyone."""
    before = [remains.paid(vault) for vault in range(2)]
    again = remains.leave()
    assert all(atoms == "0" for row in again["vaults"] for atoms in row["paid_atoms"]), again
    for client in remains.vaults:
        proofs = rebuild(client)
        assert proofs is not None
        for owner in list(proofs.owners())[:5]:
            claim = proofs.claim_of(owner)
            assert claim is not None
            with pytest.raises(ChainError, match="AlreadyEscaped"):
                client.escape(claim)
    assert [remains.paid(vault) for vault in range(2)] == before


def remainder(remains: Remains) -> list[int]:
    return [client.holdings(0) for client in remains.vaults]


def test_everyone_walks_away(tmp_path: Path, chains: list[ChainNode]) -> None:
    """A dozen members, both chains at their last header: what is paid is what is owed, and nothing is left."""
    with abandoned(tmp_path, chains, 12) as remains:
        everyone_leaves(remains, [3, 3])
        assert remainder(remains) == [0, 0]


def test_everyone_walks_away_after_a_reorganisation(tmp_path: Path, chains: list[ChainNode]) -> None:
    """One chain forgets its last header: its owners leave with the one before, and with the deposits behind that."""
    with abandoned(tmp_path, chains, 12) as remains:
        remains.forget_last_header()
        everyone_leaves(remains, [3, 2])


@pytest.mark.slow
def test_a_thousand_walk_away(tmp_path: Path, chains: list[ChainNode]) -> None:
    """As above with a thousand accounts, and with the exit itself killed on the way and started again."""
    with abandoned(tmp_path, chains, 1_000) as remains:
        everyone_leaves(remains, [3, 3], interrupt_after=250)
        assert remainder(remains) == [0, 0]


@pytest.mark.slow
def test_a_thousand_walk_away_after_a_reorganisation(tmp_path: Path, chains: list[ChainNode]) -> None:
    with abandoned(tmp_path, chains, 1_000) as remains:
        remains.forget_last_header()
        everyone_leaves(remains, [3, 2])
