# SPDX-License-Identifier: GPL-3.0-or-later
"""A backup of a data directory, made while the operator runs.

    BACKUP/backup.json      manifest: deployment, journal size and root, every file with its SHA-256
    BACKUP/journal/         the journal as of one commit
    BACKUP/epochs, snapshots, attestations, vouchers, config.toml
    BACKUP/keys.sealed      the keys under a passphrase, if one was given; otherwise a backup holds no key

Rules:
- The caches are copied before the journal, so that nothing in them is ahead of it. What is being sent to the chains
  stays behind: posting goes on from what the vaults say.
- A backup is verified before it gets its name: the copy is read from its first byte to its last (journal.fsck), so one
  that exists is one that can be restored. It is made beside its place and renamed; nothing is overwritten.
- A backup is not a data directory: a node does not start on one. Going on from an old copy can equivocate, so the way
  back is `clearing.service.ops.restore`.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from clearing.model.errors import NovateError
from clearing.service.commit import named
from clearing.service.config import FILE_NAME
from clearing.service.layout import Layout
from clearing.service.ops.sealed import seal
from clearing.service.recover import read_genesis
from journal import JournalError, Store
from journal.copying import copy_journal, used_bytes
from journal.fsck import fsck
from journal.layout import NO_SPACE, sync_directory

MANIFEST: Final = "backup.json"
SEALED: Final = "keys.sealed"
_VERSION: Final = 1
_FOLDERS: Final = ("epochs", "snapshots", "attestations", "vouchers")
# Beyond what the files take: the manifest, directories, the file system's own.
_SLACK_BYTES: Final = 1 << 20


class FileNote(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a backup holds. Hashes are hexadecimal; `size` and `root` are the journal's, `files` by relative path."""

    version: int
    deployment: str
    origin: str
    size: int
    root: str
    block_hash: str
    created_us: int
    sealed_keys: bool
    files: dict[str, FileNote]


def back_up(data_dir: Path, target: Path, now_us: int, passphrase: bytes | None = None) -> Manifest:
    """Back `data_dir` up into the new directory `target`.

    Raises `NovateError` BACKUP_EXISTS, BACKUP_NO_SPACE, JOURNAL_CORRUPT and the journal's codes, DISK_FULL.
    """
    layout = Layout(data_dir)
    with _named(), making(target) as folder:
        _require_space(layout, folder)
        for name in _FOLDERS:
            _copy_folder(data_dir / name, folder / name)
        _copy_file(data_dir / FILE_NAME, folder / FILE_NAME)
        if passphrase is not None:
            _write(folder / SEALED, seal(_keys(layout), passphrase))
        head = copy_journal(layout.journal, folder / "journal")
        verify_journal(folder / "journal")
        with Store.open(folder / "journal", read_only=True) as store:
            genesis = read_genesis(store)
        (folder / "journal" / "lock.mdb").unlink(missing_ok=True)
        manifest = Manifest(
            version=_VERSION,
            deployment=genesis.deployment.hex(),
            origin=genesis.origin,
            size=head.next_seq,
            root=head.tree_root.hex(),
            block_hash=head.block_hash.hex(),
            created_us=now_us,
            sealed_keys=passphrase is not None,
            files={name: _note(folder / name) for name in sorted(_files(folder))},
        )
        _write(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """Raises `NovateError` BACKUP_NOT_FOUND, BACKUP_DAMAGED."""
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise NovateError(
            "BACKUP_NOT_FOUND", f"{folder} has no {MANIFEST}: it is no backup, or not a whole one"
        ) from None
    except (OSError, msgspec.MsgspecError) as error:
        raise NovateError(
            "BACKUP_DAMAGED", f"{folder / MANIFEST} cannot be read: {error}; take another backup"
        ) from None
    if manifest.version != _VERSION:
        message = f"{folder} is a backup of version {manifest.version}, this build reads {_VERSION}; use its own build"
        raise NovateError("BACKUP_DAMAGED", message)
    return manifest


def verify(folder: Path) -> Manifest:
    """Check every file against the manifest, and the journal from its first byte to its last.

    Raises `NovateError` BACKUP_NOT_FOUND, BACKUP_DAMAGED, JOURNAL_CORRUPT.
    """
    manifest = read_manifest(folder)
    for name, wanted in manifest.files.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise NovateError("BACKUP_DAMAGED", f"{MANIFEST} names {name!r} outside of the backup; do not use it")
        if not path.is_file() or _note(path) != wanted:
            raise NovateError("BACKUP_DAMAGED", f"{path} is not the file that was backed up; take another backup")
    report = verify_journal(folder / "journal")
    if report != (manifest.size, manifest.root):
        raise NovateError("BACKUP_DAMAGED", f"the journal in {folder} is not the manifest's; take another backup")
    return manifest


def verify_journal(path: Path) -> tuple[int, str]:
    """(size, root) of a whole journal. Raises `NovateError` JOURNAL_CORRUPT and the journal's codes."""
    with _named():
        report = fsck(path)
    if not report.ok:
        problem = report.problems[0]
        raise NovateError("JOURNAL_CORRUPT", f"{path} is damaged ({problem.code}: {problem.reason}); use another copy")
    return report.entries, report.root


@contextmanager
def making(target: Path) -> Iterator[Path]:
    """A directory beside `target` that gets its name when the block is done, and is gone if it fails.

    Raises `NovateError` BACKUP_EXISTS.
    """
    target = target.absolute()
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise NovateError("BACKUP_EXISTS", f"{target} exists and is not empty; nothing is overwritten: choose another")
    folder = target.with_name(f".{target.name}.making")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    try:
        yield folder
        for path, _, _ in os.walk(folder):
            sync_directory(Path(path))
        folder.rename(target)
        sync_directory(target.parent)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


@contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except JournalError as error:
        raise named(error) from None
    except OSError as error:
        code = "DISK_FULL" if error.errno in NO_SPACE else "IO_ERROR"
        where = error.filename or "a file"
        raise NovateError(code, f"{where}: {error.strerror}; nothing was left behind") from None


def _require_space(layout: Layout, folder: Path) -> None:
    taken = sum(path.stat().st_size for name in _FOLDERS for path in (layout.root / name).glob("*") if path.is_file())
    needed = used_bytes(layout.journal) + taken + _SLACK_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise NovateError("BACKUP_NO_SPACE", f"{folder.parent} has {free} bytes free, {needed} are needed; make room")


def _keys(layout: Layout) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(layout.keys.iterdir()) if path.is_file()}


def _copy_folder(source: Path, target: Path) -> None:
    """Files without their half-written neighbours; one that is pruned meanwhile is not needed."""
    if not source.is_dir():
        return
    target.mkdir(mode=0o700)
    for path in sorted(source.iterdir()):
        if path.is_file() and path.suffix != ".tmp":
            try:
                _copy_file(path, target / path.name)
            except FileNotFoundError:
                continue


def _copy_file(source: Path, target: Path) -> None:
    with source.open("rb") as file:
        _write(target, file.read())


def _write(target: Path, content: bytes) -> None:
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _files(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]


def _note(path: Path) -> FileNote:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return FileNote(path.stat().st_size, digest.hexdigest())
