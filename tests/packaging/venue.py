# SPDX-License-Identifier: GPL-3.0-or-later
"""A venue that an installed `novate` made and runs, with nothing of the checkout."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.packaging.builds import Installed, environment


def wait_for(
    condition: Callable[[], object], what: str, process: "subprocess.Popen[bytes]", seconds: float = 90
) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"the process ended before {what}"
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.2)


class Venue:
    """A venue made with the installed program alone: a chain of its own, keys, vault, operator, two members."""

    def __init__(self, program: Installed) -> None:
        self.program = program
        self.folder = program.home
        self.data = self.folder / "venue"
        self.env: dict[str, str] = {}
        self.processes: list[subprocess.Popen[bytes]] = []

    def ok(self, *words: str | Path, **more: str) -> str:
        return self.program.ok(*words, **(self.env | more))

    def data_of(self, *words: str | Path, **more: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.ok(*words, "--json", **more))
        return found

    def start(self, *command: str | Path, port_file: Path) -> str:
        """A program that serves until `close`; its URL."""
        log = port_file.with_suffix(".log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(word) for word in command],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment(HOME=str(self.folder)) | self.env,
            )
        self.processes.append(process)
        wait_for(port_file.exists, f"{port_file.name}: {log.read_text()[-800:]}", process)
        return f"http://127.0.0.1:{port_file.read_text().strip()}"

    def open(self) -> None:
        """`novate init` and `operator run`, then a deposit and a session key for each of two members."""
        payer = self._keys("payer")  # the house's owner, so nobody who trades
        people = {name: self._keys(name) for name in ("alice", "bob")}
        port = self.folder / "chain.port"
        fund = [word for person in (payer, *people.values()) for word in ("--fund", person["address"])]
        python = self.program.bin / "python"
        chain: list[str | Path] = [
            "-m",
            "clearing.chain.embedded",
            "--port",
            "0",
            "--port-file",
            port,
            "--idle-exit",
            "300",
            *fund,
        ]
        self.env["NOVATE_RPC"] = self.start(python, *chain, port_file=port)
        self.ok("init", self.data, "--gas", "5", "--confirmations", "0", NOVATE_WALLET=payer["NOVATE_WALLET"])
        port = self.folder / "venue.port"
        run = ("operator", "run", self.data, "--port", "0", "--port-file", port, "--epoch-seconds", "2")
        self.env["NOVATE_API"] = self.start(self.program.bin / "novate", *run, port_file=port)
        self.env["NOVATE_VAULT"] = json.loads((self.data / "vault.json").read_text())["vault"]
        self.publish()
        for person in people.values():
            self.ok("vault", "mint", "5000", **self._of(person))
            self.ok("deposit", "1000", **self._of(person))
        self.people = {name: self._of(self._enter(person)) for name, person in people.items()}

    def publish(self) -> None:
        """A fresh price: without one there is no matching."""
        self.ok("oracle", "publish", "1=60.00", "--publisher-key", self.data / "keys" / "publisher-0.ed25519")

    def _keys(self, name: str) -> dict[str, str]:
        wallet, key = self.folder / f"{name}.wallet", self.folder / f"{name}.key"
        address = self.data_of("key", "new", wallet, "--wallet")["address"]
        self.ok("key", "new", key)
        return {"address": str(address), "NOVATE_WALLET": str(wallet), "NOVATE_KEY": str(key)}

    @staticmethod
    def _of(person: dict[str, str]) -> dict[str, str]:
        return {name: value for name, value in person.items() if name.startswith("NOVATE_")}

    def _enter(self, person: dict[str, str]) -> dict[str, str]:
        show = ("account", "show", "--owner", person["address"], "--json")
        wait_for(lambda: self.program.run(*show, **self.env).returncode == 0, "the deposit", self.processes[-1])
        person["NOVATE_ACCOUNT"] = str(json.loads(self.ok(*show))["accounts"][0]["account"])
        self.ok("key", "register", **self._of(person))
        return person

    def bundle_of(self, name: str) -> Path:
        """The proof of a member's balance in an epoch that was posted after everything so far."""
        address = self.data_of("account", "show", **self.people[name])["owner"]
        path = self.folder / f"{name}.bundle"

        def posted() -> bool:
            return self.program.run("proof", "get", str(address), "-o", path, **self.env).returncode == 0

        wait_for(posted, "a posted epoch", self.processes[-1])
        return path

    def close(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            process.wait(30)
