# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands as people type them: several vaults in one go, files, forced requests, vouchers; each failure one
line with a code."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from clearing.chain.deploy import deploy_token
from clearing.chain.rpc import Rpc
from clearing.cli.main import main
from clearing.exit import vouchers
from tests.exit.scene import DEADLINE_S, WINDOW_S, Scene, wallet_of
from tests.nodes import start_node

DEAD = "http://127.0.0.1:9"
OWNER = wallet_of(8)


@dataclass
class Done:
    """A finished command."""

    status: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)

    @property
    def code(self) -> str:
        return self.err.strip().splitlines()[-1].split(":")[1].strip()


def novate(*arguments: object) -> Done:
    """Run a command in this process; a traceback is a failure of the test."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return Done(result.exit_code, result.stdout, result.stderr)


def ok(*arguments: object) -> Done:
    done = novate(*arguments)
    assert done.status == 0, done.err
    return done


def at(scene: Scene) -> tuple[str, str, str, str]:
    return "--rpc", scene.rpc.url, "--vault", "0x" + scene.vault.address.hex()


@pytest.fixture
def wallet(tmp_path: Path) -> Path:
    path = tmp_path / "owner.wallet"
    OWNER.save(path)
    return path


def _owed(scene: Scene, amount: int) -> None:
    scene.deposit(OWNER.address, amount)
    scene.close({1: (OWNER.address, (amount, 0), (0, 0))})
    scene.pass_time(WINDOW_S)


@pytest.mark.slow
def test_two_vaults_on_two_chains_are_left_in_one_go_and_a_dead_chain_stops_neither(scene: Scene, wallet: Path) -> None:
    """What can be paid is paid and exits 4 says that a chain could not be asked; once it answers, the same command
    finishes. An address with another chain's endpoint is refused, and so is a vault that is named twice."""
    other_evm = start_node(chain_id=31_338)
    try:
        with Rpc(other_evm.url) as rpc:
            deploy_token(rpc, wallet_of(0))  # or the second vault would have the first one's address
            other = Scene.deploy(rpc)
            for place, amount in ((scene, 1_500_000), (other, 70)):
                _owed(place, amount)
                place.pass_time(DEADLINE_S)
            dead = ("--rpc", DEAD, *at(other)[2:])
            planned = novate("exit", *at(scene), *dead, "--owner", "0x" + OWNER.address.hex(), "--dry-run")
            assert (planned.status, planned.code) == (4, "EXIT_INCOMPLETE") and not scene.vault.frozen()
            assert "escape: 1.5 T0 to 0x" in planned.out and "ETH at hand" in planned.out
            first = novate("exit", *at(scene), *dead, "--wallet", wallet, "--json")
            assert (first.status, first.code) == (4, "EXIT_INCOMPLETE") and "RPC_UNREACHABLE" in first.err
            assert [row.get("paid_atoms") for row in first.data["vaults"]] == [["1500000", "0"], None]
            again = ok("exit", *at(scene), *at(other), "--wallet", wallet, "--json")
            assert [row["paid_atoms"] for row in again.data["vaults"]] == [["0", "0"], ["70", "0"]]
            mixed = novate("exit", *at(scene)[:2], *at(other)[2:], "--wallet", wallet)
            assert mixed.status == 1 and mixed.code in ("NO_CODE", "WRONG_DOMAIN")
            both = f"{scene.rpc.url},{rpc.url}"
            assert novate("exit", "--rpc", both, *at(scene)[2:], "--wallet", wallet).code == "WRONG_CHAIN"
            twice = novate("exit", *at(scene), *at(scene), "--wallet", wallet)
            assert twice.status == 1 and "VAULT_TWICE" in twice.err
    finally:
        other_evm.stop()
    assert scene.balances(OWNER.address) == [1_500_000, 0] and scene.holdings() == [0, 0]


def test_what_is_owed_is_shown_with_what_to_do_next(scene: Scene, wallet: Path) -> None:
    """While the operator is alive: amounts by symbol, the deadline, and the command that forces it."""
    _owed(scene, 1_500_000)
    done = ok("exit", *at(scene), "--owner", "0x" + OWNER.address.hex(), "--dry-run")
    assert "owed 1.5 T0 at epoch 1" in done.err and "without another epoch anyone may freeze in" in done.err
    assert "next: the operator is alive" in done.err and "novate force exit" in done.err
    shown = ok("claim", *at(scene), "--wallet", wallet, "--json").data
    assert (shown["paid_atoms"], shown["come_back_at"]) == (["0", "0"], scene.vault.freeze_at_s())
    assert shown["assets"][0]["symbol"] == "T0" and shown["owed"] == ["1500000", "0"]
    scene.pass_time(DEADLINE_S)
    assert ok("claim", *at(scene), "--wallet", wallet).out == "nothing can be paid now\n"
    assert not scene.vault.frozen(), "a claim never freezes"


def test_an_export_serves_an_owner_and_everyone(scene: Scene, wallet: Path, tmp_path: Path) -> None:
    """Written by anyone, used by one owner with one key and by a third party with another."""
    stranger = tmp_path / "stranger.wallet"
    wallet_of(3).save(stranger)
    _owed(scene, 90)
    scene.deposit(wallet_of(9).address, 5)
    made = ok("exit", "export", *at(scene), "-o", tmp_path / "all.json", "--json")
    assert (made.data["owners"], made.data["epoch"]) == (2, 1)
    assert novate("exit", "export", *at(scene), "-o", tmp_path).code == "EXPORT_EXISTS"
    scene.pass_time(DEADLINE_S)
    mine = ok("exit", "use", tmp_path / "all.json", *at(scene), "--wallet", wallet, "--json").data
    assert (mine["paid_atoms"], mine["failed"]) == (["90", "0"], 0)
    rest = ok("exit", "import", tmp_path / "all.json", *at(scene), "--wallet", stranger, "--all", "--json").data
    assert rest["paid_atoms"] == ["5", "0"]
    content = bytearray((tmp_path / "all.json").read_bytes())
    content[300] ^= 4
    (tmp_path / "all.json").write_bytes(content)
    bad = novate("exit", "use", tmp_path / "all.json", *at(scene), "--wallet", wallet)
    assert (bad.status, bad.code) == (1, "EXPORT_DAMAGED")


def test_forced_requests_are_sent_and_followed(scene: Scene, wallet: Path) -> None:
    scene.deposit(OWNER.address, 100)
    sent = ok("force", "withdraw", *at(scene), "--wallet", wallet, "--amount", "0.5", "--sub", "2", "--json").data
    assert (sent["amount_atoms"], sent["sub"], sent["state"]) == ("500000", 2, "waiting")
    assert "withdraw all free T1" in ok("force", "withdraw", *at(scene), "--wallet", wallet, "--asset", "1").out
    assert "close everything" in ok("force", "exit", *at(scene), "--wallet", wallet).out
    scene.close({}, consumed=2)
    shown = ok("force", "status", *at(scene), "--owner", "0x" + OWNER.address.hex(), "--json").data
    assert [row["state"] for row in shown["requests"]] == ["consumed", "waiting", "waiting"]
    assert shown["freeze_at"] == sent["deadline"] - sent["sent_at"] + shown["requests"][1]["sent_at"]
    assert "consumed by epoch 1" in ok("force", "status", *at(scene), "--wallet", wallet).out
    assert novate("force", "withdraw", *at(scene), "--wallet", wallet, "--asset", "2").code == "UNKNOWN_ASSET"
    assert novate("force", "status", *at(scene)).status == 2


def test_a_voucher_is_shown_and_redeemed(scene: Scene, wallet: Path, tmp_path: Path) -> None:
    """From its file, by any wallet; what it advanced is shown before the exit takes it back."""
    scene.deposit(OWNER.address, 1_000)
    scene.close({1: (OWNER.address, (700, 0), (300, 0))})
    scene.pass_time(WINDOW_S)
    scene.vault.fund_float(0, 500)
    path = tmp_path / "mine.voucher"
    drafted = vouchers.draft(scene.reader, OWNER, 0, 200, 600)
    signature = scene.wallet.sign_digest(drafted.digest)
    signed = vouchers.countersigned(scene.reader, drafted, {"operator_signature": signature.hex()})
    vouchers.save(path, signed)
    assert "redeemable now: 0.0002 T0" in ok("voucher", "show", path, *at(scene)).out
    assert "0.0005 T0 in the float, no limit per hour" in ok("voucher", "float", *at(scene)).out
    paid = ok("voucher", "redeem", path, *at(scene), "--wallet", wallet, "--json").data
    assert (paid["paid_atoms"], paid["outstanding_atoms"]) == ("200", "200")
    assert novate("voucher", "redeem", path, *at(scene), "--wallet", wallet).code == "VOUCHER_LOWER"
    owner = "0x" + OWNER.address.hex()
    assert ok("voucher", "show", "--owner", owner, *at(scene), "--json").data["advanced_atoms"] == "200"
    shown = ok("exit", *at(scene), "--owner", owner, "--dry-run")
    assert "vouchers advanced 0.0002 T0: 0.0002 T0 of it is deducted" in shown.err
    assert "claim: 0.0001 T0" in shown.out and "0.0002 T0 back to the float" in shown.out
    left = ok("claim", *at(scene), "--wallet", wallet, "--json").data
    assert (left["paid_atoms"], left["repaid_atoms"]) == (["100", "0"], ["200", "0"])


def test_asking_for_a_voucher_without_an_operator_changes_nothing(scene: Scene, wallet: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.voucher"
    asked = novate("voucher", "request", "1", "-o", path, *at(scene), "--wallet", wallet, "--api", DEAD)
    assert (asked.status, asked.code) == (4, "OPERATOR_UNREACHABLE") and not path.exists()


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("exit",), 2, "--rpc URL and --vault ADDRESS"),
        (("exit", "--rpc", DEAD, "--rpc", DEAD, "--vault", "0x" + "11" * 20, "--wallet", "w"), 2, "2 --rpc for 1"),
        (("exit", "--rpc", DEAD, "--vault", "0x" + "11" * 20, "--wallet", "/none"), 1, "KEY_FILE"),
        (("exit", "--rpc", DEAD, "--vault", "0x" + "11" * 20, "--owner", "0x1", "--dry-run"), 2, "not an address"),
        (("exit", "use", "/none", "--rpc", DEAD, "--vault", "0x" + "11" * 20), 2, "does not exist"),
        (("voucher", "show", "--rpc", DEAD, "--vault", "0x" + "11" * 20), 2, "FILE or --owner"),
        (("exit", "export", "--rpc", DEAD, "--vault", "0x" + "11" * 20, "-o", "x", "--blobs", "/none"), 1, "--blobs"),
    ],
)
def test_bad_input_is_named(arguments: tuple[str, ...], status: int, says: str) -> None:
    done = novate(*arguments)
    assert done.status == status and says in done.err
