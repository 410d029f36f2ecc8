# SPDX-License-Identifier: GPL-3.0-or-later
"""Following a published log: a copy of it in which everything was checked before it was kept.

Rules:
- The note is checked first, then its root against the tiles, then that this log extends the one that
  the mirror holds. Only then anything is fetched in bulk, and each tile and bundle is checked on the way.
- The mirror's own checkpoint is replaced last: the copy is a whole log at any moment, in the layout in
  which it was published, and can itself be served and mirrored.
- A log that does not extend what it has signed before is a fork. Both notes are kept under evidence/,
  with a proof anyone can check: `notes` (both texts), `size`, `root` (what the later note's log has at
  that size; it differs from the earlier note's) and `consistency` (the RFC 9162 path from `root` at
  `size` to the later note's root).
- An interrupted run goes on where it was. The note it was fetching counts as one that was seen.
- Without the key of a private log only tiles are mirrored; `Mirrored.unchecked` says what that leaves out.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from journal import errors
from journal.errors import JournalError
from journal.folder import KEEP_PARTIALS_S, Folder
from journal.published import NO_ENTRIES, OPEN, PRIVATE, Check, Fetch, PublishedLog, unsigned
from proofs.checkpoint import Checkpoint
from proofs.errors import ProofError
from proofs.log import verify_consistency
from proofs.sealed import seal
from proofs.tiles import OPEN_ENTRIES, PRIVATE_ENTRIES, TILE_WIDTH, Tile, encode_bundle, tiles

_REMEMBER_BUNDLES: Final = 1_024
ENTRIES_PRIVATE: Final = (
    "entries: this log is private and no key was given, so no entry was read, and nothing can be replayed"
)
ENTRIES_ABSENT: Final = "entries: only tiles were asked for, so no entry was read, and nothing can be replayed"


@dataclass(frozen=True, slots=True)
class Mirrored:
    """What a turn did: the checkpoint that the mirror now holds, the size before, entries that were checked in
    this turn, files written and deleted; and in words what could not be checked."""

    origin: str
    size: int
    root: bytes
    previous: int
    form: str
    entries: int
    files: int
    deleted: int
    unchecked: tuple[str, ...]


class Evidence(msgspec.Struct, frozen=True):
    """Proof of a fork, as it is kept: see the module's rules. Hashes are hexadecimal."""

    notes: tuple[str, str]
    size: int
    root: str
    consistency: tuple[str, ...]


def check_evidence(data: bytes, check: Check) -> tuple[Checkpoint, Checkpoint]:
    """The two checkpoints of a fork, of which no log can hold both. Raises ProofError if the evidence shows none."""
    try:
        found = msgspec.json.decode(data, type=Evidence)
        root, path = bytes.fromhex(found.root), [bytes.fromhex(item) for item in found.consistency]
    except (msgspec.MsgspecError, ValueError) as error:
        raise ProofError(f"the evidence cannot be read: {error}") from None
    earlier, later = check(found.notes[0]), check(found.notes[1])
    if earlier.origin != later.origin or earlier.size != found.size or root == earlier.root:
        raise ProofError("the two notes do not contradict each other")
    verify_consistency(found.size, later.size, path, root, later.root)
    return earlier, later


class Mirror:
    """A mirror of the log behind `fetch` in `directory`; use as a context manager.

    Raises JournalError as `Folder` does.
    """

    def __init__(
        self,
        fetch: Fetch,
        folder: Folder,
        check: Check,
        *,
        private_key: bytes | None = None,
        tiles_only: bool = False,
        workers: int = 8,
        keep_partials_s: float = KEEP_PARTIALS_S,
        now: Callable[[], float] = time.time,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._folder = folder
        self._log = PublishedLog(fetch, check, private_key, workers)
        self._key = private_key
        self._tiles_only = tiles_only
        self._keep_s = keep_partials_s
        self._now = now
        self._on_progress = on_progress

    def turn(self) -> Mirrored:
        """Fetch the newest checkpoint and bring the mirror up to it.

        Raises ProofError where `check` refuses the note, what `fetch` raises, and JournalError: LOG_FORKED (see
        evidence/), LOG_BEHIND (an older log than the mirror's, as far as is known of the same history),
        LOG_FOREIGN, LOG_INVALID, LOG_INCOMPLETE, LOG_FORM, LOG_KEY, DISK_FULL. Readers of the mirror then see
        what they saw before.
        """
        folder, log = self._folder, self._log
        folder.written = 0
        note, tip = log.fetch_note()
        held = folder.note()
        old = unsigned(held) if held is not None else None
        self._check_known(note, tip, held)
        log.at(note)
        self._check_growth(tip, held)
        state = folder.state()
        if state.pending:
            self._check_growth(tip, state.pending)
        previous = old.size if old is not None else 0
        with_entries = self._with_entries(previous)
        count = 0
        if old is None or tip.size > old.size:
            count = self._fetch_all(note, tip, previous, with_entries)
        if note != held:
            folder.put_note(note)
        if folder.state().pending:
            state = folder.state()
            state.pending, state.bundles = "", 0
            folder.remember(state)
        deleted = folder.sweep(tip.size, self._keep_s, self._now)
        unchecked = () if with_entries else (ENTRIES_PRIVATE if log.form == PRIVATE else ENTRIES_ABSENT,)
        form = log.form if with_entries else NO_ENTRIES
        return Mirrored(tip.origin, tip.size, tip.root, previous, form, count, folder.written, deleted, unchecked)

    # -- is it the same log? ----------------------------------------------------------------------

    def _check_known(self, note: str, tip: Checkpoint, held: str | None) -> None:
        """Against what the mirror has, before anything of the new log is fetched."""
        if held is None:
            return
        old = unsigned(held)
        if old.origin != tip.origin:
            raise JournalError(
                errors.LOG_FOREIGN,
                f"{self._folder.path} mirrors {old.origin[:200]!r}, and this is {tip.origin[:200]!r}; "
                "choose another directory",
            )
        if tip.size > old.size or (tip.size, tip.root) == (old.size, old.root):
            return
        own = PublishedLog(self._folder.fetch, unsigned)
        own.at(held)
        then = own.tree().root(tip.size)
        if then != tip.root:
            path = own.tree().consistency(tip.size) if tip.size else []
            self._forked(note, held, tip.size, then, path)
        raise JournalError(
            errors.LOG_BEHIND,
            f"the log now shows {tip.size} entries and the mirror has {old.size} of the same history: an older copy "
            "or a cache is being served; try again later",
        )

    def _check_growth(self, tip: Checkpoint, seen: str | None) -> None:
        """That the log at `tip`, where the reader is, begins with the one of a note that was seen before."""
        if seen is None:
            return
        old = unsigned(seen)
        if old.origin != tip.origin or old.size > tip.size:
            if old.origin == tip.origin:
                raise JournalError(
                    errors.LOG_BEHIND,
                    f"the log now shows {tip.size} entries, and an earlier fetch saw a signed note of {old.size}: an "
                    "older copy or a cache is being served; try again later",
                )
            return
        tree = self._log.tree()
        now = tree.root(old.size)
        if now != old.root:
            self._forked(seen, self._log.note, old.size, now, tree.consistency(old.size))

    def _forked(self, earlier: str, later: str, size: int, root: bytes, path: list[bytes]) -> None:
        evidence = Evidence((earlier, later), size, root.hex(), tuple(item.hex() for item in path))
        data = msgspec.json.format(msgspec.json.encode(evidence))
        first, second = unsigned(earlier), unsigned(later)
        name = f"fork-{first.size}-{second.size}-{hashlib.sha256(data).hexdigest()[:8]}.json"
        kept = self._folder.keep_evidence(name, data)
        raise JournalError(
            errors.LOG_FORKED,
            f"{first.origin} has signed two histories: its checkpoints of {first.size} and {second.size} entries "
            f"exclude each other. Both notes and the proof are in {kept}; show them to others",
            size,
        )

    # -- fetching ---------------------------------------------------------------------------------

    def _with_entries(self, previous: int) -> bool:
        """Whether entries are mirrored, which must stay as it was."""
        form = self._log.form
        if form == NO_ENTRIES and not self._tiles_only:
            raise JournalError(
                errors.LOG_INCOMPLETE,
                "this log serves tiles and no entries. If that is what you want of it, ask for tiles only",
            )
        wanted = not self._tiles_only and self._log.readable
        if previous:
            first = {Tile(0, 0, min(previous, TILE_WIDTH)), Tile(0, 0)}
            has = {
                kind
                for kind, room in ((OPEN, OPEN_ENTRIES), (PRIVATE, PRIVATE_ENTRIES))
                if any(self._folder.holds(tile.bundle_path(room)) for tile in first)
            }
            if has != ({form} if wanted else set()):
                held = " and ".join(sorted(has)) or "no"
                raise JournalError(
                    errors.LOG_FORM,
                    f"{self._folder.path} holds {held} entry bundles, and this run would mirror "
                    f"{form if wanted else 'no'} ones; choose another directory, or give the same key as before",
                )
        return wanted

    def _fetch_all(self, note: str, tip: Checkpoint, previous: int, with_entries: bool) -> int:
        folder, log = self._folder, self._log
        state = folder.state()
        first = max(previous // TILE_WIDTH, state.bundles if state.pending else 0)
        state.pending = note
        state.bundles = first
        folder.remember(state)
        for tile in tiles(tip.size, previous):
            if tile.level or not with_entries:
                folder.put(tile.path, log.tile(*tile))
                if tile.level == 0:
                    self._progress(tile, tip.size)
        if not with_entries:
            return 0
        count = 0
        for tile, hashes, raw, entries in log.bundles(first, -(-tip.size // TILE_WIDTH)):
            folder.put(tile.path, hashes)
            self._put_bundle(tile, raw, entries)
            count += tile.width
            if (tile.n + 1) % _REMEMBER_BUNDLES == 0 and tile.full:
                state.bundles = tile.n + 1
                folder.remember(state)
            self._progress(tile, tip.size)
        return count

    def _progress(self, tile: Tile, size: int) -> None:
        if self._on_progress is not None:
            self._on_progress(tile.n * TILE_WIDTH + tile.width, size)

    def _put_bundle(self, tile: Tile, raw: tuple[bytes, int], entries: list[bytes]) -> None:
        data, width = raw
        if self._log.form == OPEN:
            bundle = data if width == tile.width else encode_bundle(entries)
            self._folder.put(tile.bundle_path(OPEN_ENTRIES), bundle)
            return
        assert self._key is not None, "a private log is read with its key only"
        sealed = data if width == tile.width else seal(self._key, tile.n, encode_bundle(entries))
        self._folder.put(tile.bundle_path(PRIVATE_ENTRIES), sealed)
