# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo's stage: a chain, an operator's process, members with wallets, and a narrator."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from clearing.chain.embedded import CHAIN_ID, EmbeddedEvm, start_embedded
from clearing.chain.rpc import Rpc
from clearing.chain.vault import VaultClient
from clearing.chain.wallet import Wallet
from clearing.client.http import ApiClient
from clearing.client.session import Session
from clearing.service.layout import write_key


class Narrator:
    """Numbered chapters, indented facts, and the list of what was proven."""

    def __init__(self) -> None:
        self.claims: list[tuple[str, bool, str]] = []
        self._chapter = 0
        self._started = time.monotonic()

    def chapter(self, title: str) -> None:
        self._chapter += 1
        seconds = time.monotonic() - self._started
        click.echo(click.style(f"\n{self._chapter}. {title}", bold=True) + f"  [{seconds:.0f} s]")

    def say(self, text: str) -> None:
        click.echo(f"   {text}")

    def prove(self, claim: str, holds: bool, how: str) -> bool:
        """Record a claim; the demo fails if one does not hold."""
        self.claims.append((claim, holds, how))
        click.echo(f"   {click.style('PROVEN' if holds else 'FAILED', fg='green' if holds else 'red')}  {claim}: {how}")
        return holds

    def table(self) -> bool:
        """Print what was proven; True if everything was."""
        click.echo(click.style("\nWhat was proven", bold=True) + f"  [{time.monotonic() - self._started:.0f} s]")
        width = max(len(claim) for claim, _, _ in self.claims)
        for claim, holds, how in self.claims:
            click.echo(f"  {'yes' if holds else 'NO '}  {claim.ljust(width)}  {how}")
        good = all(holds for _, holds, _ in self.claims)
        click.echo("\neverything held" if good else "\nSOMETHING DID NOT HOLD")
        return good


@dataclass
class Result:
    """A finished `novate` process."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found


def _clean() -> dict[str, str]:
    """The environment without any NOVATE_* of the caller's."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NOVATE_")}
    return clean | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}


def novate(*arguments: str, cwd: Path | None = None) -> Result:
    """Run the command line in a process of its own, knowing only its arguments."""
    command = [sys.executable, "-m", "clearing.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=_clean(), timeout=180)
    return Result(done.returncode, done.stdout, done.stderr)


class StageError(Exception):
    """A process of the demo did not do its part."""


def must(result: Result, what: str) -> Result:
    if result.code != 0:
        raise StageError(f"{what} exited {result.code}: {result.err.strip()[-800:]}")
    return result


class Operator:
    """The operator as its own process; `kill` is SIGKILL."""

    def __init__(self, data_dir: Path, folder: Path, epoch_seconds: int) -> None:
        self._port_file = folder / "port"
        self.log = folder / "operator.log"
        command = [sys.executable, "-m", "clearing.cli", "operator", "run", str(data_dir), "--port", "0"]
        command += ["--port-file", str(self._port_file), "--epoch-seconds", str(epoch_seconds)]
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    def url(self) -> str:
        wait_for(lambda: self._port_file.exists() or self.process.poll() is not None, "the operator to start")
        if self.process.poll() is not None:
            raise StageError(f"the operator ended: {self.log.read_text()[-800:]}")
        return f"http://127.0.0.1:{self._port_file.read_text().strip()}"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


class Bot:
    """`novate bot maker` or `taker` as a process of its own, with the member's session key in a file."""

    def __init__(self, kind: str, member: "Member", folder: Path, url: str, *options: str) -> None:
        key = folder / f"{member.name}.session"
        if not key.exists():
            write_key(key, member.seed)
        self._log = folder / f"bot-{kind}.log"
        command = [sys.executable, "-m", "clearing.cli", "bot", kind, "--account", str(member.account)]
        command += ["--key", str(key), "--api", url, "--json", *options]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True, env=_clean()
            )

    def running(self) -> bool:
        """False when it ended well. Raises `StageError` when it did not."""
        code = self._process.poll()
        if code:
            raise StageError(f"a bot exited {code}: {self._log.read_text()[-800:]}")
        return code is None

    def stop(self) -> dict[str, Any]:
        """Ask it to end if it has not; what it did. Raises `StageError`."""
        if self.running():
            self._process.send_signal(signal.SIGTERM)
        try:
            out, _ = self._process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            raise StageError("a bot did not end") from None
        return must(Result(self._process.returncode, out, self._log.read_text()), "a bot").data

    def kill(self) -> None:
        """If it is still there."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


def wait_for(condition: Callable[[], object], what: str, timeout_s: float = 60.0) -> None:
    """Poll until `condition`. Raises `StageError`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise StageError(f"waited {timeout_s:.0f} s for {what}")
        time.sleep(0.1)


@dataclass
class Member:
    """Someone with a wallet, a session key, and an account once the deposit arrived."""

    name: str
    wallet: Wallet
    wallet_file: Path
    seed: bytes
    place: int = 0  # number of the vault of the deposit
    deposited: int = 0
    account: int = -1
    session: Session | None = None


def make_member(folder: Path, name: str, seed: bytes) -> Member:
    path = folder / f"{name}.wallet"
    wallet = Wallet.create(path)
    return Member(name, wallet, path, seed)


@dataclass
class Place:
    """One chain: its EVM's process, the vault there and the vault's settlement token."""

    evm: EmbeddedEvm
    rpc: Rpc
    vault: VaultClient
    token: bytes

    @property
    def where(self) -> list[str]:
        """The options that name it on the command line."""
        return ["--rpc", self.evm.url, "--vault", "0x" + self.vault.address.hex()]

    def as_payer(self, member: Member) -> VaultClient:
        """The vault, with the member's wallet."""
        return VaultClient(self.rpc, self.vault.address, member.wallet)

    def held_by(self, member: Member) -> int:
        """Atoms of the settlement asset in the member's wallet."""
        return self.vault.token_balance(0, member.wallet.address)

    def pass_time(self, seconds: int) -> None:
        """Move this chain's clock."""
        self.rpc.request("evm_increaseTime", seconds)
        self.rpc.request("evm_mine")


def start_chain(
    members: list[Member], extra: list[Wallet], folder: Path, chain_id: int = CHAIN_ID
) -> tuple[EmbeddedEvm, Rpc]:
    """An embedded EVM with gas money for everyone."""
    addresses = [member.wallet.address for member in members] + [wallet.address for wallet in extra]
    log = folder / f"chain-{chain_id}.log"
    evm = start_embedded(fund=addresses, log_path=log, idle_exit_s=600, chain_id=chain_id)
    return evm, Rpc(evm.url)


def posted_epoch(api: ApiClient) -> int:
    """The newest epoch that every live vault holds, by the operator's word."""
    return max((int(epoch["epoch"]) for epoch in api.epochs()["epochs"] if epoch["posted"]), default=0)
