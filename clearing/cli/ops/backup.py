# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate operator backup` and `restore`: a copy while the operator runs, and the way back that cannot equivocate."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clearing.cli.options import json_option
from clearing.cli.output import emit, note, reports_errors

if TYPE_CHECKING:
    from clearing.service.config import Config
    from clearing.service.ops.restore import Blocks, Evidence

_folder = click.Path(path_type=Path, file_okay=False)
_passphrase = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="File with the passphrase of the keys (mode 0600), or set NOVATE_PASSPHRASE.",
)


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


@click.command("backup")
@click.argument("directory", type=_folder)
@click.argument("target", type=_folder)
@_passphrase
@json_option
@reports_errors
def back_up(directory: Path, target: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Back DIRECTORY up into the new directory TARGET, while the operator runs, and verify it.

    With a passphrase the keys are in it, encrypted; without one no key is: keep them elsewhere.
    """
    import msgspec

    from clearing.service.ops import backup
    from clearing.service.ops.sealed import read_passphrase

    started = time.monotonic()
    passphrase = read_passphrase(passphrase_file)
    manifest = backup.back_up(directory, target, time.time_ns() // 1_000, passphrase)
    data = {name: value for name, value in msgspec.to_builtins(manifest).items() if name != "files"}
    size_bytes = sum(note.size for note in manifest.files.values())
    seconds = round(time.monotonic() - started, 3)
    emit({"target": target} | data | {"bytes": size_bytes, "verified": True, "seconds": seconds}, as_json)
    if passphrase is None:
        note("no key is in this backup: keep copies of the keys elsewhere, or back up with --passphrase-file")


@click.command("restore")
@click.argument("backup", type=_folder)
@click.argument("directory", type=_folder)
@click.option("--from", "source", help="Bring in what is missing: the old data directory, or a mirror's or API's URL.")
@click.option(
    "--checkpoint",
    "checkpoints",
    multiple=True,
    help="A signed checkpoint that someone holds: a file, or a URL that serves one. Repeatable.",
)
@click.option("--nothing-since", is_flag=True, help="State that the operator signed nothing after this backup.")
@_passphrase
@json_option
@reports_errors
def restore(
    backup: Path,
    directory: Path,
    source: str | None,
    checkpoints: tuple[str, ...],
    nothing_since: bool,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Restore BACKUP into the new DIRECTORY (only keys/ may be there), if going on from it cannot equivocate.

    Every vault is asked for its last header, at the endpoints of the backed up config.toml and the environment. What
    they or a checkpoint are ahead of the backup must be brought in with --from, or nothing is restored.
    """
    import msgspec

    from clearing.service import config as configuration
    from clearing.service.ops.backup import read_manifest
    from clearing.service.ops.restore import Restore, backed_up_config, evidence_of_note
    from clearing.service.ops.sealed import read_passphrase

    passphrase = read_passphrase(passphrase_file)
    manifest = read_manifest(backup)
    config = _with_environment(configuration.parse(backed_up_config(backup), str(backup / "config.toml")))
    evidence = [evidence_of_note(_checkpoint(place), place) for place in checkpoints]
    blocks: Blocks | None = None
    if source is not None:
        found, blocks = _source(source)
        evidence.append(found)
    restored = Restore(backup, directory).run(config, evidence, blocks, passphrase, nothing_since)
    data = msgspec.to_builtins(restored) | {"root": restored.root}
    data["evidence"] = [{"source": row.source, "size": row.size} for row in restored.evidence]
    emit({"directory": directory} | data, as_json)
    if not restored.keys:
        why = "are sealed: give the passphrase" if manifest.sealed_keys else "were not backed up"
        note(f"the keys {why}; {directory}/keys must hold them before the operator runs")
    note(f"vouchers signed after the backup are not known here; now: novate doctor {directory}")


def _with_environment(config: "Config") -> "Config":
    import os

    from clearing.service.config import with_environment

    return with_environment(config, os.environ)


def _checkpoint(place: str) -> str:
    """The text of a signed checkpoint. Raises `NovateError` CHECKPOINT_NOT_FOUND, `OSError`."""
    if not _is_url(place):
        return Path(place).read_text(encoding="utf-8")
    import httpx

    from clearing.model.errors import NovateError

    try:
        response = httpx.get(place, timeout=20, follow_redirects=True)
        response.raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = str(error) or type(error).__name__
        raise NovateError("CHECKPOINT_NOT_FOUND", f"{place}: {reason}; check the URL") from None
    return response.text


def _source(source: str) -> "tuple[Evidence, Blocks]":
    """What a mirror or the old disk says its head is, and its blocks."""
    from clearing.service.ops.restore import evidence_of_journal, evidence_of_note

    if not _is_url(source):
        from clearing.cli.sources import journal_path
        from clearing.model.errors import NovateError
        from clearing.service.ops.private import read_running

        running = read_running(Path(source))
        if running is not None and running.alive():
            raise NovateError("STILL_RUNNING", f"process {running.pid} still signs from {source}; stop it first")
        path = journal_path(Path(source))
        return evidence_of_journal(path), lambda seq: _stored(path, seq)
    from clearing.client.http import ApiClient

    def served(seq: int) -> Iterable[bytes]:
        from journal.block import decode

        with ApiClient(source) as client:
            while found := client.blocks(seq):
                for raw in found:
                    yield raw
                    seq = decode(raw).next_seq

    with ApiClient(source) as client:
        return evidence_of_note(client.checkpoint(), source), served


def _stored(path: Path, seq: int) -> Iterable[bytes]:
    from journal import Store

    with Store.open(path, read_only=True) as store:
        for block in store.read(seq):
            yield block.raw
