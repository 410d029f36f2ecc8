# SPDX-License-Identifier: GPL-3.0-or-later
"""The operator's and the auditor's journeys by command line, and everyone's when the operator is gone."""

import time
from pathlib import Path

import msgspec
import pytest

from clearing.client.http import ApiClient, ApiError
from clearing.model import commands as c
from clearing.model.codec import decode_entry, encode
from clearing.model.outcomes import TradeNovated
from clearing.model.signature import public_key_of, sign
from clearing.service.layout import read_key
from journal import Store
from journal.replay import entries
from tests.cli.venue import DEAD, Venue

pytestmark = pytest.mark.slow

# --- the vault ---


def test_the_vault_is_verified_against_artifacts_and_genesis(venue: Venue) -> None:
    """The code, and the journal's genesis, from the interface or from disk."""
    for source in (["--api", venue.env["NOVATE_API"]], ["--journal", str(venue.data)]):
        found = venue.ok("vault", "verify", *source, "--json").data
        names = {check["name"] for check in found["checks"]}
        assert found["ok"] and {"runtime code", "library Evidence", "exit domain", "genesis: vault"} <= names
        assert {f"genesis: {name}" for name in ("treasury", "tokens", "attestors", "threshold", "governor")} <= names


def test_another_contract_is_not_the_vault(venue: Venue) -> None:
    """Other code is a failed verification; no code is an error; a vault of another journal is told apart."""
    token = venue.run("vault", "verify", "--vault", venue.deployed["token"])
    assert (token.status, token.code) == (3, "VAULT_MISMATCH") and "FAILED  runtime code" in token.out
    nothing = venue.run("vault", "verify", "--vault", venue.alice.address)
    assert (nothing.status, nothing.code) == (1, "NO_CODE")
    deploy = ("vault", "deploy", "--operator", venue.alice.address, "--treasury", venue.payer.address)
    twin = venue.ok(*deploy, "--token", venue.deployed["token"], "--json", who=venue.payer).data["vault"]
    other = venue.run("vault", "verify", "--vault", twin, "--api", venue.env["NOVATE_API"])
    assert (other.status, other.code) == (3, "VAULT_MISMATCH")
    assert "FAILED  genesis: vault" in other.out and "ok      runtime code" in other.out
    audit = venue.run("audit", "replay", "--api", venue.env["NOVATE_API"], "--vault", twin)
    assert (audit.status, audit.code) == (5, "CHAIN_DIFFERS") and "WRONG_VAULT" in audit.err
    mine = venue.run("operator", "init", str(venue.folder / "other"), "--vault", twin)
    assert mine.status == 2 and "vault deploy --operator" in mine.err


# --- the operator ---


def test_a_data_directory_has_one_operator_and_one_genesis(venue: Venue) -> None:
    """Neither a second process nor a second set-up touches it."""
    second = venue.run("operator", "run", str(venue.data), "--port", "0")
    assert (second.status, second.code) == (1, "JOURNAL_LOCKED")
    again = venue.run("operator", "init", str(venue.data))
    assert (again.status, again.code) == (1, "DATA_DIR_NOT_EMPTY")


def test_a_rotated_publisher_key_publishes_and_the_old_one_does_not(venue: Venue) -> None:
    """By a journalled command; the new file lies beside the old one."""
    keys = venue.data / "keys"
    before, old = set(keys.iterdir()), venue.newest_key("publisher-0")
    nobody = venue.run("operator", "rotate", str(venue.data), "--publisher", "7")
    assert (nobody.status, nobody.code) == (1, "UNKNOWN_PUBLISHER") and set(keys.iterdir()) == before
    venue.ok("operator", "rotate", str(venue.data), "--publisher", "0")
    (new,) = set(keys.iterdir()) - before
    refused = venue.publish("60.00", old)
    assert (refused.status, refused.code) == (1, "UNKNOWN_PUBLISHER")
    assert venue.publish("60.00", new).status == 0


def test_after_an_operator_rotation_epochs_are_posted_and_the_old_key_is_refused(venue: Venue) -> None:
    """New keys in journal and vault, gas money moved along, the audit passes, the old key is dead."""
    old = read_key(venue.newest_key("operator"))
    rotated = venue.ok("operator", "rotate", str(venue.data), "--json").data
    assert rotated["operator_key"] != "0x" + public_key_of(old).hex()
    assert venue.rpc.balance(bytes.fromhex(rotated["operator_address"][2:])) == rotated["gas_money_moved_wei"] > 0
    venue.stop().live()
    venue.next_epoch()
    with ApiClient(venue.env["NOVATE_API"]) as client:
        now = client.status()
        assert (now["operator_key"], now["operator_address"]) == (rotated["operator_key"], rotated["operator_address"])
        body = c.OperatorBatch(bytes.fromhex(now["deployment"][2:]), time.time_ns() // 1_000, (c.FundingTick(),))
        with pytest.raises(ApiError) as refused:
            client.submit(sign(body, old))
        assert refused.value.code == "UNKNOWN_KEY"
    assert venue.ok("audit", "replay", "--api", venue.env["NOVATE_API"], "--json").data["chain_compared"]
    assert venue.ok("verify", str(venue.bundle(venue.alice)), "--json").data["complete"]


# --- the auditor ---


def test_a_live_venue_replays_to_what_the_chain_holds(venue: Venue) -> None:
    """Over HTTP, while entries and epochs arrive."""
    venue.next_epoch()
    found = venue.ok("audit", "replay", "--api", venue.env["NOVATE_API"], "--json").data
    assert found["ok"] and found["chain_compared"] and found["signatures_checked"] and found["epochs"] > 0
    down = venue.run("audit", "replay", "--api", DEAD)
    assert (down.status, down.code) == (4, "OPERATOR_UNREACHABLE")
    elsewhere = venue.run("audit", "replay", "--api", venue.env["NOVATE_RPC"])
    assert (elsewhere.status, elsewhere.code) == (4, "BAD_ANSWER")


def test_a_stopped_venues_journal_replays_and_is_whole(stopped: Venue) -> None:
    """From disk, given the data directory or the journal in it."""
    for place in (stopped.data, stopped.data / "journal"):
        found = stopped.ok("audit", "replay", "--journal", str(place), "--json").data
        assert found["ok"] and found["chain_compared"]
        whole = stopped.ok("journal", "fsck", str(place), "--json").data
        assert whole["ok"] and whole["entries"] == found["entries"] and "0x" + whole["root"] == found["root"]
    text = stopped.ok("audit", "replay", "--journal", str(stopped.data)).out
    assert f"replayed {found['entries']:,} entries" in text and "every posted root is the journal's" in text
    gone = stopped.run("account", "show", who=stopped.alice)
    assert (gone.status, gone.code) == (4, "OPERATOR_UNREACHABLE")


def rewritten(source: Path, target: Path, seq: int, outcome: type, change: dict[str, int]) -> None:
    """A journal that is whole in itself, with one field of one outcome of entry `seq` another."""
    with Store.open(source, read_only=True) as store:
        raws = [data for _, data in entries(store)]
    entry = decode_entry(raws[seq])
    changed = [msgspec.structs.replace(o, **change) if isinstance(o, outcome) else o for o in entry.outcomes]
    raws[seq] = encode(msgspec.structs.replace(entry, outcomes=changed))
    with Store.create(target, map_bytes=1 << 26) as store:
        store.append(raws, store.head())


def test_an_altered_fill_is_found_and_named(venue: Venue, tmp_path: Path) -> None:
    """One atom of one price, in a journal that fsck finds whole: exit 5, the entry, the field, both values."""
    assert venue.publish("60.00").status == 0
    venue.ok("order", "place", "1", "sell", "3", "60.00", who=venue.alice)
    seq = venue.ok("order", "place", "1", "buy", "3", "60.00", "--json", who=venue.bob).data["seq"]
    venue.stop()
    altered = tmp_path / "altered"
    rewritten(venue.data / "journal", altered, seq, TradeNovated, {"price_atoms": 60_000_001})
    assert venue.ok("journal", "fsck", str(altered), "--json").data["ok"]
    found = venue.run("audit", "replay", "--journal", str(altered))
    assert (found.status, found.code) == (5, "REPLAY_DIVERGED")
    assert f"entry {seq}, OUTCOMES" in found.err and "TradeNovated.price_atoms" in found.err
    assert "the journal says 60000001, replay 60000000" in found.err
    data = venue.run("audit", "replay", "--journal", str(altered), "--json").data
    assert not data["ok"] and data["entries"] == seq and not data["chain_compared"]


def test_a_damaged_journal_is_reported(stopped: Venue, tmp_path: Path) -> None:
    """One flipped byte in an entry: fsck exits 1, and so does whoever wants to replay it."""
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    with Store.open(stopped.data / "journal", read_only=True) as store:
        needle = store.entry(2)[-24:]
    for source in (stopped.data / "journal").iterdir():
        content = bytearray(source.read_bytes())
        if (at := content.find(needle)) >= 0:
            content[at] ^= 1
        (damaged / source.name).write_bytes(content)
    found = stopped.run("journal", "fsck", str(damaged))
    assert (found.status, found.code) == (1, "JOURNAL_CORRUPT") and "damaged" in found.out
    assert stopped.run("audit", "replay", "--journal", str(damaged)).status == 1


# --- when the operator is gone ---


def test_everyone_leaves_with_everything_once_the_deadline_has_passed(abandoned: Venue) -> None:
    """The first one freezes; the vault pays everybody, the house included, and nothing is left."""
    planned = abandoned.ok("exit", "--dry-run", "--json", who=abandoned.alice)
    assert [row["step"].split(":")[0] for row in planned.data["steps"]][:2] == ["freeze", "escape"]
    assert "the vault can be frozen now" in planned.err
    left = abandoned.ok("exit", "--json", who=abandoned.alice).data
    assert left["paid_atoms"] == planned.data["owed"] and left["failed"] == 0 and left["transactions"] == 2
    assert abandoned.ok("exit", who=abandoned.alice).out == "nothing can be paid now\n"
    rest = abandoned.ok("exit", "--all", "--json", who=abandoned.payer).data
    assert int(rest["paid_atoms"][0]) > 0 and rest["failed"] == 0
    token = bytes.fromhex(abandoned.deployed["token"][2:])
    held = b"\x70\xa0\x82\x31" + bytes.fromhex(abandoned.deployed["vault"][2:]).rjust(32, b"\0")
    assert int.from_bytes(abandoned.rpc.call(token, held)) == 0
    late = abandoned.run("deposit", "10", who=abandoned.bob)
    assert (late.status, late.code) == (1, "TX_REVERTED") and "VaultFrozen" in late.err
