# SPDX-License-Identifier: GPL-3.0-or-later
"""What the audit commands share: where the journal is, progress, how a verdict is told.

Rules: a journal is a data or journal directory, a published log (a directory with tiles, or its URL), or an operator's
interface. The text says first what was found and last what was not checked.
"""

import shlex
import sys
import time
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import click

from clearing.cli.output import COULD_NOT_CHECK, DIVERGED, PROOF_INVALID, emit, fail, moment

if TYPE_CHECKING:
    from clearing.audit.source import Source
    from clearing.audit.verdict import Audit
    from journal.published import PublishedLog

P = ParamSpec("P")
R = TypeVar("R")

EPOCHS_SHOWN = 10
_STATUS = {
    "LOG_INVALID": PROOF_INVALID,
    "CHECKPOINT_INVALID": PROOF_INVALID,
    "LOG_INCOMPLETE": COULD_NOT_CHECK,
    "LOG_UNREACHABLE": COULD_NOT_CHECK,
    "LOG_ANSWER": COULD_NOT_CHECK,
    "LOG_FORM": COULD_NOT_CHECK,
    "LOG_KEY": COULD_NOT_CHECK,
}


def log_statuses(command: Callable[P, R]) -> Callable[P, R]:
    """What a published log can be refused for has exit statuses of its own."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except Exception as error:
            code = getattr(error, "code", None)
            if isinstance(code, str) and code in _STATUS:
                fail(code, str(getattr(error, "message", error)), _STATUS[code])
            raise

    return run


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
    from clearing.audit.source import StreamSource
    from clearing.cli.sources import entries
    from clearing.client.http import ApiClient

    with ApiClient(api) as client:
        note = client.checkpoint()
    return StreamSource(partial(entries, None, api), note)


# --- progress ---


class Progress:
    """Entries, rate and time to go, on a terminal's stderr; a line every half minute elsewhere."""

    def __init__(self, total: int, terminal: bool | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._clock = total, clock
        self._terminal = sys.stderr.isatty() if terminal is None else terminal
        self._pause_s = 0.2 if self._terminal else 30.0
        self._started = self._last = clock()

    def __call__(self, count: int) -> None:
        now = self._clock()
        if now - self._last < self._pause_s:
            return
        self._last = now
        click.echo(
            f"\r\x1b[K{self.line(count)}" if self._terminal else self.line(count), err=True, nl=not self._terminal
        )

    def line(self, count: int) -> str:
        rate = count / max(1e-9, self._clock() - self._started)
        of = f" of {self._total:,}" if self._total else ""
        left = f", {max(0, self._total - count) / rate:,.0f} s to go" if self._total and rate else ""
        return f"replayed {count:,}{of} entries, {rate:,.0f}/s{left}"

    def done(self) -> None:
        if self._terminal:
            click.echo("\r\x1b[K", err=True, nl=False)


# --- the verdict ---


def reproduction() -> list[str]:
    """The command line of this run, as it can be typed again."""
    return ["novate", *(shlex.quote(argument) for argument in sys.argv[1:])]


def tell(audit: "Audit", chains: int, as_json: bool, reports: tuple[Path, ...] = ()) -> None:
    """Print the verdict, write the reports, and end with the exit status it calls for."""
    from clearing.audit.summary import summary

    found = summary(audit, reproduction())
    for path in reports:
        _write(path, found)
    emit(found, as_json, _lines(audit, found, chains))
    report = audit.report
    if report.divergence is not None:
        fail("REPLAY_DIVERGED", f"the journal is not what its commands give: {report.divergence}", DIVERGED)
    if audit.findings:
        code = "CHAIN_DIFFERS" if any(finding.vault >= 0 for finding in audit.findings) else audit.findings[0].code
        count = len(audit.findings)
        fail(code, f"disagreements with what was published: {count}; the first is {audit.findings[0]}", DIVERGED)
    if audit.behind:
        text = f"{audit.behind[0]}; fetch a newer copy of the journal: if there is none, entries are withheld"
        fail("JOURNAL_BEHIND", text, COULD_NOT_CHECK)


def _write(path: Path, found: dict[str, Any]) -> None:
    import json

    if path.suffix == ".json":
        text = json.dumps(found, indent=2) + "\n"
    else:
        from clearing.report.audit import audit_page

        text = audit_page(found)
    path.write_text(text, encoding="utf-8")


def _lines(audit: "Audit", found: dict[str, Any], chains: int) -> list[str]:
    report, seconds = audit.report, max(audit.seconds, 1e-9)
    rate = f", {report.entries / seconds:,.0f}/s" if report.entries >= 1_000 else ""
    lines = [f"replayed {report.entries:,} entries in {audit.seconds:.1f} s{rate}, root 0x{report.root.hex()}"]
    lines += _epoch_lines(audit)
    note = found["checkpoint"]
    if note is not None and note["ok"]:
        names = f", witnessed by {', '.join(note['witnesses'])}" if note["witnesses"] else ""
        lines.append(f"the signed checkpoint of {note['size']:,} entries is this log's{names}")
    for row in found["money"]:
        if row["ok"]:
            held, paid = int(row["holdings_atoms"]), int(row["paid_out_atoms"])
            lines.append(f"vault {row['vault']}, asset {row['asset']}: {held:,} atoms held, {paid:,} paid out; adds up")
    if report.divergence is not None:
        lines.append(f"DIVERGED at {report.divergence}")
        lines += [f"  {field}" for field in report.divergence.fields]
    lines += [f"{'CHAIN DIFFERS' if f.vault >= 0 else 'DIFFERS'}: {f}" for f in audit.findings]
    if audit.ok:
        vaults = found["vaults"]
        compared = f" (of {chains} of {vaults} vaults)" if chains < vaults else ""
        roots = f" and every posted root is the journal's{compared}" if chains else ""
        lines.append("every outcome recomputed" + roots)
    return lines + [f"not checked: {text}" for text in audit.unchecked] + [f"note: {text}" for text in report.notes]


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
