# SPDX-License-Identifier: GPL-3.0-or-later
"""The keeper against a real node: it follows over HTTP or from disk, proposes, and closes epochs in stress."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog

from clearing.client.http import ApiClient
from clearing.client.session import Session
from clearing.core.margin import assess
from clearing.core.snapshot import dump
from clearing.model import commands as c
from clearing.model import ids
from clearing.model.codec import body_hash, encode
from clearing.model.errors import NovateError
from clearing.model.params import Instrument, Params
from clearing.model.signature import public_key_of, sign, sign_owner
from clearing.service.keeper import (
    EmergencyEpochs,
    Follower,
    Keeper,
    Settings,
    from_api,
    from_directory,
    stress,
)
from clearing.service.layout import Layout, read_key, write_key
from clearing.service.node import Node
from journal.replay import entries
from tests.api.beside import Beside
from tests.service.chains import Deployed
from tests.service.test_chain import deployed, evm  # noqa: F401 - fixtures
from tests.service.world import BTC, DEPLOYMENT, INSTRUMENTS, USD, make_data_dir, order, owner_of, seed_of

SILENT = structlog.wrap_logger(structlog.ReturnLogger())
ROOT = Path(__file__).resolve().parents[2]
DAY = 86_400_000_000
PRICE = 50_000 * 10_000  # atoms per lot


def now_us() -> int:
    return time.time_ns() // 1_000


@dataclass
class Served:
    """A node that serves HTTP, without its own ticker and poster unless `background`."""

    path: Path
    node: Node
    beside: Beside
    api: ApiClient
    head: bytes = bytes(32)
    stopped: bool = False

    @classmethod
    def start(cls, path: Path, background: bool = False, **choices: Any) -> Served:
        node = Node(path, log=SILENT, **choices)
        beside = Beside(node)
        if background:
            node.start_background()
        return cls(path, node, beside, ApiClient(beside.url))

    def stop(self) -> None:
        if self.stopped:
            return
        self.stopped = True
        self.api.close()
        self.beside.stop()
        self.node.close()

    def open(self, name: str, atoms: int) -> Session:
        """Fund a member, register the session key, open a session."""
        index = self.api.status()["inbox_count"]
        self.node.operator.run(c.ConsumeInbox(0, index, ids.INBOX_DEPOSIT, owner_of(name), 0, atoms, 1, bytes(32)))
        key = public_key_of(seed_of(f"{name} session"))
        action = c.RegisterKey(owner_of(name), key, ids.SCOPE_ALL, ids.MAX_TIME_US, 1, bytes(32))
        self.api.submit(sign_owner(DEPLOYMENT, action, seed_of(name)))
        account = self.api.owner(owner_of(name))["accounts"][0]["account"]
        return Session(self.api, DEPLOYMENT, account, seed_of(f"{name} session"))

    def price(self, atoms: int, expiry_us: int = 0) -> None:
        """A price, and with an expiry its forward and 60 % of vol as well."""
        surface = c.Surface(BTC, expiry_us, atoms, 1, 0, ids.UNIT, ids.UNIT, (PRICE,), (6 * ids.UNIT // 10,))
        surfaces = (surface,) if expiry_us else ()
        body = c.OracleUpdate(DEPLOYMENT, 0, self.head, now_us(), (c.Price(BTC, atoms, 1),), surfaces)
        seed = read_key(Layout(self.path).keys / "publisher-0.ed25519")
        assert not self.api.submit(sign(body, seed))["rejected"]
        self.head = body_hash(encode(body))

    def keeper(self, session: Session, settings: Settings, **more: Any) -> Keeper:
        return Keeper(Follower(from_api(self.api)), session, settings, SILENT, **more)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    path = tmp_path / "venue"
    make_data_dir(path, params=Params(oracle_max_age_us=3_600_000_000))
    running = Served.start(path)
    yield running
    running.stop()


def below_maintenance(served: Served) -> tuple[Session, Session]:
    """Alice is long 10 lots with 5 % of margin, the mark falls by 3 %, and Bob bids there; returns her and Kim, who
    keeps watch."""
    bob = served.open("bob", 10**6 * USD)
    alice = served.open("alice", 260 * USD)
    kim = served.open("kim", USD)
    served.price(PRICE)
    assert not bob.submit(order(ids.SELL, PRICE, 10))["rejected"]
    assert not alice.submit(order(ids.BUY, PRICE, 10))["rejected"]
    served.price(PRICE * 975 // 1_000)
    assert not bob.submit(order(ids.BUY, PRICE * 975 // 1_000, 10, coid=2))["rejected"]
    return alice, kim


def position(served: Served, session: Session) -> int:
    return sum(int(row["size_lots"]) for row in served.api.account(session.account)["positions"])


@pytest.mark.slow
def test_a_keeper_liquidates_without_the_operator(served: Served) -> None:
    """Nobody at the operator sweeps here. Kim's process finds Alice, proposes with her own key, and is done when she
    is healthy; an untouched venue sees no command at all."""
    alice, kim = below_maintenance(served)
    keeper = served.keeper(kim, Settings())
    assert keeper.turn() == 1
    assert 0 < position(served, alice) < 10
    found = served.api.account(alice.account)
    assert int(found["equity_atoms"]) >= int(found["margin_maintenance_atoms"])
    size = served.api.status()["size"]
    assert [keeper.turn() for _ in range(3)] == [0, 0, 0]
    assert served.api.status()["size"] == size


def test_both_sources_give_the_state_of_the_node(served: Served) -> None:
    """Over HTTP in steps, and from the directory afterwards; margin and all else to the byte."""
    reader = Follower(from_api(served.api))
    assert reader.turn() == 1
    assert reader.turn() == 0
    alice, _ = below_maintenance(served)
    assert reader.turn() > 0
    assert reader.state is not None
    assert reader.size == served.api.status()["size"]
    assert assess(reader.state.accounts[alice.account])[0] == int(served.api.account(alice.account)["equity_atoms"])
    live = dump(served.node.pipeline.reducer.state)
    assert dump(reader.state) == live
    served.stop()
    from_disk = Follower(from_directory(served.path))
    assert from_disk.turn() == reader.size
    assert from_disk.turn() == 0
    assert from_disk.state is not None
    assert dump(from_disk.state) == live


def test_a_forged_journal_ends_the_keeper(served: Served) -> None:
    """One changed byte in an outcome: the keeper stops and says at which entry, and signs nothing more."""
    alice, kim = below_maintenance(served)
    rows = list(entries(served.node.store))
    seq, data = rows[-2]
    rows[-2] = (seq, data[:-1] + bytes([data[-1] ^ 1]))
    keeper = Keeper(Follower(lambda start: iter(rows[start:])), kim, Settings(), SILENT)
    size = served.api.status()["size"]
    with pytest.raises(NovateError, match=f"JOURNAL_DIVERGED: entry {seq}"):
        keeper.run(threading.Event(), 0.01)
    assert served.api.status()["size"] == size
    assert position(served, alice) == 10


def test_stress_is_what_the_settings_say(served: Served) -> None:
    """One of two holders below maintenance is 50 %; the fund is empty."""
    below_maintenance(served)
    state = served.node.pipeline.reducer.state
    assert stress(state, 1, Settings()) == ""
    assert stress(state, 1, Settings(stress_ppm=500_000)) == "1 of 2 accounts below maintenance"
    assert stress(state, 1, Settings(stress_ppm=500_001)) == ""
    assert stress(state, 0, Settings(stress_ppm=1)) == ""
    assert stress(state, 0, Settings(fund_floor_atoms=1)) == "insurance fund 0 below 1 atoms"


def test_in_stress_an_epoch_is_closed_and_recorded_at_once(tmp_path: Path) -> None:
    """The node's own epochs are off. The keeper signs CloseEpoch with the operator's key; the node writes the record
    and counts it as posted, as it does for every close. Not a second one until the interval has passed."""
    path = tmp_path / "venue"
    make_data_dir(path, params=Params(oracle_max_age_us=3_600_000_000))
    served = Served.start(path, background=True)
    try:
        kim = served.open("kim", USD)
        clock = [now_us()]
        emergency = EmergencyEpochs(path, served.api)
        settings = Settings(fund_floor_atoms=1, emergency_seconds=60)
        keeper = served.keeper(kim, settings, emergency=emergency, clock_us=lambda: clock[0])
        assert keeper.turn() == 1
        _await_posted(served, 1)
        assert keeper.turn() == 0
        clock[0] += 60 * 1_000_000
        assert keeper.turn() == 1
        _await_posted(served, 2)
        served.node.operator.run(c.ExpireOrders())  # the node's own nonces go on
    finally:
        served.stop()


@pytest.mark.slow
def test_a_keeper_bids_for_what_it_can_margin(tmp_path: Path) -> None:
    """Alice is short calls and the price rises through her maintenance: one turn proposes, the next bids with Kim's
    own margin, the third finds nothing to do. What Kim took makes Alice healthy again."""
    path = tmp_path / "venue"
    expiry = now_us() // DAY * DAY + 60 * DAY
    call = Instrument(7, "BTC-CALL", "BTC", 1_000, 10**6, 50_000, 30_000, ids.OPTION, expiry, PRICE, True)
    params = Params(oracle_max_age_us=3_600_000_000)
    make_data_dir(path, params=params, instruments=(*INSTRUMENTS, call))
    served = Served.start(path)
    try:
        bob, kim = served.open("bob", 10**7 * USD), served.open("kim", 10**6 * USD)
        alice = served.open("alice", 26_000 * USD)
        served.price(PRICE, expiry)
        mark = served.node.pipeline.reducer.state.instruments[7].mark // 1_000 * 1_000
        for session, side in ((bob, ids.BUY), (alice, ids.SELL)):
            assert not session.submit(c.PlaceOrder(7, side, mark, 100, 1))["rejected"]
        keeper = served.keeper(kim, Settings(bid=True))
        spot = PRICE
        while not (submitted := keeper.turn()):
            spot += PRICE // 200
            served.price(spot, expiry)
        assert submitted == 1
        assert served.api.account(alice.account)["auction"]
        assert keeper.turn() == 1
        assert keeper.turn() == 0
        found = served.api.account(alice.account)
        assert not found["auction"]
        assert int(found["equity_atoms"]) >= int(found["margin_maintenance_atoms"])
        assert -100 < position(served, alice) < 0
        assert position(served, alice) + position(served, kim) == -100
    finally:
        served.stop()


def test_an_emergency_epoch_reaches_the_chain_at_once(request: pytest.FixtureRequest) -> None:
    """Against a real vault, with the node's own epochs off: the header that the keeper caused is the vault's next."""
    on_chain: Deployed = request.getfixturevalue("deployed")
    served = Served.start(on_chain.path, background=True, rpc_url=on_chain.rpc.url)
    try:
        on_chain.deposit("kim", USD)
        assert served.node.intake is not None
        served.node.intake.turn()
        state = served.node.pipeline.reducer.state
        account = state.owners[owner_of("kim")].accounts[0].number
        session = Session(served.api, DEPLOYMENT, account, seed_of("kim session"))
        emergency = EmergencyEpochs(on_chain.path, served.api, (on_chain.rpc.url,))
        assert served.keeper(session, Settings(fund_floor_atoms=1), emergency=emergency).turn() == 1
        _await_posted(served, 1)
        assert on_chain.vault.epoch_count() == 1
        assert on_chain.vault.header_hash(1) == served.node.book.last_hashes(1)[0]
    finally:
        served.stop()


def _await_posted(served: Served, epoch: int) -> None:
    deadline = time.monotonic() + 10
    while served.api.status()["posted_epoch"] < epoch:
        assert time.monotonic() < deadline, served.api.status()
        time.sleep(0.01)
    assert served.api.status()["epoch"] == epoch


@pytest.mark.slow
def test_the_command_line_runs_a_process_of_its_own(served: Served, tmp_path: Path) -> None:
    """It follows the journal's directory beside the node that writes it, acts, and leaves at SIGTERM."""
    alice, kim = below_maintenance(served)
    key = tmp_path / "kim.key"
    write_key(key, seed_of("kim session"))
    command = [sys.executable, "-m", "clearing.cli", "keeper", "run", "--api", served.api.url, "--bid"]
    command += ["--account", str(kim.account), "--key", str(key), "--journal", str(served.path), "--interval", "0.05"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 20
        while position(served, alice) == 10:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0, log
    events = [json.loads(line)["event"] for line in log.splitlines()]
    assert events == ["watching", "proposed", "stopped"]
