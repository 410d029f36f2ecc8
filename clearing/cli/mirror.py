# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate journal mirror`: a checked copy of a published log."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import clearing.cli.publish  # noqa: F401 - a command of the same group
from clearing.cli.audit import journal
from clearing.cli.logs import PASSING, Meter, every_option, named_key, read_policy, repeat, statuses
from clearing.cli.options import json_option
from clearing.cli.output import COULD_NOT_CHECK, emit, fail, note, reports_errors

if TYPE_CHECKING:
    from journal.mirror import Mirrored
    from journal.published import Check, Fetch
    from proofs.checkpoint import Checkpoint
    from proofs.policy import Policy

__all__ = ["journal"]


@journal.command("mirror")
@click.argument("url")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--key", "keys", multiple=True, help="Verifier key of the log, <origin>+<id>+<base64>; again for others.")
@click.option(
    "--private", "private_key", type=click.Path(path_type=Path, dir_okay=False),
    help="File with the key of a private log.",
)  # fmt: skip
@click.option(
    "--policy", "policy_file", type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Witness policy (C2SP tlog-policy) that each checkpoint must satisfy; names the log's key, too.",
)  # fmt: skip
@click.option("--tiles-only", is_flag=True, help="No entries: enough to check growth and proofs, not to replay.")
@click.option("--follow", is_flag=True, help="Go on following, every 5 seconds or as --every says.")
@every_option
@json_option
@reports_errors
@statuses
def mirror_command(
    url: str,
    directory: Path,
    keys: tuple[str, ...],
    private_key: Path | None,
    policy_file: Path | None,
    tiles_only: bool,
    follow: bool,
    every_s: float | None,
    as_json: bool,
) -> None:
    """Copy the published log at URL (or in a directory) into DIRECTORY, checking everything.

    Checked: the signature of the checkpoint, that the log extends what DIRECTORY holds, every tile against the
    root, every entry against its leaf. A run that was interrupted goes on where it was. The copy is a published
    log itself: serve it, mirror it, audit it.

    \b
    Open log: everything above. Without --key the key is taken from the log's
    own first entry, its genesis; that it is the right log shows in the
    deployment id of its origin, which the vaults name.
    Private log with --private: the same. Without: tiles and checkpoints only;
    no entry is read, so nothing of what happened is checked, and the
    signature only with --key.

    With --policy a checkpoint that lacks the log's signature or the witnesses' is not taken.

    Exit codes: 0 up to date, 3 bytes, signature or policy do not hold, 4 not reachable, incomplete or behind, 5
    LOG_FORKED: the log has signed two histories; both notes and the proof are in DIRECTORY/evidence.
    """
    from clearing.service.layout import read_key
    from journal.folder import Folder
    from journal.mirror import Mirror
    from journal.published import signed_by, unsigned

    private = read_key(private_key) if private_key is not None else None
    with _source(url) as fetch, Folder(directory) as folder:
        unsigned_why: list[str] = []
        policy = read_policy(policy_file) if policy_file is not None else None
        if keys:
            check = signed_by(*keys)
        elif policy is not None and policy.logs:
            check = unsigned  # the policy looks at the signature
        else:
            check = _genesis_check(folder.fetch, fetch, private, unsigned_why)
        if policy is not None:
            check = _both(policy, check)
        meter = Meter("mirrored")
        mirror = Mirror(fetch, folder, check, private_key=private, tiles_only=tiles_only, on_progress=meter)
        pause = every_s or (5.0 if follow else None)
        repeat(
            mirror.turn,
            pause,
            lambda done: _tell_mirrored(done, directory, tuple(unsigned_why), as_json),
            passing=PASSING,
        )


def _both(policy: "Policy", check: "Check") -> "Check":
    """The policy, and the given keys."""

    def checked(text: str) -> "Checkpoint":
        policy.check(text)
        return check(text)

    return checked


@contextmanager
def _source(url: str) -> "Iterator[Fetch]":
    from journal.folder import directory

    if "://" not in url and Path(url).is_dir():
        yield directory(url)
        return
    from clearing.client.tlog import LogFetch

    with LogFetch(url) as fetch:
        yield fetch


def _genesis_check(own: "Fetch", fetch: "Fetch", private: bytes | None, unsigned_why: list[str]) -> "Check":
    """A check by the key that the log's genesis names; where there is none to read, no check, and `unsigned_why`
    says so."""
    from journal.published import EMPTY, PublishedLog, signed_by, unsigned
    from proofs import checkpoint as notes
    from proofs.errors import CheckpointError

    known: list[Check] = []

    def readable(text: str) -> PublishedLog:
        """The mirror where it holds entry 0 already, else the log itself."""
        log = PublishedLog(own, unsigned, private)
        try:
            log.checkpoint()
            if log.readable and log.form != EMPTY:
                return log
        except Exception:  # noqa: BLE001 - nothing mirrored yet, or not readable: the log is asked
            pass
        log = PublishedLog(fetch, unsigned, private)
        log.at(text)
        return log

    def check(text: str) -> notes.Checkpoint:
        tip = unsigned(text)
        if not known:
            log = readable(text)
            if not log.readable or log.form == EMPTY:
                unsigned_why[:] = [
                    "signature: no key was given, and the log shows no genesis that names one; give --key"
                ]
                return tip
            unsigned_why.clear()
            key = _genesis_key(next(log.entries(0, 1)))
            known.append(signed_by(key))
            note(f"key of the log, from its genesis: {key}")
        try:
            return known[0](text)
        except CheckpointError as error:
            raise CheckpointError(
                f"{error.message} (the key of the log's genesis; give --key if the operator has changed it since)"
            ) from None

    return check


def _genesis_key(entry: bytes) -> str:
    """The verifier key that entry 0 names; ends the command where it names none."""
    key = named_key(entry)
    if key is None:
        fail("NO_GENESIS", "entry 0 is not a genesis, which would name the log's key; give --key", COULD_NOT_CHECK)
    return key


def _tell_mirrored(done: "Mirrored", directory: Path, unsigned_why: tuple[str, ...], as_json: bool) -> None:
    unchecked = [*unsigned_why, *done.unchecked]
    data: dict[str, Any] = {
        "origin": done.origin,
        "size": done.size,
        "root": done.root,
        "previous": done.previous,
        "form": done.form,
        "entries_checked": done.entries,
        "files": done.files,
        "deleted": done.deleted,
        "unchecked": unchecked,
        "directory": str(directory),
    }
    grown = f"{done.size - done.previous:,} new" if done.size > done.previous else "nothing new"
    lines = [f"mirrored {done.size:,} entries ({grown}, {done.form}) of {done.origin}, root {done.root.hex()[:16]}…"]
    lines += [f"NOT CHECKED: {item}" for item in unchecked]
    emit(data, as_json, lines)
