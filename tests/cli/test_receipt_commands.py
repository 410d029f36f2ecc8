# SPDX-License-Identifier: GPL-3.0-or-later
"""Receipts and fills as their holders use them: kept at once, exported later, verified by strangers, disputed."""

import json
from pathlib import Path

import pytest

from clearing.cli.stage import wait_for
from clearing.model.codec import decode_any_envelope, decode_entry, encode_entry
from clearing.model.commands import Genesis
from clearing.service.checkpoints import CheckpointSigner
from clearing.service.layout import KeyRing, Layout, read_key
from clearing.service.recover import open_store
from journal import Store
from journal.replay import entries
from journal.tiles import publish
from tests.cli.venue import DEADLINE_S, Venue
from tests.service.world import MAP_BYTES

pytestmark = pytest.mark.slow


@pytest.fixture
def kept(venue: Venue) -> Path:
    """The receipt of a sell order that a buy order has met; the fill is in the buyer's."""
    folder = venue.folder / "receipts"
    for person in (venue.alice, venue.bob):
        venue.ok("order", "cancel", "--all", who=person)
    for person, side in ((venue.alice, "sell"), (venue.bob, "buy")):
        venue.publish("60.00")  # a price is too old to trade on after some seconds
        order = ("order", "place", "1", side, "2", "60.00", "--json")
        seq = venue.ok(*order, who=person, env={"NOVATE_RECEIPTS": str(folder)}).data["seq"]
    return folder / f"{seq}.tlog-proof"


def log_key(venue: Venue, folder: Path, seq: str) -> str:
    """Publish until the log holds the entry, which the operator's note does a tick later; the log's key."""
    command = ("journal", "publish", str(folder), "--data", str(venue.data), "--json")
    wait_for(lambda: venue.ok(*command).data["size"] > int(seq), "a note that covers the entry")
    return str(venue.ok(*command).data["verifier_key"])


def statuses(venue: Venue, *arguments: str) -> dict[str, str]:
    return {step["name"]: step["status"] for step in venue.ok(*arguments, "--json").data["steps"]}


def test_a_submission_leaves_a_receipt_that_needs_nobody(venue: Venue, kept: Path, tmp_path: Path) -> None:
    """Its own file is enough for the key, the vault and the published log; a flipped bit is refused with status 3."""
    key = log_key(venue, tmp_path / "log", kept.stem)
    shown = statuses(venue, "receipt", "verify", str(kept), "--key", key, "--log", str(tmp_path / "log"))
    assert shown == dict.fromkeys(("entry", "inclusion", "signature", "contract", "published"), "ok") | {
        "witnesses": "skipped"
    }
    altered = tmp_path / "altered.tlog-proof"
    text = kept.read_text()
    at = text.index("extra ") + 60
    altered.write_text(text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :])
    found = venue.run("receipt", "verify", str(altered), "--key", key)
    assert (found.status, found.code) in ((3, "RECEIPT_INVALID"), (3, "ENTRY_MALFORMED")), found.err
    none = venue.run("receipt", "verify", str(kept), env={"NOVATE_RPC": "", "NOVATE_VAULT": ""})
    assert (none.status, none.code) == (4, "SIGNER_UNKNOWN") and "ok       inclusion" in none.out


def test_publishing_names_the_key_that_signs_after_a_rotation(venue: Venue, kept: Path, tmp_path: Path) -> None:
    """What `journal publish` shows is the key in force: a mirror with it follows, with the one before it does not."""
    before = log_key(venue, tmp_path / "log", kept.stem)
    venue.ok("operator", "rotate", str(venue.data))
    venue.stop().live()
    seq = venue.ok("order", "cancel", "--all", "--json", who=venue.alice).data["seq"]
    after = log_key(venue, tmp_path / "log", str(seq))
    assert after != before
    venue.ok("journal", "mirror", str(tmp_path / "log"), str(tmp_path / "m"), "--key", after)
    old = venue.run("journal", "mirror", str(tmp_path / "log"), str(tmp_path / "n"), "--key", before)
    assert (old.status, old.code) == (3, "CHECKPOINT_INVALID")


def test_an_entry_is_exported_from_wherever_the_journal_is(venue: Venue, kept: Path, tmp_path: Path) -> None:
    """The operator's interface, its directory, the published log: the same entry, each proof good by itself."""
    seq, key = kept.stem, log_key(venue, tmp_path / "log", kept.stem)
    places = {
        "api": ("--api", venue.env["NOVATE_API"]),
        "data": ("--journal", str(venue.data)),
        "log": ("--journal", str(tmp_path / "log")),
    }
    found = []
    for name, place in places.items():
        venue.ok("receipt", "export", seq, *place, "-o", str(tmp_path / name))
        proof = tmp_path / name / f"{seq}.tlog-proof"
        assert statuses(venue, "receipt", "verify", str(proof), "--key", key)["signature"] == "ok"
        found.append((tmp_path / name / f"{seq}.entry").read_bytes())
    assert found[0] == found[1] == found[2]
    beyond = venue.run("receipt", "export", "999999", *places["log"], "-o", str(tmp_path / "x"))
    assert (beyond.status, beyond.code) == (1, "CHECKPOINT_BEHIND")


def test_a_fill_is_proven_to_anybody(venue: Venue, kept: Path, tmp_path: Path) -> None:
    """One file, both sides of the trade; of an entry without a trade there is none; without a key it is nobody's."""
    seq, file, key = kept.stem, tmp_path / "trade.fill", log_key(venue, tmp_path / "log", kept.stem)
    made = venue.ok("fill", "prove", seq, "--journal", str(tmp_path / "log"), "-o", str(file), "--json").data
    (row,) = made["fills"]
    sides = (str(venue.bob.account), str(venue.alice.account))
    assert (row["taker_account"], row["maker_account"]) == sides and row["size_lots"] == "2"
    assert (row["market"], row["taker_side"]) == ("BTC-PERP", "buy")
    told = venue.ok("fill", "verify", str(file), "--key", key)
    assert f"taker account {sides[0]} bought 2 lots of instrument 1 at 60.000000 a lot, 120.000000 in all" in told.out
    assert f"maker account {sides[1]} sold them" in told.out and "ok       signature" in told.out
    alone = venue.run("fill", "verify", str(file), env={"NOVATE_RPC": "", "NOVATE_VAULT": ""})
    assert (alone.status, alone.code) == (4, "SIGNER_UNKNOWN")
    none = venue.run("fill", "prove", "0", "--api", venue.env["NOVATE_API"], "-o", str(tmp_path / "no.fill"))
    assert (none.status, none.code) == (1, "NO_FILL") and not (tmp_path / "no.fill").exists()


def other_history(venue: Venue, seq: int, folder: Path) -> Path:
    """What the operator would publish to deny entry `seq`: its time is another, and both keys sign it."""
    layout = Layout(venue.data)
    with open_store(layout, MAP_BYTES, read_only=True) as store:
        data = [entry for _, entry in entries(store)]
    genesis = _genesis(data[0])
    denied = decode_entry(data[seq])
    data[seq] = encode_entry(seq, denied.time_us + 1, denied.envelope, denied.outcomes)
    signer = CheckpointSigner(genesis, KeyRing(layout.keys), read_key(layout.keys / "operator.secp256k1"))
    with Store.create(folder / "journal") as store:
        store.append(data, store.head())
        note = signer.sign(genesis.operator_key, len(data), store.root(len(data))).note
        publish(store, folder / "log", note)
    return folder / "log"


def _genesis(entry: bytes) -> Genesis:
    body = decode_any_envelope(decode_entry(entry).envelope)[1]
    assert isinstance(body, Genesis)
    return body


def test_a_denied_receipt_convicts_the_operator(venue: Venue, kept: Path, tmp_path: Path) -> None:
    """Found with status 5, shown with its gas before anything is sent, and then taken by the vault. The operator is
    stopped meanwhile: the chain goes back at the end, and what it had seen would be of blocks that are no more."""
    place = int(venue.stop().rpc.request("evm_snapshot"), 16)
    log = str(other_history(venue, int(kept.stem), tmp_path / "other"))
    found = venue.run("receipt", "verify", str(kept), "--log", log)
    assert (found.status, found.code) == (5, "RECEIPT_VIOLATED")
    evidence = tmp_path / "evidence.json"
    looked = venue.ok("receipt", "dispute", str(kept), "--log", log, "-o", str(evidence), "--json", who=venue.bob).data
    assert looked["function"] == "proveEquivocation" and int(looked["gas"]) > 0 and "tx_hash" not in looked
    assert json.loads(evidence.read_text())["arguments"] == looked["arguments"]
    venue.ok("receipt", "dispute", str(kept), "--log", log, "--send", who=venue.bob)
    frozen = venue.run("receipt", "dispute", str(kept), "--send", who=venue.bob)
    assert (frozen.status, frozen.code) == (1, "TX_REVERTED") or frozen.code == "VaultFrozen", frozen.err
    assert venue.rpc.request("evm_revert", place)
    venue.live()


def test_an_operator_who_says_nothing_pays(stopped: Venue, tmp_path: Path) -> None:
    """The vault is asked for the entry; nobody answers, and the deadline passes."""
    place = int(stopped.rpc.request("evm_snapshot"), 16)
    stopped.ok("receipt", "export", "3", "--journal", str(stopped.data), "-o", str(tmp_path))
    file = str(tmp_path / "3.tlog-proof")
    asked = stopped.ok("receipt", "dispute", file, "--send", "--json", who=stopped.bob).data
    early = stopped.run("receipt", "settle", str(asked["challenge"]), who=stopped.bob)
    assert early.status == 1 and "AnswerNotDue" in early.err
    stopped.pass_time(DEADLINE_S + 1)
    done = stopped.ok("receipt", "settle", str(asked["challenge"]), "--json", who=stopped.bob).data
    assert (done["fault"], done["frozen"]) == (True, True)
    assert stopped.rpc.request("evm_revert", place)


def test_what_is_missing_is_said(venue: Venue, tmp_path: Path) -> None:
    no_entry = tmp_path / "a.tlog-proof"
    seq = "1"
    venue.ok("receipt", "export", seq, "--api", venue.env["NOVATE_API"], "-o", str(tmp_path))
    no_entry.write_text((tmp_path / "1.tlog-proof").read_text())
    cases = {
        (3, "NO_ENTRY"): ("receipt", "verify", str(no_entry)),
        (3, "RECEIPT_INVALID"): ("receipt", "verify", str(tmp_path / "1.entry")),
        (1, "UNKNOWN_SEQ"): ("receipt", "export", "999999", "--api", venue.env["NOVATE_API"], "-o", str(tmp_path)),
    }
    for (status, code), arguments in cases.items():
        found = venue.run(*arguments)
        assert (found.status, found.code) == (status, code), found.err
    assert venue.run("receipt", "export", seq, "-o", str(tmp_path), env={"NOVATE_API": ""}).status == 2
