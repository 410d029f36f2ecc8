# SPDX-License-Identifier: GPL-3.0-or-later
"""What the audit commands share: where the journal is, progress, how a verdict is told.

Rules: a journal is a data or journal directory, a published log (a directory with tiles, or its URL), or an operator's
interface. The text says first what was found and last what was not checked.
"""

import shlex
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clearing.cli.logs import exiting
from clearing.cli.output import COULD_NOT_CHECK, DIVERGED, PROOF_INVALID, emit, fail, moment

if TYPE_CHECKING:
    from clearing.audit.findings import Finding
    from clearing.audit.source import Source
    from clearing.audit.verdict import Audit
    from journal.published import PublishedLog


EPOCHS_SHOWN = 10
# What a published log can be refused for has exit statuses of its own.
log_statuses = exiting(
    {
        "LOG_INVALID": PROOF_INVALID,
        "CHECKPOINT_INVALID": PROOF_INVALID,
        "LOG_INCOMPLETE": COULD_NOT_CHECK,
        "LOG_UNREACHABLE": COULD_NOT_CHECK,
        "LOG_ANSWER": COULD_NOT_CHECK,
        "LOG_FORM": COULD_NOT_CHECK,
        "LOG_KEY": COULD_NOT_CHECK,
    }
)


# --- where the journal is ---


def source_of(journal: str | None, api: str | None, private: Path | None = None) -> "Source":
    """The journal at a path or URL, or behind an operator's interface. Raises `click.UsageError`."""
    if journal is None:
        if api is None:
            raise click.UsageError("give --journal DIR or --api URL")
        return _served(api)
    key = None
    if private is not None:
        from clearing.service.layout import read_key

        key = read_key(private)
    if "://" in journal:
        return _at_url(journal, key)
    return _in_directory(Path(journal), key)


def snapshots_of(journal: str | None, given: Path | None) -> Path | None:
    """The folder with snapshots: the given one, or the one in the data directory."""
    if given is not None or journal is None or "://" in journal:
        return given
    inner = Path(journal) / "snapshots"
    return inner if inner.is_dir() else None


def _in_directory(path: Path, key: bytes | None) -> "Source":
    from clearing.audit.source import LogSource, StoreSource
    from clearing.cli.sources import journal_path

    if not path.is_dir():
        raise click.UsageError(f"there is no directory {path}; give a data directory, a published log, or a URL")
    if (path / "tile").is_dir() and not (path / "journal").is_dir():
        note = _text(path / "checkpoint")
        return LogSource(partial(_open_directory, path, note, key))
    return StoreSource(journal_path(path), _text(path / "checkpoint"))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        fail("CHECKPOINT_INVALID", f"{path} is not a note", PROOF_INVALID)


def _open_directory(path: Path, note: str, key: bytes | None) -> "PublishedLog":
    from journal.folder import directory
    from journal.published import PublishedLog, unsigned

    log = PublishedLog(directory(path), unsigned, key)
    log.at(note)
    return log


def _open_url(url: str, note: str, key: bytes | None) -> "PublishedLog":
    from clearing.client.tlog import LogFetch
    from journal.published import PublishedLog, unsigned

    log = PublishedLog(LogFetch(url), unsigned, key, workers=8)
    log.at(note)
    return log


def _at_url(url: str, key: bytes | None) -> "Source":
    """A published log, or the operator's own interface at that URL."""
    from clearing.audit.source import LogSource
    from clearing.client.tlog import LogFetch

    with LogFetch(url) as fetch:
        try:
            note = fetch("checkpoint").decode()
        except FileNotFoundError:
            return _served(url)
        except UnicodeDecodeError:
            fail("CHECKPOINT_INVALID", f"{url}/checkpoint is not a note", PROOF_INVALID)
    return LogSource(partial(_open_url, url, note, key))


def _served(api: str) -> "Source":
    from clearing.audit.checkpoint import size_of
    from clearing.audit.source import StreamSource
    from clearing.cli.sources import entries
    from clearing.client.http import ApiClient

    with ApiClient(api) as client:
        note = client.checkpoint()
    return StreamSource(partial(entries, None, api), note, size_of(note))


# --- progress ---


class Progress:
    """Entries, rate and time to go, on a terminal's stderr; a line every half minute elsewhere."""

    def __init__(self, terminal: bool | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._terminal = sys.stderr.isatty() if terminal is None else terminal
        self._pause_s = 0.2 if self._terminal else 30.0
        self._started = self._last = clock()

    def __call__(self, count: int, total: int) -> None:
        """So many entries were compared, of so many (0: unknown)."""
        now = self._clock()
        if now - self._last < self._pause_s:
            return
        self._last = now
        line = self.line(count, total)
        click.echo(f"\r\x1b[K{line}" if self._terminal else line, err=True, nl=not self._terminal)

    def line(self, count: int, total: int) -> str:
        rate = count / max(1e-9, self._clock() - self._started)
        of = f" of {total:,}" if total else ""
        left = f", {_span(max(0, total - count) / rate)} to go" if total and rate else ""
        return f"replayed {count:,}{of} entries, {rate:,.0f}/s{left}"

    def done(self) -> None:
        if self._terminal:
            click.echo("\r\x1b[K", err=True, nl=False)


def _span(seconds: float) -> str:
    """A time to wait, as people say it."""
    if seconds < 120:
        return f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 7_200 else f"{seconds / 3_600:,.1f} h"


# --- the verdict ---


def reproduction() -> list[str]:
    """The command that makes this run's verdict again, wherever its options came from (the line or the environment).
    Of an endpoint's URL only scheme and host are said: a report is for others, and the rest is often a key."""
    context = click.get_current_context()
    words = context.command_path.split()
    for option in context.command.params:
        value = context.params.get(option.name or "")
        if not isinstance(option, click.Option) or value is None or value == option.default or value is False:
            continue
        if option.name in _NOT_REPEATED or value == ():
            continue
        for one in value if isinstance(value, tuple) else (value,):
            words.append(option.opts[0])
            if not option.is_flag:
                words.append(shlex.quote(_without_secrets(str(one))))
    return words


# What changes how a verdict is told, and not the verdict.
_NOT_REPEATED = ("as_json", "reports", "jobs")


def _without_secrets(text: str) -> str:
    if "://" not in text:
        return text
    from urllib.parse import urlsplit

    parts = urlsplit(text)
    place = parts.netloc.rpartition("@")[2]
    hidden = parts.username or parts.query or any(len(part) > 20 for part in parts.path.split("/"))
    return f"{parts.scheme}://{place}/..." if hidden else text


def tell(audit: "Audit", as_json: bool, reports: tuple[Path, ...] = ()) -> None:
    """Print the verdict, write the reports, and end with the exit status it calls for."""
    from clearing.audit.summary import summary

    found = summary(audit, reproduction())
    for path in reports:
        _write(path, found)
    emit(found, as_json, _lines(audit, found))
    report = audit.report
    if report.divergence is not None:
        fail("REPLAY_DIVERGED", f"the journal is not what its commands give: {report.divergence}", DIVERGED)
    if audit.findings:
        code = "CHAIN_DIFFERS" if any(_of_chain(finding) for finding in audit.findings) else audit.findings[0].code
        count = len(audit.findings)
        fail(code, f"disagreements with what was published: {count}; the first is {audit.findings[0]}", DIVERGED)
    if not audit.replayed:
        text = "the entries could not be read, so nothing was replayed; for a private log give --private FILE, its key"
        fail("ENTRIES_UNREADABLE", text, COULD_NOT_CHECK)
    if audit.behind:
        text = f"{audit.behind[0]}; fetch a newer copy of the journal: if there is none, entries are withheld"
        fail("JOURNAL_BEHIND", text, COULD_NOT_CHECK)


def _of_chain(finding: "Finding") -> bool:
    return finding.vault >= 0 or finding.code == "WRONG_VAULT"


def _write(path: Path, found: dict[str, Any]) -> None:
    import json

    if path.suffix == ".json":
        text = json.dumps(found, indent=2) + "\n"
    else:
        from clearing.report.audit import audit_page

        text = audit_page(found)
    path.write_text(text, encoding="utf-8")


def _lines(audit: "Audit", found: dict[str, Any]) -> list[str]:
    from clearing.report.audit import verdict

    report, seconds = audit.report, max(audit.seconds, 1e-9)
    lines = [f"verdict: {verdict(found)}"]
    if audit.replayed:
        rate = f", {report.entries / seconds:,.0f}/s" if report.entries >= 1_000 else ""
        lines += [f"replayed {report.entries:,} entries in {audit.seconds:.1f} s{rate}, root 0x{audit.root.hex()}"]
    else:
        lines += [f"{audit.size:,} entries that could not be read, root 0x{audit.root.hex()}"]
    lines += _epoch_lines(audit) + _checkpoint_lines(found) + _money_lines(found)
    if report.divergence is not None:
        lines.append(f"DIVERGED at {report.divergence}")
        lines += [f"  {field}" for field in report.divergence.fields]
    lines += [f"{'CHAIN DIFFERS' if _of_chain(f) else 'DIFFERS'}: {f}" for f in audit.findings]
    if report.ok and not audit.findings:
        of = f" (of {len(audit.vaults)} of {found['vaults']} vaults)" if len(audit.vaults) < found["vaults"] else ""
        roots = "every posted root is the journal's" if audit.replayed else "every posted journal root is this log's"
        told = ["every outcome recomputed"] if audit.replayed else []
        lines.append(" and ".join(told + ([f"{roots}{of}"] if audit.vaults else [])) or "nothing was compared")
    return lines + [f"not checked: {text}" for text in audit.unchecked] + [f"note: {text}" for text in report.notes]


def _checkpoint_lines(found: dict[str, Any]) -> list[str]:
    note = found["checkpoint"]
    if note is None or not note["ok"]:
        return []
    names = f", witnessed by {', '.join(note['witnesses'])}" if note["witnesses"] else ""
    return [f"the signed checkpoint of {note['size']:,} entries is this log's{names}"]


def _money_lines(found: dict[str, Any]) -> list[str]:
    lines = []
    short = {(row["vault"], row["asset"]) for row in found["balances"] if not row["ok"]}
    for row in found["money"]:
        if row["ok"]:
            held, paid, promised = (int(row[f"{name}_atoms"]) for name in ("holdings", "paid_out", "promised"))
            covered = "" if (row["vault"], row["asset"]) in short else "; adds up, at every posted epoch"
            lines.append(
                f"vault {row['vault']}, asset {row['asset']}: {held:,} atoms held, {paid:,} paid out, {promised:,} "
                f"promised{covered}"
            )
    return lines


def _epoch_lines(audit: "Audit") -> list[str]:
    lines = []
    epochs = audit.report.epochs
    vaults = len(audit.genesis.vaults) if audit.genesis is not None else 0
    if len(epochs) > EPOCHS_SHOWN:
        lines.append(f"{len(epochs):,} epochs; the last {EPOCHS_SHOWN}:")
    for epoch in epochs[-EPOCHS_SHOWN:]:
        for number, part in enumerate(epoch.outcome.vaults):
            name = f"epoch {epoch.outcome.epoch}" + (f", vault {number}" if vaults > 1 else "")
            told = f"exit root {part.exit_root.hex()[:16]}…, sum {part.exit_sums[0]:,} atoms" if part.live else "frozen"
            lines.append(f"{name}, {moment(epoch.close_time_us)}: {told}")
    return lines
