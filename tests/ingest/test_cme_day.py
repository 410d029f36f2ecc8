# SPDX-License-Identifier: GPL-3.0-or-later
"""One real day of E-mini S&P futures through signature checks, margin, oracle and journal."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clearing.audit.replay import Replayer, replay
from clearing.core import snapshot
from clearing.core.reducer import Reducer
from clearing.ingest.compare import REASONS
from clearing.ingest.driver import ingest
from clearing.ingest.summary import Summary
from clearing.service.epochs import EpochBook
from clearing.service.layout import Layout
from clearing.service.recover import read_genesis
from journal import Store
from journal.replay import entries
from tests.ingest.data import CME_DAY, CME_OPENING, recorded

_CHILD = """
import json, sys
from pathlib import Path
from clearing.audit.replay import replay
from clearing.ingest.driver import ingest
from journal import Store
from journal.replay import entries
summary = ingest(Path(sys.argv[1]), "dbn", Path(sys.argv[2]))
with Store.open(Path(sys.argv[2]) / "journal", True) as store:
    report = replay(entries(store))
closed = [(e.outcome, e.headers[0]) for e in report.epochs]
epochs = [(o.state_root.hex(), o.vaults[0].exit_root.hex(), h.hash().hex()) for o, h in closed]
print(json.dumps([summary.deterministic(), report.ok, report.entries, report.root.hex(), epochs]))
"""


def _replay_from(data_dir: Path, seq: int) -> tuple[int, str, list[str]]:
    """(entries compared, root, state roots of the epochs closed) of a replay from the snapshot at `seq`."""
    layout = Layout(data_dir)
    with Store.open(layout.journal, True) as store:
        book = EpochBook(layout, read_genesis(store))
        record = next(r for r in map(book.load, range(1, book.last_whole() + 1)) if r.snapshot_seq == seq)
        state = snapshot.load(book.payload(record), record.outcome)
        worker = Replayer(Reducer(state=state), seq, record.last_hashes, store.root)
        report = replay(entries(store, seq), check_signatures=False, replayer=worker)
        assert report.divergence is None, str(report.divergence)
        return report.entries, report.root.hex(), [e.outcome.state_root.hex() for e in report.epochs]


@pytest.mark.slow
def test_ninety_nine_percent_of_the_resting_fills_are_reproduced_exactly(tmp_path: Path) -> None:
    """Resting order, price and size of at least 99 % of the fills of continuous trading; no order is
    refused, nothing trades that did not trade, and a snapshot continues to the same roots."""
    summary = ingest(recorded(CME_DAY), "dbn", tmp_path / "node")

    assert summary.complete
    assert summary.source_fills_continuous == 6_229
    assert summary.reproduced_exactly * 100 >= summary.source_fills_continuous * 99
    _adds_up(summary)
    assert summary.refusals == {}
    assert summary.unexpected_fills == 0
    # What cannot be reproduced is what the feed never showed: the reserves of icebergs.
    assert set(summary.disagreements.by_reason) <= {"HIDDEN_SIZE"}

    seqs = _snapshot_seqs(tmp_path / "node")
    assert len(seqs) >= 2 and seqs[-1] == summary.journal_size
    compared, root, states = _replay_from(tmp_path / "node", seqs[0])
    assert compared == summary.journal_size - seqs[0]
    assert root == summary.root
    assert states[-1] == summary.state_root


def _adds_up(summary: Summary) -> None:
    found = summary.disagreements
    assert summary.reproduced_exactly + found.total == summary.source_fills_continuous
    assert summary.reproduced_in_order <= summary.reproduced_exactly
    assert sum(found.by_reason.values()) == found.total == len(found.first)
    assert set(found.by_reason) <= set(REASONS)


def _snapshot_seqs(data_dir: Path) -> list[int]:
    """Where the snapshots of a data directory stand, ascending."""
    layout = Layout(data_dir)
    with Store.open(layout.journal, True) as store:
        return list(EpochBook(layout, read_genesis(store)).snapshots.list())


@pytest.mark.slow
def test_a_file_with_nothing_but_an_opening_book_is_a_journal_too(tmp_path: Path) -> None:
    """Without a trade the first price is the middle of the book, and every order rests."""
    summary = ingest(recorded(CME_OPENING), "dbn", tmp_path / "node")
    assert (summary.events, summary.commands, summary.fills) == (8_725, 8_725, 0)
    assert summary.refusals == {} and summary.complete and summary.epochs == 1


def _child(path: Path, data_dir: Path, hash_seed: str) -> Any:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-c", _CHILD, str(path), str(data_dir)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_the_day_gives_the_same_roots_under_any_hash_seed_and_from_every_snapshot(tmp_path: Path) -> None:
    """Two ingests in two processes with two PYTHONHASHSEEDs agree in every reported number, replay with
    signatures to the same roots, and every snapshot leads there as well."""
    path = recorded(CME_DAY)
    first = _child(path, tmp_path / "a", "1")
    second = _child(path, tmp_path / "b", "4242")
    assert first == second
    summary, whole, compared, root, epochs = first
    assert whole and compared == summary["journal_size"] and root == summary["root"]
    assert epochs[-1][:2] == [summary["state_root"], summary["exit_root"]]
    for seq in _snapshot_seqs(tmp_path / "b")[:-1]:
        _, root_again, states = _replay_from(tmp_path / "b", seq)
        assert root_again == root
        assert states == [state for state, _, _ in epochs[-len(states) :]]
