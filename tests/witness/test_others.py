# SPDX-License-Identifier: GPL-3.0-or-later
"""A cosigned, published log before Go's sumdb packages, which others wrote (see tests.tlog.test_others)."""

from pathlib import Path

import pytest

from clearing.cli.witness import Collector
from clearing.client.witness import witness_at
from journal.tiles import publish
from proofs import cosignature
from proofs.checkpoint import parse
from tests.tlog.logs import KEY as LOG_KEY
from tests.tlog.logs import Journal
from tests.tlog.test_others import Checker, checker
from tests.witness.heads import KEY, NAME, PUBLIC, served, witness

pytestmark = pytest.mark.slow

__all__ = ["checker"]


def test_go_opens_a_cosigned_checkpoint(checker: Checker, tmp_path: Path) -> None:
    """note.Open with the log's key takes the note; the cosignature is a stranger's to it and does no harm. A note whose
    body was changed is refused, cosigned or not."""
    journal, log = Journal(tmp_path / "journal", 700), tmp_path / "log"
    with witness(tmp_path / "w") as one, served(one) as url:
        publish(journal.store, log, journal.note(), cosign=Collector(log, [witness_at(KEY, url)], None))
    text = (log / "checkpoint").read_text()
    assert cosignature.verify(parse(text), NAME, PUBLIC) is not None
    found = checker(LOG_KEY, log)
    assert (found.returncode, found.stdout.split()[:2]) == (0, ["ok", "entries=700"]), found.stderr
    (log / "checkpoint").write_text(text.replace("\n700\n", "\n699\n"))
    assert checker(LOG_KEY, log).returncode != 0
