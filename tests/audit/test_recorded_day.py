# SPDX-License-Identifier: GPL-3.0-or-later
"""One real trading day, audited as a stranger would: a real vault holds the deposits, the operator's own parts take in
the day and post its epochs, the journal is published and mirrored over HTTP, and mirror and chain are all that the
auditor has."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from clearing.chain.deploy import VaultParams, deploy_token, deploy_vault, mint
from clearing.chain.embedded import dev_key
from clearing.chain.rpc import Rpc
from clearing.chain.transact import Sender
from clearing.chain.vault import VaultClient
from clearing.chain.wallet import Wallet
from clearing.ingest import driver
from clearing.ingest.events import Event, Source
from clearing.ingest.summary import Summary
from clearing.ingest.venue import DEPOSITS_ATOMS, Venue
from clearing.model import commands as c
from clearing.model.codec import decode_entry, encode_entry
from clearing.model.outcomes import Outcome, TradeNovated
from clearing.service.config import VaultConfig
from clearing.service.layout import Layout, read_key
from clearing.service.node import Node
from clearing.service.setup import make_genesis
from journal import Store
from journal.block import batches
from journal.replay import entries
from journal.tiles import publish
from proofs import checkpoint as notes
from proofs.tiles import decode_bundle
from tests.cli.venue import command_line
from tests.ingest.data import CME_DAY, recorded
from tests.nodes import ChainNode, start_node
from tests.service.world import address_of
from tests.tlog.logs import serving
from tests.tlog.test_commands import Quiet

MEMBERS = 10
DEADLINE_S = 7 * 86_400


class Moved:
    """A recorded day as if it began now, so that a chain of today has its hours."""

    def __init__(self, source: Source, start_us: int) -> None:
        self.symbol, self._source, self._start_us = source.symbol, source, start_us

    @property
    def progress_ppm(self) -> int:
        return self._source.progress_ppm

    def events(self) -> Iterator[Event]:
        shift = 0
        for event in self._source.events():
            shift = shift or self._start_us - event.time_us
            yield replace(event, time_us=event.time_us + shift)


class Funded(Venue):
    """The venue of recorded flow, with a real vault and real deposits of its members."""

    def __init__(self, symbol: str, members: int, rpc: Rpc) -> None:
        super().__init__(symbol, members)
        payer = Wallet(dev_key(0))
        operator = address_of(self.keys.operator_secp256k1)
        Sender(rpc, payer).send(operator, b"", 10**19)
        token = deploy_token(rpc, payer)
        mint(rpc, payer, token, payer.address, DEPOSITS_ATOMS)
        params = VaultParams(self.deployment.deployment, operator, self.deployment.treasury, [token], DEADLINE_S, 60)
        self.vault = deploy_vault(rpc, payer, params)
        self.vault.approve(0, DEPOSITS_ATOMS)
        for owner in self._owners:
            self.vault.send("deposit", 0, DEPOSITS_ATOMS // members, owner)
        spec = c.Vault(rpc.chain_id(), self.vault.address, (token,))
        self.deployment = dataclasses.replace(self.deployment, vaults=(spec,))
        self.genesis = make_genesis(self.deployment, self.keys)

    def opening(self, now_us: int) -> list[bytes]:
        """The chain's messages in place of made-up ones."""
        made = super().opening(now_us)
        self._operator_nonce = 0
        found = [event.message for event in self.vault.inbox()]
        deposits = [c.ConsumeInbox(0, m.index, m.kind, m.owner, m.asset, m.amount, m.l1_time, m.data) for m in found]
        return [self.operate(deposits), *made[-self.members :]]


class Day(NamedTuple):
    """The day after it was journalled, posted, published and mirrored."""

    summary: Summary
    rpc: Rpc
    vault: VaultClient
    data: Path
    mirror: Path

    def audited(self, journal: Path | str, *more: str) -> Any:
        """`novate audit run`: (status, JSON, stderr)."""
        vault = "0x" + self.vault.address.hex()
        arguments = ("--rpc", self.rpc.url, "--vault", vault, "--journal", str(journal), "--jobs", "2", *more)
        done = command_line("audit", "run", *arguments, "--json")
        return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


def take_in(rpc: Rpc, data: Path) -> tuple[Summary, VaultClient]:
    """The whole day into a node's directory; its closes name a block of the chain."""
    begin = rpc.time_s() + 60
    made: list[Funded] = []

    def venue(symbol: str, members: int) -> Funded:
        made.append(Funded(symbol, members, rpc))
        block = rpc.block()
        patch.setattr(driver, "_L1_BLOCK", ((block.number, block.hash),))
        return made[-1]

    opened = driver.open_source
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "Venue", venue)
        patch.setattr(driver, "open_source", lambda path, fmt: Moved(opened(path, fmt), begin * 1_000_000))
        summary = driver.ingest(recorded(CME_DAY), "dbn", data, members=MEMBERS)
    return summary, made[0].vault


def post(rpc: Rpc, vault: VaultClient, data: Path, begun_s: int) -> None:
    """A real node posts every epoch, when the chain's clock has reached the day's end, and goes on with its own."""
    with Store.open(Layout(data).journal, read_only=True) as store:
        (last,) = [decode_entry(raw).time_us for _, raw in entries(store, store.head().next_seq - 1)]
    rpc.request("evm_increaseTime", last // 1_000_000 - begun_s + 60)
    rpc.request("evm_mine")
    node = Node(data, vaults=(VaultConfig((rpc.url,), 0),), log=Quiet())
    try:
        node.poster.post_missing()
        assert vault.epoch_count() >= 3
    finally:
        node.close()


@pytest.fixture(scope="module")
def evm() -> Iterator[ChainNode]:
    running = start_node()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def day(evm: ChainNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    recorded(CME_DAY)
    folder, rpc = tmp_path_factory.mktemp("day"), Rpc(evm.url)
    try:
        begun_s = rpc.time_s()
        summary, vault = take_in(rpc, folder / "data")
        post(rpc, vault, folder / "data", begun_s)
        published = command_line("journal", "publish", str(folder / "log"), "--data", str(folder / "data"))
        assert published.returncode == 0, published.stderr
        with serving(folder / "log") as web:
            mirrored = command_line("journal", "mirror", web.url, str(folder / "mirror"))
        assert mirrored.returncode == 0, mirrored.stderr
        shutil.rmtree(folder / "log")
        yield Day(summary, rpc, vault, folder / "data", folder / "mirror")
    finally:
        rpc.close()


@pytest.mark.slow
def test_the_day_is_audited_from_its_mirror_and_its_chain(day: Day) -> None:
    """Every signature, every outcome, every posted header, the money at each epoch, the times and the checkpoint;
    the roots are those that the day's ingest reported."""
    status, found, told = day.audited(day.mirror)
    assert status == 0, told
    assert found["verdict"] == "agrees" and found["entries"] >= day.summary.journal_size
    assert found["signatures_checked"] and found["checkpoint"]["ok"]
    count = found["vault_table"][0]["epochs"]
    table = found["epoch_table"][:count]
    assert count >= day.summary.epochs >= 3 and all(epoch["vaults"][0]["posted"] for epoch in table)
    end = table[day.summary.epochs - 1]
    assert (end["journal_root"], end["state_root"]) == ("0x" + day.summary.root, "0x" + day.summary.state_root)
    assert [row["ok"] for row in found["balances"]] == [True] * count and len(found["times"]) == count
    assert {row["promised_atoms"] for row in found["balances"]} == {str(DEPOSITS_ATOMS // MEMBERS * MEMBERS)}


@pytest.mark.slow
def test_a_mirror_with_a_changed_byte_is_refused_at_its_bundle(day: Day, tmp_path: Path) -> None:
    """The bundle's place in the log, and the entry in it whose bytes are not those that the tiles commit to."""
    tampered = tmp_path / "mirror"
    shutil.copytree(day.mirror, tampered)
    bundle = tampered / "tile" / "entries" / "100"
    data = bytearray(bundle.read_bytes())
    at = sum(len(entry) + 2 for entry in decode_bundle(bytes(data), 256)[:77]) + 2  # the first byte of its 78th entry
    data[at + 40] ^= 0x20
    bundle.write_bytes(bytes(data))
    status, found, told = day.audited(tampered)
    assert (status, found) == (3, None)
    assert "LOG_INVALID" in told and str(100 * 256 + 77) in told


@pytest.mark.slow
def test_a_rewritten_day_under_the_operators_own_signature_diverges_at_its_fill(day: Day, tmp_path: Path) -> None:
    """One fill's price, with every hash, tile and signature made anew: its entry and field, both sides, status 5."""
    with Store.open(Layout(day.data).journal, read_only=True) as store:
        data = [raw for _, raw in entries(store)]
    seq, price = next(
        (seq, outcome.price_atoms)
        for seq, raw in enumerate(data)
        for outcome in decode_entry(raw).outcomes
        if isinstance(outcome, TradeNovated)
    )
    entry = decode_entry(data[seq])
    outcomes: list[Outcome] = [
        replace(x, price_atoms=price + 1) if isinstance(x, TradeNovated) else x for x in entry.outcomes
    ]
    data[seq] = encode_entry(seq, entry.time_us, entry.envelope, outcomes)
    with Store.create(tmp_path / "journal") as store:
        for part in batches(data):
            store.append(part, store.head())
        tip = notes.parse(Layout(day.data).checkpoint.read_text()).checkpoint
        key = read_key(Layout(day.data).keys / "operator.ed25519")
        publish(store, tmp_path / "log", notes.sign(notes.Checkpoint(tip.origin, len(data), store.root()), key))
    status, found, told = day.audited(tmp_path / "log", "--no-signatures")
    assert (status, found["verdict"], "REPLAY_DIVERGED" in told) == (5, "diverges", True)
    detail = found["divergence_detail"]
    assert (detail["seq"], detail["what"]) == (seq, "OUTCOMES")
    assert f"TradeNovated.price_atoms: the journal says {price + 1}, replay {price}" in detail["fields"][0]
