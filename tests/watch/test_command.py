# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate attest` as a process: what it does, its exit codes, and one line with a code for whatever is wrong."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from clearing.chain.structs import VETO_OPEN
from clearing.chain.wallet import Wallet
from clearing.cli.main import main
from tests.cli.venue import DEAD, ROOT, Result, checked, command_line
from tests.service.world import seed_of
from tests.watch.scene import STRANGER, WATCHERS, Scene

pytestmark = pytest.mark.slow

SEEDS = {Wallet(seed_of(f"watcher {n}")).address: seed_of(f"watcher {n}") for n in range(3)}


def key_file(folder: Path, wallet: Wallet) -> str:
    """A wallet's key as `novate key new --wallet` writes it."""
    path = folder / f"{wallet.address.hex()[:8]}.wallet"
    path.write_text(SEEDS.get(wallet.address, seed_of("stranger")).hex() + "\n")
    path.chmod(0o600)
    return str(path)


class Command:
    """`novate attest run` with what the venue asks for; a test replaces some of it."""

    def __init__(self, scene: Scene, folder: Path) -> None:
        self.scene, self.folder = scene, folder
        self.given = {
            "--api": scene.gate.url,
            "--rpc": scene.evm.url,
            "--vault": "0x" + scene.vault.address.hex(),
            "--wallet": key_file(folder, WATCHERS[0]),
            "--data": str(scene.folder("w0")),
            "--grace": "30",
            "--alarm": "0",
        }

    def line(self, *more: str, **replaced: str) -> list[str]:
        given = self.given | {f"--{name}": value for name, value in replaced.items()}
        return ["attest", "run", *(word for pair in given.items() if pair[1] for word in pair), *more]

    def once(self, *more: str, **replaced: str) -> Result:
        return run(*self.line("--once", *more, **replaced)[1:])


@pytest.fixture
def command(scene: Scene, tmp_path: Path) -> Command:
    return Command(scene, tmp_path)


def run(*arguments: str) -> Result:
    """The command in this process, held to what every command promises."""
    done = CliRunner().invoke(main, ["attest", *arguments], prog_name="novate")
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    ended = subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)
    return checked(ended, "--json" in arguments)


def test_one_look_signs_and_the_status_tells(scene: Scene, command: Command) -> None:
    """An honest venue: exit code 0, the next epoch signed and handed in, and `status` says what is known."""
    assert checked(command_line(*command.line("--once")), False).status == 0
    told = run("status", "--data", command.given["--data"], "--json").data
    assert (told["epoch"], told["divergence"], told["alerts"]) == (3, None, [])
    assert told["vaults"] == [{"vault": 0, "agreed_epochs": 2, "last_signed": 3, "objections": []}]
    assert WATCHERS[0].address in [row.attestor for row in scene.node.attestations.of(0, 3)]
    shown = run("status", "--data", command.given["--data"])
    assert "epoch" in shown.out and shown.status == 0


def test_a_forged_header_is_an_error_and_its_evidence_can_be_shown(scene: Scene, command: Command) -> None:
    """The veto is sent, the exit code is 1 with the objection as its code; `evidence` gives the hash that the veto's
    event names, and refuses the file once a byte of it is changed."""
    scene.steal()
    found = checked(command_line(*command.line("--once")), False)
    assert (found.status, found.code) == (1, "HEADER_DIFFERS") and "exit_root" in found.err
    assert scene.vault.veto_of(3).state == VETO_OPEN
    (event,) = scene.vault.vetoes()
    (objection,) = run("status", "--data", command.given["--data"], "--json").data["vaults"][0]["objections"]
    assert objection["evidence"] == "0x" + event.evidence.hex() and objection["reason"] == "HEADER_DIFFERS"
    path = Path(command.given["--data"]) / "evidence" / f"{event.evidence.hex()}.json"
    shown = run("evidence", str(path), "--json").data
    assert shown["hash"] == "0x" + event.evidence.hex() and shown["epoch"] == 3
    path.write_bytes(path.read_bytes().replace(b'"epoch":3', b'"epoch": 3'))
    broken = run("evidence", str(path))
    assert (broken.status, broken.code) == (1, "EVIDENCE_INVALID")


BAD: dict[str, tuple[Callable[[Command], dict[str, str]], int, str]] = {
    "no such key file": (lambda c: {"wallet": str(c.folder / "none.wallet")}, 1, "KEY_FILE"),
    "no attestor": (lambda c: {"wallet": key_file(c.folder, STRANGER)}, 1, "NOT_ATTESTOR"),
    "no operator": (lambda c: {"api": DEAD}, 4, "OPERATOR_UNREACHABLE"),
    "no URL": (lambda c: {"api": "ftp://operator"}, 4, "OPERATOR_UNREACHABLE"),
    "no chain": (lambda c: {"rpc": DEAD}, 4, "RPC_UNREACHABLE"),
    "no contract": (lambda c: {"vault": "0x" + "11" * 20}, 1, "NO_CODE"),
    "no address": (lambda c: {"vault": "0x12"}, 1, "INVALID_ADDRESS"),
    "a file where the folder should be": (lambda c: {"data": str(occupied(c.folder))}, 2, ""),
}


def occupied(folder: Path) -> Path:
    path = folder / "occupied"
    path.write_text("")
    return path


@pytest.mark.parametrize("case", sorted(BAD))
def test_what_is_wrong_is_said_in_one_line(command: Command, case: str) -> None:
    """A stable code and exit code for each, never a traceback, and nothing is signed."""
    replaced, status, code = BAD[case]
    found = command.once(**({"data": str(command.folder / "fresh")} | replaced(command)))
    assert found.status == status
    assert not code or found.code == code, found.err
    assert not list((command.folder / "fresh").glob("signed/*"))


def test_a_watcher_without_a_key_is_welcome(scene: Scene, command: Command) -> None:
    """Anybody may watch: without a wallet, or told only to watch with a key that is nobody's."""
    assert command.once(wallet="", data=str(command.folder / "free")).status == 0
    quiet = command.once("--watch-only", wallet=key_file(command.folder, STRANGER), data=str(command.folder / "free"))
    assert quiet.status == 0
    assert not list((command.folder / "free/signed").iterdir())


def test_arguments_that_make_no_sense_are_usage_errors(command: Command) -> None:
    """More vaults than endpoints, and a command line that is none."""
    more = command.once("--vault", "0x" + "22" * 20)
    assert more.status == 2 and "as many of one" in more.err
    hook = command.once("--alert-command", "pager 'unclosed")
    assert hook.status == 2 and "--alert-command" in hook.err
    assert run("status", "--data", str(command.folder / "none")).status == 2
    assert run("evidence", str(command.folder / "none.json")).status == 2


def test_a_folder_without_a_status_is_said_so(tmp_path: Path) -> None:
    """No attestor has run there, or the file is damaged."""
    for content in (None, "", "[]", "{"):
        if content is not None:
            (tmp_path / "status.json").write_text(content)
        found = run("status", "--data", str(tmp_path))
        assert (found.status, found.code) == (1, "NO_STATUS") and "attest run" in found.err


def test_a_second_process_on_the_folder_is_refused(scene: Scene, command: Command) -> None:
    scene.watcher(0)
    found = command.once()
    assert (found.status, found.code) == (1, "ATTESTOR_RUNS")


def test_an_answer_that_is_nested_too_deeply_ends_nothing(scene: Scene, command: Command) -> None:
    """An operator who answers with a hundred thousand brackets after the attestor signed gets an alert, and does not
    take the process down with a full stack."""
    scene.gate.alter = lambda path, body: b"[" * 99_990 if path == "/v1/attestations" else body
    found = checked(command_line(*command.line("--once")), False)
    assert found.status == 1 and found.code in ("BAD_ANSWER", "INTERNAL")
    assert (scene.folder("w0") / "signed/0000000003-0.hash").exists()


def until(done: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 30
    while not done():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_it_runs_until_it_is_told_to_stop(scene: Scene, command: Command) -> None:
    """Started while the operator is away, it waits; with the operator back it signs; a forged header is vetoed as it
    comes; SIGTERM ends it with 0. Its log is JSON lines."""
    scene.gate.shut = ("/",)
    folder = Path(command.given["--data"])
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NOVATE_")}
    with (command.folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "clearing.cli", *command.line("--interval", "0.05")],
            cwd=ROOT, env=clean | {"PYTHONPATH": str(ROOT)}, stderr=log, stdout=log, text=True,
        )  # fmt: skip
    try:
        until(lambda: "OPERATOR_UNREACHABLE" in (command.folder / "log").read_text(), process)
        assert not (folder / "signed/0000000003-0.hash").exists()
        scene.gate.reset()
        until((folder / "signed/0000000003-0.hash").exists, process)
        scene.steal()
        until(lambda: scene.vault.veto_of(3).state == VETO_OPEN, process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)
    lines = [json.loads(line) for line in (command.folder / "log").read_text().splitlines()]
    assert [line["event"] for line in lines][-1] == "stopped"
    assert [line["code"] for line in lines if line["event"] == "alert"][-1] == "HEADER_DIFFERS"
