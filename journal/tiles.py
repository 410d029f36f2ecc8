# SPDX-License-Identifier: GPL-3.0-or-later
"""Publishing a journal as a directory of static files (C2SP tlog-tiles), kept up step by step.

Rules:
- What is published is what a signed note commits to. The hashes are computed anew from the entries and
  must fold to the note's root before the note is published: a damaged journal is never published.
- Bundles and tiles first, the checkpoint last and in one rename: a reader finds a whole log at any
  moment. A run that was killed is repeated; what it wrote is compared and kept.
- A directory is only ever extended: that of another log, of another history or of a longer one is
  refused. So is a change between the open and the private form.
- Two forms. Open: anyone can read and check everything. Private: bundles are sealed (`proofs.sealed`),
  and everyone but the holder of the key checks tiles, checkpoints and what owners disclose, no more.

The journal is read as any reader reads it, beside the process that writes it.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from os import PathLike
from typing import Final

from journal import errors
from journal.errors import JournalError
from journal.folder import KEEP_PARTIALS_S, Folder
from journal.published import EMPTY, OPEN, PRIVATE, PublishedLog, unsigned
from journal.replay import entries as stored
from journal.store import Store
from journal.tree import Frontier, leaf_hashes
from proofs import sealed
from proofs.checkpoint import Checkpoint
from proofs.errors import ProofError
from proofs.tiles import (
    OPEN_ENTRIES,
    PRIVATE_ENTRIES,
    TILE_BYTES,
    TILE_HEIGHT,
    TILE_WIDTH,
    Tile,
    TiledTree,
    encode_bundle,
    tile_of,
)

_HASH_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Published:
    """What a run did. `size` and `root` are those of the checkpoint that readers now see, `previous` is the size
    before; `files` were written and `deleted` (old partial ones) deleted."""

    origin: str
    size: int
    root: bytes
    previous: int
    form: str
    files: int
    deleted: int


def publish(
    store: Store,
    directory: str | PathLike[str],
    note: str,
    private_key: bytes | None = None,
    *,
    cosign: Callable[[str, int], str] | None = None,
    keep_partials_s: float = KEEP_PARTIALS_S,
    now: Callable[[], float] = time.time,
    on_progress: Callable[[int, int], None] | None = None,
) -> Published:
    """Bring `directory` up to `note`, a signed note of the journal in `store`.

    `private_key` (32 bytes) publishes in the private form. `cosign(note, previous size)` may return the note
    with further signature lines; it is called when everything but the checkpoint is there.
    `on_progress(entries, of)` hears of each bundle.

    Raises CheckpointError (the note cannot be read) and JournalError: NOTE_MISMATCH (the note is not of this
    journal), LOG_FOREIGN, LOG_AHEAD, LOG_FORKED, LOG_FORM, LOG_KEY, LOG_INVALID (what the directory holds is
    damaged), LOG_LOCKED, DISK_FULL, JOURNAL_CORRUPT; then readers see what they saw before.
    """
    tip = unsigned(note)
    _check_note(store, tip)
    with Folder(directory) as folder:
        before = _check_directory(store, folder, tip, private_key)
        previous = before.tip.size if before is not None and before.tip is not None else 0
        form = PRIVATE if private_key is not None else OPEN
        if before is not None and previous == tip.size:
            final = before.note if cosign is None else cosign(before.note, previous)
        else:
            write = _Writer(folder, private_key)
            _extend(store, write, before, tip, on_progress)
            final = note if cosign is None else cosign(note, previous)
        if before is None or final != before.note:
            if unsigned(final) != tip:
                raise JournalError(errors.NOTE_MISMATCH, "cosigning gave a note of another checkpoint")
            folder.put_note(final)
        deleted = folder.sweep(tip.size, keep_partials_s, now)
        return Published(tip.origin, tip.size, tip.root, previous, form, folder.written, deleted)


def _check_note(store: Store, tip: Checkpoint) -> None:
    size = store.head().tree_size
    if tip.size > size:
        raise JournalError(
            errors.NOTE_MISMATCH,
            f"the note is of {tip.size} entries and the journal has {size}: it is another journal's, or an older "
            "copy of this one was put in its place. Do not publish from it",
            size,
        )
    if store.root(tip.size) != tip.root:
        raise JournalError(
            errors.NOTE_MISMATCH, f"the note's root over {tip.size} entries is not this journal's; it is another's note"
        )


def _check_directory(store: Store, folder: Folder, tip: Checkpoint, key: bytes | None) -> PublishedLog | None:
    """The log that the directory holds, when `tip` extends it; None if it holds none."""
    text = folder.note()
    if text is None:
        return None
    before = PublishedLog(folder.fetch, unsigned, key)
    try:
        old = unsigned(text)
    except ProofError as error:
        raise JournalError(
            errors.LOG_INVALID, f"the checkpoint in {folder.path} cannot be read ({error.message}); {_ELSEWHERE}"
        ) from None
    if old.origin != tip.origin:
        raise JournalError(
            errors.LOG_FOREIGN, f"{folder.path} holds the log {old.origin[:200]!r}, not {tip.origin[:200]!r}; {_OTHER}"
        )
    if old.size > tip.size:
        raise JournalError(
            errors.LOG_AHEAD,
            f"{folder.path} has published {old.size} entries and this note is of {tip.size}. A published log never "
            "shrinks: was an older copy of the journal restored? Find the missing entries before you go on",
            tip.size,
        )
    if store.root(old.size) != old.root:
        raise JournalError(
            errors.LOG_FORKED,
            f"the first {old.size} entries of this journal are not those that {folder.path} has published under the "
            "operator's signature. Do not publish it: whoever compares the two has proof of a fork",
        )
    try:
        before.at(text)
    except JournalError as error:
        raise JournalError(errors.LOG_INVALID, f"{folder.path} is damaged ({error.message}); {_ELSEWHERE}") from None
    _check_form(folder, before, key)
    return before


_OTHER: Final = "choose another directory"
_ELSEWHERE: Final = "publish to an empty directory and serve that"


def _check_form(folder: Folder, before: PublishedLog, key: bytes | None) -> None:
    wanted = PRIVATE if key is not None else OPEN
    if before.form not in (wanted, EMPTY):
        raise JournalError(
            errors.LOG_FORM, f"{folder.path} is a log in the form {before.form!r}, not {wanted!r}; {_OTHER}"
        )
    if key is not None and before.size:
        last = (before.size - 1) // TILE_WIDTH
        before.bundle(last, tile_of(0, last, before.size).width)  # LOG_KEY unless it opens


class _Writer:
    """Where tiles and bundles go, in the form that was chosen."""

    def __init__(self, folder: Folder, private_key: bytes | None) -> None:
        self._folder = folder
        self._key = private_key

    def tile(self, tile: Tile, hashes: bytes) -> None:
        self._folder.put(tile.path, hashes)

    def bundle(self, tile: Tile, entries: list[bytes]) -> None:
        data = encode_bundle(entries)
        if self._key is None:
            self._folder.put(tile.bundle_path(OPEN_ENTRIES), data)
        else:
            self._folder.put(tile.bundle_path(PRIVATE_ENTRIES), sealed.seal(self._key, tile.n, data))


def _extend(
    store: Store,
    write: _Writer,
    before: PublishedLog | None,
    tip: Checkpoint,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    """Write what a tree of `tip` has and the one before has not, from the last full bundle on."""
    frontier = _frontier(before)
    for entries in _bundles(store, frontier.size, tip.size):
        tile = Tile(0, frontier.size // TILE_WIDTH, len(entries))
        frontier, tiles = frontier.extend(leaf_hashes(entries))
        write.bundle(tile, entries)
        for key, hashes in tiles:
            if len(hashes) == TILE_BYTES:
                write.tile(Tile(key[0], int.from_bytes(key[1:], "big")), hashes)
        if on_progress is not None:
            on_progress(frontier.size, tip.size)
    for level, tail in enumerate(frontier.tails):
        if tail:
            index = (frontier.size >> TILE_HEIGHT * level) // TILE_WIDTH
            write.tile(Tile(level, index, len(tail) // _HASH_BYTES), tail)
    if (frontier.size, frontier.root()) != (tip.size, tip.root):
        raise errors.corrupt(f"the first {tip.size} entries do not lead to the root that was signed")


def _frontier(before: PublishedLog | None) -> Frontier:
    """The right edge of the published tree, cut back to its last full bundle, from its verified tiles."""
    if before is None:
        return Frontier()
    tree: TiledTree = before.tree()
    size = before.size - before.size % TILE_WIDTH
    peaks = [tree.node(level, (size >> level) - 1) if size >> level & 1 else None for level in range(size.bit_length())]
    tails = [b""] if size else []
    for level in range(1, (size.bit_length() + TILE_HEIGHT - 1) // TILE_HEIGHT):
        index, width = divmod(size >> TILE_HEIGHT * level, TILE_WIDTH)
        tails.append(before.tile(level, index, width) if width else b"")
    return Frontier(size, peaks, tails)


def _bundles(store: Store, first: int, stop: int) -> Iterator[list[bytes]]:
    """The entries from `first`, a multiple of 256, to `stop`, in bundles."""
    if first == stop:
        return
    waiting: list[bytes] = []
    for seq, entry in stored(store, first):
        waiting.append(entry)
        if len(waiting) == TILE_WIDTH or seq + 1 == stop:
            yield waiting
            if seq + 1 == stop:
                return
            waiting = []
