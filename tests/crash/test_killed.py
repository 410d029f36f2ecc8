# SPDX-License-Identifier: GPL-3.0-or-later
"""kill -9 of the venue under load: real processes, members who trade and follow over the stream meanwhile.

Rules shown, by the journal that is left: what was acknowledged is in it, where the receipt says; what was sent is in it
once at most, and once exactly when its member has a receipt; no client order id was placed twice. And by the members:
none is left without an answer, each order of the tape and each fill was told once, and books and accounts are those of
who asks anew.
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from clearing.core.reducer import Reducer
from clearing.model import ids
from clearing.model import outcomes as o
from clearing.model.codec import decode_entry
from clearing.service.layout import Layout
from clearing.service.recover import open_store, recover
from journal.replay import entries
from proofs.log import leaf_hash
from tests.api.venue import PATIENCE_S, ROOT, make_venue
from tests.crash.trader import MARKET
from tests.service.world import MAP_BYTES, World, owner_of, seed_of

MEMBERS = ("alice", "bob")
LIMITS = {
    "NOVATE_CONFIG_API_COMMANDS_PER_SECOND": "100000",
    "NOVATE_CONFIG_API_COMMANDS_BURST": "1000000",
    "NOVATE_CONFIG_API_READS_PER_SECOND": "100000",
    "NOVATE_CONFIG_API_READS_BURST": "1000000",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Venue:
    """`novate operator run` of a directory, on one port whatever happens to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes]
        self._log = (path.parent / "operator.log").open("ab")

    def start(self) -> None:
        command = [sys.executable, "-m", "clearing.cli", "operator", "run", str(self.path), "--port", str(self.port),
                   "--private-port", "0"]  # fmt: skip
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=self._log, stderr=self._log, env=os.environ | LIMITS)
        patiently(self._answers)

    def _answers(self) -> bool:
        assert self.process.poll() is None, f"the operator ended with {self.process.returncode}"
        return httpx.get(self.url + "/v1/health").status_code == 200

    def interface(self) -> int:
        """The process id of the interface, 0 without one."""
        found = subprocess.run(["pgrep", "-P", str(self.process.pid), "-f", "clearing.api"], capture_output=True)
        return int(found.stdout.split()[0]) if found.stdout.split() else 0

    def kill(self, what: str) -> None:
        """SIGKILL to the interface, the sequencer, or both at once; up again when this returns."""
        interface = self.interface()
        if what != "sequencer" and interface:
            os.kill(interface, signal.SIGKILL)
        if what != "interface":
            self.process.kill()
            self.process.wait(PATIENCE_S)
            patiently(lambda: not interface or not Path(f"/proc/{interface}").exists())
            self.start()
        else:
            patiently(lambda: self.interface() not in (0, interface) and self._answers())

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE_S)
        self._log.close()


def patiently(condition: Callable[[], Any]) -> None:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        try:
            if condition():
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.02)
    raise AssertionError("it never came to be")


def trader(venue: Venue, name: str, account: int, seconds: float, salt: int, log: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "tests.crash.trader", venue.url, str(account), seed_of(f"{name} session").hex(),
               str(log), str(seconds), str(salt)]  # fmt: skip
    with log.with_suffix(".err").open("wb") as errors:
        return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stderr=errors)


def lines_of(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def wait_done(members: "list[subprocess.Popen[bytes]]", logs: list[Path]) -> None:
    """Everyone has every answer; then all of them take stock of the same venue."""
    for member, log in zip(members, logs, strict=True):
        patiently(lambda: member.poll() is not None or '"done"' in log.read_text()[-40:])  # noqa: B023
    for member in members:
        assert member.stdin is not None
        member.stdin.write(b"all\n")
        member.stdin.close()
    for member, log in zip(members, logs, strict=True):
        assert member.wait(PATIENCE_S) == 0, log.with_suffix(".err").read_text()


class Journal:
    """What the killed venue has left."""

    def __init__(self, path: Path) -> None:
        with open_store(Layout(path), MAP_BYTES) as store:
            raws = dict(entries(store))  # every hash is checked
            self.hashes = {seq: leaf_hash(raw) for seq, raw in raws.items()}
            self.entries = {seq: decode_entry(raw) for seq, raw in raws.items()}
            self.reducer: Reducer = recover(store, Layout(path)).reducer
        self.seqs: dict[bytes, list[int]] = {}
        for seq, entry in self.entries.items():
            self.seqs.setdefault(entry.envelope, []).append(seq)

    def outcomes(self, kind: type[Any]) -> list[tuple[int, int, Any]]:
        """(seq, place, outcome) of a kind, in order."""
        return [
            (seq, place, outcome)
            for seq, entry in sorted(self.entries.items())
            for place, outcome in enumerate(entry.outcomes)
            if isinstance(outcome, kind)
        ]


def check(journal: Journal, lines: list[dict[str, Any]]) -> Counter[str]:
    """What one member was told, against the journal."""
    sent = {bytes.fromhex(line["envelope"]) for line in lines if line["kind"] == "S"}
    told = {bytes.fromhex(line["envelope"]): line for line in lines if line["kind"] == "R"}
    assert sent == set(told), "somebody was left without an answer"
    for envelope, line in told.items():
        assert journal.seqs.get(envelope) == [line["seq"]], "acknowledged, and not there once"
        assert "0x" + journal.hashes[line["seq"]].hex() == line["entry_hash"]
    return Counter(envelopes=len(sent))


def hurt(tmp_path: Path, kills: list[str], apart_s: float, rng: random.Random) -> Counter[str]:
    """Trade, kill, and look at what is left; what it came to."""
    path = tmp_path / "venue"
    world: World = make_venue(path)
    accounts = [world.reducer.state.owners[owner_of(name)].accounts[0].number for name in MEMBERS]
    venue = Venue(path)
    logs = [tmp_path / f"{name}.log" for name in MEMBERS]
    members: list[subprocess.Popen[bytes]] = []
    try:
        venue.start()
        world.now_us = time.time_ns() // 1_000
        httpx.post(venue.url + "/v1/commands", content=world.price(50_000 * 10_000)).raise_for_status()
        seconds = apart_s * (len(kills) + 1) + 2.0 * len(kills)
        for name, account, log in zip(MEMBERS, accounts, logs, strict=True):
            members.append(trader(venue, name, account, seconds, rng.randrange(1 << 30), log))
        patiently(lambda: all(log.exists() and '"R"' in log.read_text() for log in logs))
        for what in kills:
            time.sleep(apart_s * rng.uniform(0.5, 1.5))
            venue.kill(what)
        wait_done(members, logs)
        assert venue.stop() == 0
    finally:
        for member in members:
            if member.poll() is None:
                member.kill()
            member.wait(PATIENCE_S)
        venue.end()
    return agree(Journal(path), [lines_of(log) for log in logs], accounts)


def agree(journal: Journal, told: list[list[dict[str, Any]]], accounts: list[int]) -> Counter[str]:
    """The members' stories and the journal are one; what it came to."""
    came = Counter[str]()
    placed = Counter((outcome.account, outcome.client_order_id) for _, _, outcome in journal.outcomes(o.OrderPlaced))
    assert set(placed.values()) == {1}, "a client order id was placed twice"
    tape = [(seq, place) for seq, place, trade in journal.outcomes(o.TradeNovated) if trade.instrument == MARKET]
    state = journal.reducer.state
    for lines, account in zip(told, accounts, strict=True):
        came += check(journal, lines)
        end = lines[-1]
        assert end["kind"] == "end"
        assert [tuple(place) for place in end["trades"]] == tape, "the tape has holes or repeats"
        mine = [
            (seq, place) for seq, place, trade in journal.outcomes(o.TradeNovated)
            for who in (trade.maker_account, trade.taker_account) if who == account
        ]  # fmt: skip
        assert sorted(tuple(place) for place in end["fills"]) == sorted(mine)
        resting = sorted(order.client_order_id for order in state.accounts[account].orders.values())
        assert end["orders"] == end["rest"] == resting
        for side, levels in ((ids.BUY, end["bids"]), (ids.SELL, end["asks"])):
            sizes: Counter[int] = Counter()
            for order in state.orders.values():
                if order.side == side:
                    sizes[order.price] += order.open_lots
            assert {level[0]: level[1] for level in levels} == dict(sizes)
        came["connections"] += end["connections"]
    came["trades"] = len(tape)
    return came


@pytest.mark.slow
def test_killed_once_each(tmp_path: Path) -> None:
    """The interface, the sequencer, and both at the same moment."""
    came = hurt(tmp_path, ["interface", "sequencer", "both"], 0.6, random.Random(1))
    assert came["envelopes"] > 50 and came["trades"] > 10 and came["connections"] >= 2 * 2


@pytest.mark.slow
def test_killed_again_and_again(tmp_path: Path, rng: random.Random) -> None:
    """Twelve times at random moments."""
    kills = [rng.choice(["interface", "sequencer", "both"]) for _ in range(12)]
    came = hurt(tmp_path, kills, 1.5, rng)
    print(dict(came))
    assert came["envelopes"] > 500 and came["connections"] >= 2 * 4
