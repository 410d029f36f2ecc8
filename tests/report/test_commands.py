# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate risk` and `novate stress` on a journal on disk: JSON, text, pages, exit codes."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from clearing.cli.main import main
from clearing.model.codec import decode_entry, encode_entry
from clearing.model.outcomes import MarginChanged
from clearing.report.account import account_report
from clearing.report.provenance import to_json
from journal import Store
from tests.report.scene import found, scene


def write(folder: Path, entries: list[bytes]) -> Path:
    with Store.create(folder) as store:
        store.append(entries, store.head())
    return folder


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("reports") / "journal", scene().data())


def novate(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)


def data_of(result: Result) -> Any:
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


class Page(HTMLParser):
    """What a page refers to, and that its elements are closed."""

    VOID = ("meta", "br", "use", "path", "rect", "line")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: dict[str, int] = {}
        self.words = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "action", "srcset"):
                self.links.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def check_page(path: Path, figures: int) -> Page:
    """Self-contained: no address anywhere, links only within the page; both colour schemes; its provenance."""
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert not page.open and "://" not in text and "@import" not in text and "<script" not in text
    assert all(link.startswith("#") for link in page.links)
    for target in page.links:
        assert target[1:] in page.ids
    assert ("prefers-color-scheme: dark" in text and "currentColor" in text) or not figures
    assert page.tags.get("svg", 0) == figures
    stamp = found().provenance
    for needed in (stamp.journal_root, stamp.params_hash, stamp.state_root, stamp.deployment, stamp.version):
        assert needed in page.words
    assert f"--at {stamp.seq}" in page.words and "novate " in page.words
    return page


@pytest.mark.parametrize("who", ["ann", "pam", "cat", "dan"])
def test_risk_account_is_the_report_as_json(journal: Path, who: str) -> None:
    """The command prints what the pure function gives, money as strings of atoms, and names of hashes."""
    number = scene().account(who).number
    told = data_of(novate("risk", "account", number, "--journal", journal, "--json"))
    assert told == json.loads(json.dumps(to_json(account_report(found(who), number))))
    assert isinstance(told["equity_atoms"], str) and isinstance(told["account"], int)

    def check_names(value: Any) -> None:
        if isinstance(value, dict):
            for name, item in value.items():
                assert not isinstance(item, float) and (not name.endswith("_atoms") or isinstance(item, str))
                check_names(item)
        elif isinstance(value, list):
            for item in value:
                check_names(item)

    check_names(told)


@pytest.mark.slow
def test_risk_account_in_words_and_as_a_page(journal: Path, tmp_path: Path) -> None:
    """Text with every block; the page has heat map, scenario bars and margin through time."""
    page = tmp_path / "pam.html"
    number = scene().account("pam").number
    shown = novate("risk", "account", number, "--journal", journal, "--html", page)
    assert shown.exit_code == 0, shown.stderr
    for words in ("maintenance margin", "Greeks", "Collateral", "Distance to liquidation", "preset A", "journal root"):
        assert words in shown.stdout
    check_page(page, figures=3)
    again = tmp_path / "again.html"
    novate("risk", "account", number, "--journal", journal, "--html", again)
    assert again.read_text().replace("again.html", "pam.html") == page.read_text()


def test_risk_venue(journal: Path, tmp_path: Path) -> None:
    """JSON, text and page of the venue."""
    told = data_of(novate("risk", "venue", "--journal", journal, "--json"))
    assert int(told["prefunded_atoms"]) == sum(int(row["held_atoms"]) for row in told["resources"][:3])
    assert told["provenance"]["seq"] == len(scene().journal) - 1
    page = tmp_path / "venue.html"
    shown = novate("risk", "venue", "--journal", journal, "--html", page)
    assert "cover-2" in shown.stdout and "Oracle" in shown.stdout
    check_page(page, figures=0)


def test_reports_of_the_past(journal: Path) -> None:
    """--at stops the replay: the figures are those of that entry, and beyond the end there are none."""
    told = data_of(novate("risk", "venue", "--journal", journal, "--at", 20, "--no-signatures", "--json"))
    assert told["provenance"]["seq"] == 20 and told["provenance"]["epoch_seq"] == -1
    late = novate("risk", "venue", "--journal", journal, "--at", 10**6)
    assert late.exit_code == 1 and "novate: UNKNOWN_SEQ: the journal ends at entry" in late.stderr
    unknown = novate("risk", "account", 77, "--journal", journal)
    assert unknown.exit_code == 1 and "novate: UNKNOWN_ACCOUNT: no account 77" in unknown.stderr


def test_a_journal_that_lies_has_no_figures(tmp_path: Path) -> None:
    """One atom changed in one outcome: exit 5, as in an audit."""
    entries = scene().data()
    for seq, data in enumerate(entries):
        entry = decode_entry(data)
        if entry.outcomes and isinstance(entry.outcomes[-1], MarginChanged):
            told = entry.outcomes[-1]
            forged = MarginChanged(told.account, told.cash_atoms + 1, *list(_rest(told)))
            entries[seq] = encode_entry(seq, entry.time_us, entry.envelope, [*entry.outcomes[:-1], forged])
            break
    folder = write(tmp_path / "journal", entries)
    shown = novate("risk", "venue", "--journal", folder)
    assert shown.exit_code == 5 and "REPLAY_DIVERGED" in shown.stderr and "cash_atoms" in shown.stderr


def _rest(told: MarginChanged) -> tuple[int, int, int]:
    return told.equity_atoms, told.margin_initial_atoms, told.margin_maintenance_atoms


@pytest.mark.slow
def test_stress_run(journal: Path, tmp_path: Path) -> None:
    """Named scenarios and the reverse stress, as JSON and as a page with two figures per run."""
    page = tmp_path / "stress.html"
    words = ("stress", "run", "down-30", "halt-gap", "--reverse", "--journal", journal, "--html", page, "--json")
    told = data_of(novate(*words))
    assert [one["scenario"] for one in told["runs"]] == ["down-30", "halt-gap"]
    assert all(one["conserved"] for one in told["runs"]) and len(told["reverse"]["rows"]) == 4
    shown = check_page(page, figures=4)
    assert "Reverse stress" in shown.words and "insurance fund" in shown.words
    assert len(shown.ids) == len(set(shown.ids))


def test_stress_in_words(journal: Path) -> None:
    """One run in full; the list with every scenario's source; a word that is none."""
    shown = novate("stress", "run", "2020-03-12", "--journal", journal)
    assert "Black Thursday" in shown.stdout and "conserved after each" in shown.stdout
    listed = novate("stress", "list")
    assert listed.exit_code == 0 and "halt-gap" in listed.stdout and "keepers failed" in listed.stdout
    assert len(data_of(novate("stress", "list", "--json"))["scenarios"]) == 19
    unknown = novate("stress", "run", "tomorrow", "--journal", journal)
    assert unknown.exit_code == 1 and "novate: UNKNOWN_SCENARIO" in unknown.stderr
    for words in (("stress", "run", "--journal", journal), ("stress", "run", "down-30", "--all", "--journal", journal)):
        assert novate(*words).exit_code == 2
