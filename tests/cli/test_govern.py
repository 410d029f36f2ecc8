# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate govern` from a deployment to a message in the inbox, and what a voter is told on the way."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clearing.chain.deploy import VaultParams, deploy_token, deploy_vault
from clearing.chain.embedded import dev_key
from clearing.chain.governance import GovernanceClient
from clearing.chain.rpc import Rpc
from clearing.chain.vault import VaultClient
from clearing.chain.wallet import Wallet
from clearing.model.actions import action_hash
from clearing.model.commands import ReleaseHouse
from tests.cli.venue import Result, checked, command_line
from tests.nodes import start_node

pytestmark = pytest.mark.slow

HOLDER = Wallet(dev_key(1))
OTHER = Wallet(dev_key(2))
RELEASE = ["--account", "2", "--atoms", "5000000", "--reason", "for the auditors"]


class Shell:
    """The command line over one chain; `vault` is the governed vault."""

    def __init__(self, url: str, folder: Path) -> None:
        self.rpc, self.vault, self._folder = Rpc(url), "", folder
        for name, number in (("payer", 0), ("holder", 1), ("other", 2)):
            Wallet(dev_key(number)).save(folder / name)

    def run(self, *arguments: str, wallet: str = "") -> Result:
        """The command's result, after the promises that every command keeps."""
        env = {"NOVATE_RPC": self.rpc.url, "NOVATE_VAULT": self.vault, "NOVATE_WALLET": str(self._folder / wallet)}
        env = {name: value for name, value in env.items() if value and (wallet or name != "NOVATE_WALLET")}
        return checked(command_line(*arguments, env=env, cwd=self._folder), "--json" in arguments)

    def json(self, *arguments: str, wallet: str = "") -> dict[str, Any]:
        result = self.run(*arguments, "--json", wallet=wallet)
        assert result.status == 0, result.err
        found: dict[str, Any] = json.loads(result.out)
        return found

    def travel(self, seconds: int) -> None:
        self.rpc.request("evm_increaseTime", seconds)
        self.rpc.request("evm_mine")


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    evm = start_node()
    shell = Shell(evm.url, tmp_path_factory.mktemp("keys"))
    holders = ["--holder", f"0x{HOLDER.address.hex()}=700", "--holder", f"0x{OTHER.address.hex()}=300"]
    made = shell.json("govern", "deploy", *holders, wallet="payer")
    assert (made["quorum"], made["threshold"], made["delay_seconds"]) == (200, 10, 604_800 + 2 * 3_600 + 86_400)
    told = ["--operator", "0x" + "11" * 20, "--treasury", "0x" + "22" * 20, "--governor", made["timelock"]]
    shell.vault = str(shell.json("vault", "deploy", *told, wallet="payer")["vault"])
    yield shell
    shell.rpc.close()
    evm.stop()


@pytest.mark.slow
def test_a_release_from_proposal_to_inbox(shell: Shell) -> None:
    """Each command by whoever may, and the command's hash in the vault's inbox."""
    made = shell.json("govern", "propose-release", *RELEASE, wallet="holder")
    number = made["proposal"]
    assert made["action"] == "0x" + action_hash(ReleaseHouse(2, 0, 0, 5_000_000)).hex()
    early = shell.run("govern", "vote", number, "for", wallet="holder")
    assert early.status == 1 and early.err.startswith("novate: NOT_NOW: ")
    shell.travel(86_401)
    voted = shell.json("govern", "vote", number, "for", "--reason", "agreed", wallet="holder")
    assert (voted["state"], voted["in_favour"], voted["quorum"]) == ("active", 700, 200)
    shell.travel(259_201)
    assert shell.json("govern", "queue", number, wallet="other")["state"] == "queued"
    shell.travel(604_800 + 2 * 3_600 + 86_400)
    done = shell.json("govern", "execute", number, wallet="other")
    assert (done["state"], done["inbox_count"]) == ("executed", 1)
    (event,) = VaultClient(shell.rpc, bytes.fromhex(shell.vault[2:])).inbox()
    assert event.message.data == action_hash(ReleaseHouse(2, 0, 0, 5_000_000))


def test_the_status_shows_what_is_voted_on(shell: Shell) -> None:
    """The command stands in the proposal's text, and its hash is compared with what the vault would be sent."""
    number = shell.json("govern", "propose-release", *RELEASE[:4], wallet="holder")["proposal"]
    found = shell.json("govern", "status", number)
    assert found["command_matches"] is True
    assert found["title"] == "Release 5000000 atoms of asset 0, vault 0, from house account 2"
    everything = shell.json("govern", "status")
    assert all(check["ok"] for check in everything["checks"])
    assert number in [row["proposal"] for row in everything["proposals"]]
    assert "slower than leaving" in shell.run("govern", "status").out


def test_a_proposal_that_says_something_else_is_called_out(shell: Shell) -> None:
    """A text with another command than the hash, and one with none."""
    client = GovernanceClient(VaultClient(shell.rpc, bytes.fromhex(shell.vault[2:]), HOLDER))
    honest = client.proposals()[0].description.rpartition("\n")[0]
    for text in (f"A harmless change\n{honest}", "Trust me"):
        number = client.propose(b"\x07" * 32, text)
        result = shell.run("govern", "status", str(number))
        assert result.status == 1 and "PROPOSAL_UNCLEAR" in result.err


# -- a vault under a vote


def timelock_of(shell: Shell) -> str:
    return "0x" + VaultClient(shell.rpc, bytes.fromhex(shell.vault[2:])).governor().hex()


def deploying(governor: str, *more: str) -> list[str]:
    who = ["--operator", "0x" + "11" * 20, "--treasury", "0x" + "22" * 20]
    return ["vault", "deploy", *who, "--governor", governor, *more]


def test_a_vault_is_verified_with_its_vote(shell: Shell) -> None:
    """The contracts behind the governor are checked with the vault's own."""
    checks = {check["name"]: check["ok"] for check in shell.json("vault", "verify")["checks"]}
    assert {"governance: timelock's code", "governance: slower than leaving", "runtime code"} <= set(checks)
    assert all(checks.values())


def test_a_vault_whose_governor_is_another_contract_fails_its_verification(shell: Shell) -> None:
    """Deployed past our tool; whoever asks is told not to deposit, and no venue is set up on it."""
    token = deploy_token(shell.rpc, HOLDER)
    params = VaultParams(b"\x01" * 32, HOLDER.address, OTHER.address, [token], 3_600, 60, governor=token)
    odd = "0x" + deploy_vault(shell.rpc, HOLDER, params).address.hex()
    told = shell.run("vault", "verify", "--vault", odd)
    assert (told.status, told.code) == (3, "VAULT_MISMATCH")
    assert "FAILED  governance: " in told.out and "no NovateTimelock" in told.out and "ok      runtime code" in told.out
    begun = shell.run("operator", "init", "elsewhere", "--vault", odd)
    assert (begun.status, begun.code) == (1, "CODE_MISMATCH") and "governance" in begun.err


@pytest.mark.parametrize(
    ("more", "code"),
    [((), "NO_GOVERNANCE"), (("--deadline", "2000000"), "GOVERNANCE_TOO_FAST")],
    ids=["no timelock", "a timelock that is too fast"],
)
def test_no_vault_is_deployed_under_a_vote_that_is_none(shell: Shell, more: tuple[str, ...], code: str) -> None:
    """Refused before anything is sent: not even the fee is lost."""
    payer = Wallet(dev_key(0))
    governor = shell.vault if code == "NO_GOVERNANCE" else timelock_of(shell)
    before = shell.rpc.nonce(payer.address)
    refused = shell.run(*deploying(governor, *more), wallet="payer")
    assert (refused.status, refused.code) == (1, code)
    assert shell.rpc.nonce(payer.address) == before


def test_a_governor_that_is_a_key_is_called_one(shell: Shell) -> None:
    """Allowed, as a try-out has nothing else, but said by who deploys and by who verifies."""
    made = shell.run(*deploying("0x" + OTHER.address.hex(), "--json"), wallet="payer")
    assert made.status == 0 and "whoever has its key decides alone" in made.err
    told = shell.run("vault", "verify", "--vault", made.data["vault"])
    assert told.status == 0 and "is no contract" in told.err and "governance" not in told.out


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["govern", "deploy", "--holder", "0x1=5"], 2, "is not an address"),
        (["govern", "deploy", "--holder", "0x" + "11" * 20 + "=0"], 2, "ADDRESS=SHARES"),
        (["govern", "deploy", "--holder", "0x" + "11" * 20 + "=5", "--delay", "3600"], 1, "GOVERNANCE_TOO_FAST"),
        (["govern", "deploy", "--holder", "0x" + "11" * 20 + "=5", "--quorum", "6"], 1, "InvalidGovernance"),
        (["govern", "vote", "77", "for"], 1, "GovernorNonexistentProposal"),
        (["govern", "queue", "77"], 1, "UNKNOWN_PROPOSAL"),
        (["govern", "vote", "77", "perhaps"], 2, "perhaps"),
    ],
)
def test_bad_input_is_one_line_with_a_code(shell: Shell, arguments: list[str], status: int, said: str) -> None:
    result = shell.run(*arguments, wallet="payer")
    assert result.status == status and said in result.err


def test_whoever_holds_too_little_proposes_nothing(shell: Shell) -> None:
    result = shell.run("govern", "propose-release", *RELEASE, wallet="payer")
    assert result.status == 1 and "GovernorInsufficientProposerVotes" in result.err
