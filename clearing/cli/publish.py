# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate journal publish`: the journal as static files."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clearing.cli.audit import journal
from clearing.cli.logs import PASSING, Meter, every_option, repeat, signing_key, statuses
from clearing.cli.options import json_option
from clearing.cli.output import COULD_NOT_CHECK, PROOF_INVALID, emit, fail, note, reports_errors

if TYPE_CHECKING:
    from clearing.client.tlog import LogFetch
    from journal.tiles import Published


@journal.command("publish")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--data", envvar="NOVATE_DATA", type=click.Path(path_type=Path, file_okay=False), help="The operator's directory."
)
@click.option("--journal", "journal_dir", type=click.Path(path_type=Path, file_okay=False), help="A journal alone.")
@click.option("--note", "note_from", help="File or URL of the signed note; default: what the operator left in --data.")
@click.option(
    "--private", "private_key", type=click.Path(path_type=Path, dir_okay=False),
    help="Seal entries under the key in this file (64 hex digits, mode 0600); made if there is none.",
)  # fmt: skip
@click.option(
    "--witness", "witnesses", nargs=2, multiple=True, metavar="VKEY URL",
    help="A witness to cosign the checkpoint: its verifier key and URL; again for others.",
)  # fmt: skip
@click.option(
    "--policy", "policy_file", type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="File (C2SP tlog-policy) whose witnesses are asked, those with a URL; says when its quorum is not met.",
)  # fmt: skip
@every_option
@json_option
@reports_errors
@statuses
def publish_command(
    directory: Path,
    data: Path | None,
    journal_dir: Path | None,
    note_from: str | None,
    private_key: Path | None,
    witnesses: tuple[tuple[str, str], ...],
    policy_file: Path | None,
    every_s: float | None,
    as_json: bool,
) -> None:
    """Keep DIRECTORY as a published log that any web server can serve (C2SP tlog-tiles).

    Each run brings it up to the newest note that the operator has signed, beside a running operator. Bundles
    and tiles come first and the checkpoint last, so that readers find a whole log at any moment; to copy the
    directory elsewhere, copy `checkpoint` last, too.

    \b
    Open (default): anyone can read every entry, replay the journal, and check
    every outcome, balance and posted root.
    Private (--private): tiles and checkpoints are in clear, entries are sealed.
    Anyone can check that the log only grows, who signed it, and an entry that
    its owner discloses with a proof. Nobody without the key can check anything
    of entries that were not disclosed: no replay, no balances, no solvency.
    Visible all the same: how many entries, when, and how long each 256 are.

    Witnesses are asked when everything but the checkpoint is there. One that does not answer is named and holds
    nothing up: it is asked again at the next run.

    Exit codes: 0 published, 1 refused (LOG_AHEAD: the directory has more entries than the note; LOG_FOREIGN:
    another log's), 4 the note could not be fetched, 5 LOG_FORKED: another history is published there.
    """
    from clearing.cli.sources import journal_path
    from clearing.cli.witness import collector
    from journal import Store
    from journal.tiles import publish

    if (data is None) == (journal_dir is None):
        raise click.UsageError("give --data DIR, the operator's directory, or --journal DIR with --note")
    if data is None and note_from is None:
        raise click.UsageError("--journal needs --note: the operator's /v1/checkpoint, or a file with a signed note")
    cosign = collector(directory, witnesses, policy_file)
    key = _private_key(private_key, directory)
    source = journal_path(data if data is not None else journal_dir or Path())
    with Store.open(source, read_only=True) as store, _notes(data, note_from) as newest:
        meter = Meter("published")
        log_key: str | None = None

        def turn() -> "Published":
            return publish(store, directory, newest(), key, cosign=cosign, on_progress=meter)

        def told(done: "Published") -> None:
            witnessed = cosign.report() if cosign is not None else None
            nonlocal log_key
            log_key = signing_key(store, (directory / "checkpoint").read_text(encoding="utf-8"), log_key)
            _tell_published(done, directory, log_key, witnessed, as_json)

        repeat(turn, every_s, told, passing=PASSING)


def _private_key(path: Path | None, directory: Path) -> bytes | None:
    if path is None:
        return None
    from clearing.service.layout import ensure_key, read_key

    if path.exists() or (directory / "checkpoint").exists():
        return read_key(path)
    key = ensure_key(path)
    note(f"made {path}; keep a copy of it, since without it nobody reads the entries of this log again")
    return key


@contextmanager
def _notes(data: Path | None, given: str | None) -> Iterator[Callable[[], str]]:
    """How to come by the newest note."""
    if given is not None and given.startswith(("http://", "https://")):
        from clearing.client.tlog import LogFetch

        url, _, name = given.rpartition("/")
        with LogFetch(url) as fetch:
            yield lambda: _served_note(fetch, name)
        return
    path = Path(given) if given is not None else (data or Path()) / "checkpoint"

    def read() -> str:
        try:
            return path.read_text(encoding="utf-8")
        except FileNotFoundError:
            fail(
                "NOTE_NOT_FOUND",
                f"{path} does not exist; the operator writes it when it starts: start it, or give --note",
                COULD_NOT_CHECK,
            )
        except UnicodeDecodeError:
            fail("CHECKPOINT_INVALID", f"{path} is not a note", PROOF_INVALID)

    yield read


def _served_note(fetch: "LogFetch", name: str) -> str:
    from proofs.errors import CheckpointError

    try:
        return fetch(name).decode()
    except UnicodeDecodeError:
        raise CheckpointError(f"{fetch.url}/{name} is not a note") from None
    except FileNotFoundError as error:
        fail("NOTE_NOT_FOUND", f"{error}; an operator serves it at /v1/checkpoint", COULD_NOT_CHECK)


def _tell_published(
    done: "Published", directory: Path, key: str | None, witnesses: list[dict[str, Any]] | None, as_json: bool
) -> None:
    data: dict[str, Any] = {
        "origin": done.origin,
        "size": done.size,
        "root": done.root,
        "previous": done.previous,
        "form": done.form,
        "files": done.files,
        "deleted": done.deleted,
        "directory": str(directory),
        "verifier_key": key,
    }
    grown = f"{done.size - done.previous:,} new" if done.size > done.previous else "nothing new"
    line = f"published {done.size:,} entries ({grown}, {done.form}) of {done.origin}, root {done.root.hex()[:16]}…"
    if witnesses is not None:
        data["witnesses"] = witnesses
        names = [str(one["name"]) for one in witnesses if one["time_s"] is not None]
        line += f", cosigned by {', '.join(names) or 'nobody'}"
    emit(data, as_json, [line, *([f"verifier key: {key}"] if key is not None and not done.previous else [])])
