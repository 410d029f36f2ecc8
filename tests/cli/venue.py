# SPDX-License-Identifier: GPL-3.0-or-later
"""A venue that is real and used through its command line only: an embedded EVM, an operator's process,
and people with wallets who know NOVATE_* variables, as README tells them to.

Rule: `Venue.run` holds every command to what all of them promise, whatever the test is about: no
traceback; a failure ends in one line `novate: CODE: message`, a usage error in help; JSON when asked.
"""

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clearing.chain.embedded import start_embedded
from clearing.chain.rpc import Rpc
from clearing.cli.stage import Operator, wait_for

ROOT = Path(__file__).resolve().parents[2]
EPOCH_SECONDS = 2
WINDOW_S = 3_600
DEADLINE_S = 604_800
DEAD = "http://127.0.0.1:9"
FAILURE = re.compile(r"novate: [A-Z][A-Z0-9_]+: \S.+")


@dataclass
class Result:
    """A finished command."""

    status: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)

    @property
    def code(self) -> str:
        """The stable code of a failure."""
        return self.err.strip().splitlines()[-1].split(":")[1].strip()


@dataclass
class Person:
    """Someone with a wallet, a session key, and an account once the deposit has arrived."""

    wallet: Path
    key: Path
    address: str
    account: int = -1

    def env(self) -> dict[str, str]:
        known = {"NOVATE_WALLET": str(self.wallet), "NOVATE_KEY": str(self.key)}
        return known | ({"NOVATE_ACCOUNT": str(self.account)} if self.account >= 0 else {})


def command_line(
    *arguments: str, env: dict[str, str] | None = None, cwd: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    """`novate` as a process that knows its arguments and `env`, and nothing of the caller's NOVATE_*."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NOVATE_")}
    command = [sys.executable, "-m", "clearing.cli", *arguments]
    given = clean | {"PYTHONPATH": str(ROOT)} | (env or {})
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd or ROOT, env=given, timeout=120)


def checked(done: "subprocess.CompletedProcess[str]", as_json: bool) -> Result:
    """What every command promises."""
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    failures = [line for line in done.stderr.splitlines() if line.startswith("novate: ")]
    if done.returncode == 2:
        assert "Usage: novate" in done.stderr and "Error: " in done.stderr, done.stderr
    elif done.returncode:
        assert len(failures) == 1 and FAILURE.fullmatch(failures[0]), done.stderr
        assert done.stderr.strip().splitlines()[-1] == failures[0], done.stderr
    else:
        assert failures == []
        if as_json:
            assert isinstance(json.loads(done.stdout), dict)
    return Result(done.returncode, done.stdout, done.stderr)


class Venue:
    """`run` a command as somebody; `live` and `stop` the operator."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.env: dict[str, str] = {}
        self.operator: Operator | None = None
        self._starts = 0
        self._priced_s = -1e9
        self.payer, self.alice, self.bob = (self._person(name) for name in ("payer", "alice", "bob"))
        keys = self.ok("operator", "keys", str(self.data), "--json").data
        people = (self.payer, self.alice, self.bob)
        funded = [bytes.fromhex(address[2:]) for address in (*(p.address for p in people), keys["operator_address"])]
        self.evm = start_embedded(fund=funded, log_path=folder / "chain.log", idle_exit_s=300)
        self.rpc = Rpc(self.evm.url)
        self.env["NOVATE_RPC"] = self.evm.url
        try:
            self._open(keys["operator_address"])
        except BaseException:
            self.close()
            raise

    def _person(self, name: str) -> Person:
        wallet, key = self.folder / f"{name}.wallet", self.folder / f"{name}.key"
        address = self.ok("key", "new", str(wallet), "--wallet", "--json").data["address"]
        self.ok("key", "new", str(key))
        return Person(wallet, key, address)

    def _open(self, operator: str) -> None:
        self.deployed = self.ok(
            "vault", "deploy", "--operator", operator, "--treasury", self.payer.address, "--json",
            "--window", str(WINDOW_S), "--deadline", str(DEADLINE_S), who=self.payer,
        ).data  # fmt: skip
        self.env["NOVATE_VAULT"] = self.deployed["vault"]
        self.ok("operator", "init", str(self.data), "--confirmations", "0")
        self.live()
        self.publish("60.00")
        for person in (self.alice, self.bob):
            self.ok("vault", "mint", "5000", who=person)
            self.ok("deposit", "1000", who=person)
        for person in (self.alice, self.bob):
            self.enter(person)

    def enter(self, person: Person) -> None:
        """Find the account that the deposit opened, and register the session key."""
        show = ("account", "show", "--owner", person.address, "--json")
        wait_for(lambda: self.run(*show).status == 0, "the deposit to arrive")
        person.account = self.ok(*show).data["accounts"][0]["account"]
        self.ok("key", "register", who=person)

    # --- commands ---

    def run(self, *arguments: str, who: Person | None = None, env: dict[str, str] | None = None) -> Result:
        """The command's result, after the promises of `checked`. A variable given as "" is not set."""
        given = self.env | (who.env() if who else {}) | (env or {})
        done = command_line(*arguments, env={name: value for name, value in given.items() if value}, cwd=self.folder)
        return checked(done, "--json" in arguments)

    def ok(self, *arguments: str, who: Person | None = None, env: dict[str, str] | None = None) -> Result:
        """`run` that must succeed."""
        result = self.run(*arguments, who=who, env=env)
        assert result.status == 0, f"{' '.join(arguments)} exited {result.status}: {result.err}"
        return result

    def publish(self, price: str, key: Path | None = None) -> Result:
        """An oracle update of instrument 1."""
        file = key or self.newest_key("publisher-0")
        self._priced_s = time.monotonic()
        return self.run("oracle", "publish", f"1={price}", "--publisher-key", str(file))

    def fresh(self) -> None:
        """A price of 60 that is young enough to trade on; on a loaded machine commands take seconds."""
        if time.monotonic() - self._priced_s > 2.0:
            assert self.publish("60.00").status == 0

    def newest_key(self, name: str) -> Path:
        """The Ed25519 key file that the last rotation made, or the first."""
        return max((self.data / "keys").glob(f"{name}*.ed25519"), key=lambda path: path.stat().st_mtime_ns)

    def flatten(self) -> None:
        """Nobody has an order or a position, whatever another test left: alice and bob trade with each other only."""
        for person in (self.alice, self.bob):
            self.ok("order", "cancel", "--all", who=person)
        with self.api() as client:
            held = client.account(self.alice.account)["positions"]
            sizes = {row["instrument"]: int(row["size_lots"]) for row in held}
        for instrument, lots in sizes.items():
            buyer, seller = (self.alice, self.bob) if lots < 0 else (self.bob, self.alice)
            rows = ((seller, "sell", ()), (buyer, "buy", ("--tif", "ioc")))
            for person, side, more in rows:
                self.fresh()
                self.ok("order", "place", str(instrument), side, str(abs(lots)), "60.00", *more, who=person)
        with self.api() as client:
            left = [client.account(person.account)["positions"] for person in (self.alice, self.bob)]
        assert left == [[], []], left

    # --- the operator's process ---

    def live(self) -> "Venue":
        """The operator runs; started again if it was stopped."""
        if self.operator is None:
            self._starts += 1
            folder = self.folder / f"run-{self._starts}"
            folder.mkdir()
            self.operator = Operator(self.data, folder, EPOCH_SECONDS)
            self.env["NOVATE_API"] = self.operator.url()
        return self

    def stop(self) -> "Venue":
        """SIGTERM, as a service manager would; it must end well."""
        if self.operator is not None:
            self.operator.process.terminate()
            assert self.operator.process.wait(20) == 0, self.operator.log.read_text()[-800:]
            self.operator = None
        return self

    def close(self) -> None:
        if self.operator is not None:
            self.operator.kill()
        self.rpc.close()
        self.evm.stop()

    # --- time and epochs ---

    def api(self) -> Any:
        """The operator's interface, to wait for things with."""
        from clearing.client.http import ApiClient

        return ApiClient(self.env["NOVATE_API"])

    def next_epoch(self) -> int:
        """Wait until everything that is journalled by now is in a posted epoch; its number."""
        with self.api() as client:
            wanted = int(client.status()["epoch"]) + 1
            wait_for(lambda: int(client.status()["posted_epoch"]) >= wanted, f"epoch {wanted} to be posted")
        return wanted

    def pass_time(self, seconds: int) -> None:
        """Move the chain's clock."""
        self.rpc.request("evm_increaseTime", seconds)
        self.rpc.request("evm_mine")

    def bundle(self, person: Person) -> Path:
        """A proof bundle of a posted epoch that covers all that happened."""
        self.next_epoch()
        path = person.wallet.with_suffix(".bundle")
        self.ok("proof", "get", person.address, "-o", str(path))
        return path
