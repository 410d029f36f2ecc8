# SPDX-License-Identifier: GPL-3.0-or-later
"""The doctor finds each ailment, alone, on a venue that is otherwise well; and changes nothing."""

import hashlib
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from clearing.service import config as configuration
from clearing.service.ops.doctor import ERROR, OK, WARNING, Finding, Patient, examine
from clearing.service.ops.private import Running, write_running
from tests.chain.nodes import altering
from tests.service.chains import Deployed

# What depends on the machine that runs the tests, and not on the venue.
MACHINE = {"disk", "inodes", "open files", "file size", "clock", "file system"}


def findings(path: Path, chains: bool = True, **environ: str) -> list[Finding]:
    return [found for found in examine(Patient(path, environ), chains) if found.name not in MACHINE]


def bad(path: Path, chains: bool = True, **environ: str) -> dict[str, str]:
    """Level by name of what is not fine; each says what to do."""
    found = [row for row in findings(path, chains, **environ) if row.level != OK]
    assert all(row.todo for row in found), found
    return {row.name: row.level for row in found}


@pytest.fixture
def venue(deployed: Deployed) -> Path:
    """On a chain, with one posted epoch, stopped."""
    node = deployed.node()
    node.poster.turn()
    node.close()
    config = configuration.override(configuration.load(deployed.path), {"rpc_urls": (deployed.rpc.url,)})
    config = msgspec.structs.replace(config, confirmations=0, epoch_seconds=600, port=free(), private_port=free())
    (deployed.path / configuration.FILE_NAME).write_text(configuration.render(config))
    return deployed.path


def free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def edit(path: Path, old: str, new: str) -> None:
    file = path / configuration.FILE_NAME
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def contents(path: Path) -> dict[str, str]:
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name != "lock.mdb"
    }


def test_a_sound_venue_is_told_so_and_left_as_it_was(venue: Path) -> None:
    """Every part is named once, and no byte is written."""
    before = contents(venue)
    found = findings(venue)
    assert [row for row in found if row.level != OK] == []
    names = {row.name for row in found}
    assert {
        "versions", "libraries", "config", "data directory", "journal", "state", "operator's key",
        "operator's address", "publisher 0", "epochs", "public port", "private port", "vault 0 endpoint",
        "vault 0 code", "vault 0 parameters", "vault 0 ether", "vault 0 freeze", "vault 0 epochs",
    } <= names  # fmt: skip
    assert contents(venue) == before


# --- files ---


def test_a_key_that_others_can_read_is_found(venue: Path) -> None:
    key = venue / "keys" / "operator.ed25519"
    key.chmod(0o644)
    assert bad(venue, False) == {"keys": ERROR, "operator's key": ERROR}
    key.chmod(0o600)
    (venue / "keys").chmod(0o755)
    assert bad(venue, False) == {"keys": WARNING}


def test_a_missing_key_is_found_by_what_the_journal_names(venue: Path) -> None:
    """An Ed25519 key is there, but it is not the one."""
    (venue / "keys" / "operator.secp256k1").unlink()
    assert bad(venue, False) == {"operator's address": ERROR}
    shutil.rmtree(venue / "keys")
    assert bad(venue, False) == {"keys": ERROR}


def test_a_damaged_journal_is_found_and_the_other_checks_are_still_made(venue: Path) -> None:
    data = venue / "journal" / "data.mdb"
    raw = bytearray(data.read_bytes())
    place = raw.rindex(b"novate-journal/1")
    raw[place] ^= 1
    data.write_bytes(raw)
    found = bad(venue, False)
    assert found["journal"] == ERROR and found["state"] == ERROR
    assert "public port" in {row.name for row in findings(venue, False)}


def test_a_damaged_snapshot_and_a_missing_record_are_warnings(venue: Path) -> None:
    """Both are made again from the journal."""
    snapshot = next((venue / "snapshots").iterdir())
    snapshot.write_bytes(snapshot.read_bytes()[:-1])
    next((venue / "epochs").iterdir()).unlink()
    assert bad(venue, False) == {"snapshots": WARNING, "epochs": WARNING}


@pytest.mark.slow
def test_configuration_faults_are_found(venue: Path) -> None:
    """A typing error, here and in the environment; values that endanger the venue."""
    assert bad(venue, False, NOVATE_CONFIG_PRT="1") == {"config": ERROR}
    assert bad(venue, False, NOVATE_CONFIG_PRIVATE_HOST="0.0.0.0") == {"private port": WARNING}
    assert bad(venue, False, NOVATE_CONFIG_EPOCH_SECONDS="0") == {"epoch interval": WARNING}
    edit(venue, "rpc_url = ", 'rpc_url = "https://u:secret@127.0.0.1/" # ')
    assert bad(venue, False) == {}
    (venue / "config.toml").chmod(0o644)
    assert bad(venue, False) == {"config": WARNING}
    shown = "".join(row.detail for row in findings(venue))
    assert "secret" not in shown


def test_a_taken_port_is_found_unless_the_operator_itself_has_it(venue: Path) -> None:
    port = configuration.load(venue, {}).port
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        assert bad(venue, False) == {"public port": ERROR}


def test_a_record_of_a_dead_process_is_not_believed_and_one_that_does_not_answer_is_told(venue: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    write_running(venue, Running(dead.pid, "127.0.0.1", 1, "127.0.0.1", free()))
    assert bad(venue, False) == {}
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        write_running(venue, Running(sleeper.pid, "127.0.0.1", 1, "127.0.0.1", free()))
        assert bad(venue, False) == {"operator": ERROR}
    finally:
        sleeper.kill()
        sleeper.wait()


def test_a_backup_is_not_a_data_directory(venue: Path, tmp_path: Path) -> None:
    from clearing.service.ops.backup import back_up

    back_up(venue, tmp_path / "backup", 1)
    found = {row.name: row for row in findings(tmp_path / "backup", False)}
    assert found["config"].level == ERROR and "IS_A_BACKUP" in found["config"].detail


# --- chains ---


def test_an_endpoint_that_is_down_or_of_another_chain_is_named(venue: Path, deployed: Deployed) -> None:
    assert bad(venue, NOVATE_CONFIG_RPC_URL="http://127.0.0.1:9") == {"vault 0 endpoint": ERROR, "vault 0": ERROR}
    with altering(deployed.rpc.url, lambda method, _, result: "0x1" if method == "eth_chainId" else result) as url:
        found = [row for row in findings(venue, NOVATE_CONFIG_RPC_URL=url) if row.level == ERROR]
    assert [row.name for row in found] == ["vault 0 endpoint", "vault 0"]
    assert "chain 1, genesis names 31337" in found[0].detail


def test_other_code_at_the_vaults_address_is_found_before_it_is_believed(venue: Path, deployed: Deployed) -> None:
    """One byte of the runtime code; nothing that such a contract says is then shown as fine."""

    def alter(method: str, _: object, result: object) -> object:
        if method != "eth_getCode" or not isinstance(result, str) or len(result) < 1_000:
            return result
        return result[:200] + ("00" if result[200:202] != "00" else "01") + result[202:]

    with altering(deployed.rpc.url, alter) as url:
        found = findings(venue, NOVATE_CONFIG_RPC_URL=url)
    wrong = {row.name: row.level for row in found if row.level != OK}
    assert wrong == {"vault 0 runtime code": ERROR}
    assert "vault 0 parameters" not in {row.name for row in found}


def test_an_old_copy_of_the_journal_is_found(venue: Path, deployed: Deployed, tmp_path: Path) -> None:
    """The chain is ahead: starting would post a second history."""
    old = shutil.copytree(venue, tmp_path / "old")
    node = deployed.node(rpc_url="")
    node.poster.turn()
    node.close()
    assert bad(old) == {"vault 0 epochs": ERROR}
    assert bad(venue) == {}


@pytest.mark.slow
def test_a_deadline_that_nears_and_an_interval_that_is_too_long_are_found(venue: Path, deployed: Deployed) -> None:
    """In steps: well, half gone, gone; and epochs that would close too late in any case."""
    assert bad(venue, NOVATE_CONFIG_EPOCH_SECONDS="1900") == {"vault 0 interval": ERROR}
    ahead = {"vault 0 endpoint": ERROR}  # of this machine's clock
    place = deployed.rpc.request("evm_snapshot")
    try:
        deployed.places[0].pass_time(2_000)
        assert bad(venue) == ahead | {"vault 0 freeze": WARNING}
        deployed.places[0].pass_time(2_000)
        assert bad(venue) == ahead | {"vault 0 freeze": ERROR}
    finally:
        deployed.rpc.request("evm_revert", place)


def test_a_clock_behind_the_chain_is_an_error(venue: Path, deployed: Deployed) -> None:
    """No chain is ahead of true time."""
    place = deployed.rpc.request("evm_snapshot")
    try:
        deployed.places[0].pass_time(120)
        assert bad(venue) == {"vault 0 endpoint": ERROR}
    finally:
        deployed.rpc.request("evm_revert", place)
