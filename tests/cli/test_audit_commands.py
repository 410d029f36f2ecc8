# SPDX-License-Identifier: GPL-3.0-or-later
"""The auditor's commands as an auditor types them: run, replay, explain; over the operator's interface, from its
directory and from a published log."""

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from clearing.cli.audit import audit
from clearing.cli.auditing import Progress, reproduction
from clearing.model.codec import decode_entry, encode_entry
from clearing.model.outcomes import Deposited
from journal import Store
from journal.replay import entries
from tests.cli.venue import Venue, command_line


@pytest.mark.slow
def test_a_live_venue_is_audited_over_its_interface(venue: Venue) -> None:
    """Journal, chain, money, times and checkpoint, with a report to read and one to compute with."""
    venue.next_epoch()
    page, data = venue.folder / "audit.html", venue.folder / "audit.json"
    tolerance = ("--time-tolerance", "1000000000")  # other tests move the chain's clock
    found = venue.ok("audit", "run", "--report", str(page), "--report", str(data), "--json", *tolerance).data
    assert found["ok"] and found["chain_compared"] and found["checkpoint"]["ok"] and found["money"][0]["ok"]
    assert found["vaults_compared"] == 1 and len(found["times"]) == len(
        [e for e in found["epoch_table"] if e["vaults"][0]["posted"]]
    )
    assert json.loads(data.read_text()) == found
    assert "everything that was checked agrees" in page.read_text() and found["reproduce"].startswith(
        "novate audit run"
    )
    assert any("witnesses" in text for text in found["unchecked"])
    for part in ("--api", "--rpc", "--vault", "--time-tolerance 1000000000"):  # the first three from the environment
        assert part in found["reproduce"]


@pytest.mark.slow
def test_a_directory_and_its_published_form_give_one_verdict(stopped: Venue, tmp_path: Path) -> None:
    """The same root, epochs and findings; the published log needs nothing of the operator's."""
    stopped.ok("journal", "publish", str(tmp_path / "log"), "--data", str(stopped.data))
    found = [
        stopped.ok("audit", "run", "--journal", place, "--json", "--time-tolerance", "1000000000").data
        for place in (str(stopped.data), str(tmp_path / "log"))
    ]
    for name in ("ok", "root", "entries", "epoch_table", "findings", "money", "checkpoint"):
        assert found[0][name] == found[1][name]
    assert found[0]["ok"] and found[0]["checkpoint"]["size"] == found[0]["entries"]


@pytest.mark.slow
def test_an_audit_begins_at_an_epoch(stopped: Venue) -> None:
    """From the operator's last snapshot, whose roots are the vault's; the verdict says what came before."""
    last = stopped.ok("audit", "replay", "--journal", str(stopped.data), "--json").data["epochs"]
    tolerance = ("--time-tolerance", "1000000000")
    part = stopped.ok("audit", "run", "--journal", str(stopped.data), "--from", str(last - 1), *tolerance)
    assert "not checked: entries before" in part.out and "every posted root" in part.out
    none = stopped.run("audit", "run", "--journal", str(stopped.data), "--from", "99999")
    assert (none.status, none.code) == (1, "SNAPSHOT_NOT_FOUND")


@pytest.mark.slow
def test_a_divergence_is_told_with_both_sides_and_status_5(stopped: Venue, tmp_path: Path) -> None:
    """In text, in JSON, and on the page."""
    altered, told = tmp_path / "altered", -1
    with Store.open(stopped.data / "journal", read_only=True) as store:
        data = [entry for _, entry in entries(store)]
    for seq, raw in enumerate(data):
        entry = decode_entry(raw)
        if told < 0 and any(isinstance(outcome, Deposited) for outcome in entry.outcomes):
            told = seq
            changed = [
                type(x)(x.account, x.vault, x.asset, x.amount_atoms + 7, x.inbox_index)
                if isinstance(x, Deposited)
                else x
                for x in entry.outcomes
            ]
            data[seq] = encode_entry(seq, entry.time_us, entry.envelope, changed)
    with Store.create(altered) as store:
        store.append(data, store.head())
    page = tmp_path / "audit.html"
    found = stopped.run("audit", "run", "--journal", str(altered), "--report", str(page))
    assert (found.status, found.code) == (5, "REPLAY_DIVERGED")
    assert (
        f"DIVERGED at entry {told}, OUTCOMES" in found.out and "Deposited.amount_atoms: the journal says" in found.out
    )
    assert f"diverges at entry {told}" in page.read_text()
    detail = stopped.run("audit", "run", "--journal", str(altered), "--json").data["divergence_detail"]
    assert (detail["seq"], detail["what"]) == (told, "OUTCOMES") and detail["fields"]


@pytest.mark.slow
def test_a_balance_is_explained_with_proofs(stopped: Venue, tmp_path: Path) -> None:
    """Alice's story sums to her leaf; every event's entry comes with its proof."""
    last = stopped.ok("audit", "replay", "--journal", str(stopped.data), "--json").data["epochs"]
    common = ("audit", "explain", "--epoch", str(last), "--journal", str(stopped.data))
    text = stopped.ok(*common, who=stopped.alice).out
    assert "deposit: deposit into vault 0, message" in text and "exit + acks" in text
    found = stopped.ok(*common, "--json", who=stopped.alice).data
    assert sum(int(event["cash_atoms"]) for event in found["events"]) == int(found["cash_atoms"])
    (balance,) = found["balances"]
    assert int(balance["total_atoms"][0]) == int(balance["exits_atoms"][0]) + int(balance["acks_atoms"][0])
    pytest.importorskip("proofs.tlogproof", reason="proofs of single entries are another module's")
    stopped.ok(*common, "--proofs", str(tmp_path / "proofs"), who=stopped.alice)
    seqs = {event["seq"] for event in found["events"]} | {found["closing_seq"]}
    assert {path.name for path in (tmp_path / "proofs").iterdir()} == {
        f"{seq}.{kind}" for seq in seqs for kind in ("entry", "tlog-proof")
    }


@pytest.mark.slow
def test_what_is_missing_is_said() -> None:
    """Before anything is read."""
    for arguments, says in (
        (("run", "--journal", "."), "give --rpc and --vault"),
        (
            ("run", "--rpc", "http://127.0.0.1:9", "--vault", "0x" + "11" * 20, "--keep", "5"),
            "--keep needs --snapshots",
        ),
        (("replay", "--journal", "/nonexistent"), "no directory /nonexistent"),
        (("replay", "--journal", ".", "--rpc", "http://x"), "--rpc and --vault go together"),
        (("explain", "--account", "4", "--epoch", "1"), "--journal DIR or --api URL"),
    ):
        done = command_line("audit", *arguments)
        assert done.returncode == 2 and says in done.stderr, done.stderr


def test_the_reproduction_has_no_secrets_and_what_the_environment_gave(tmp_path: Path) -> None:
    """A report is for others: of an endpoint's URL its key is left out, of the command what changes no verdict."""
    said: list[str] = []

    @audit.command("said")
    @click.option("--rpc", "rpcs", envvar="NOVATE_RPC", multiple=True)
    @click.option("--policy", type=click.Path(path_type=Path))
    @click.option("--no-signatures", is_flag=True)
    @click.option("--json", "as_json", is_flag=True)
    def said_command(**_: object) -> None:
        said.append(" ".join(reproduction()))

    try:
        policy = str(tmp_path / "the policy")
        for url in ("https://node.example/v3/0123456789abcdef0123456789abcdef", "https://me:pass@node.example"):
            given = ("said", "--policy", policy, "--no-signatures", "--json")
            CliRunner().invoke(audit, given, env={"NOVATE_RPC": url}, prog_name="novate audit", catch_exceptions=False)
            words = f"novate audit said --rpc https://node.example/... --policy '{policy}' --no-signatures"
            assert said.pop() == words
        CliRunner().invoke(audit, ("said", "--rpc", "http://127.0.0.1:8545"), prog_name="novate audit")
        assert said.pop() == "novate audit said --rpc http://127.0.0.1:8545"
    finally:
        audit.commands.pop("said")


def test_progress_says_rate_and_time_to_go() -> None:
    """In seconds, minutes, hours; without a known end only how far it is."""
    now = [0.0]
    progress = Progress(False, lambda: now[0])
    now[0] = 10.0
    assert progress.line(5_000, 50_000) == "replayed 5,000 of 50,000 entries, 500/s, 90 s to go"
    assert progress.line(5_000, 600_000).endswith("500/s, 20 min to go")
    assert progress.line(5_000, 100_000_000).endswith("500/s, 55.6 h to go")
    assert progress.line(5_000, 0) == "replayed 5,000 entries, 500/s"
