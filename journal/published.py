# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading a published log: nothing is returned that was not led to the root of a checked checkpoint.

Rules:
- `fetch` is any way to the files: a path below the log's root in, bytes out, FileNotFoundError where there
  is no such file (`journal.folder.directory` for a directory; a client of HTTP lies elsewhere). It is not
  trusted with anything. It may be called from several threads.
- `check` says whether a note is believed: it returns the note's checkpoint or raises ProofError. Signatures
  and witnesses are its business (`signed_by`; a witness policy fits as well).
- The last, partial tiles of each level fold to the root, so they are checked together, first. A full tile
  is checked against the hash in the tile above it, an entry against its leaf hash.
- An open log holds entry bundles that anyone can check. Of a private log (`proofs.sealed`) only who has its
  key can read and check entries; anyone can check its tiles.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Final, TypeVar

from journal import errors
from journal.errors import JournalError
from proofs import checkpoint as notes
from proofs import sealed
from proofs.checkpoint import Checkpoint
from proofs.errors import CheckpointError, TileError
from proofs.hashing import HASH_BYTES
from proofs.tiles import (
    CHECKPOINT_PATH,
    OPEN_ENTRIES,
    PRIVATE_ENTRIES,
    TILE_WIDTH,
    Tile,
    TiledTree,
    check_bundle,
    decode_bundle,
    edge,
    fold,
    split_tile,
    tile_of,
)

Fetch = Callable[[str], bytes]
Check = Callable[[str], Checkpoint]

T = TypeVar("T")

OPEN: Final = "open"
PRIVATE: Final = "private"
EMPTY: Final = "empty"
NO_ENTRIES: Final = "no entries"
_CACHED_TILES: Final = 1_024


def unsigned(note: str) -> Checkpoint:
    """A check that looks at no signature: what it returns is what the note says, whoever wrote it."""
    return notes.parse(note).checkpoint


def signed_by(*verifier_keys: str) -> Check:
    """A check for an Ed25519 signature by one of these verifier keys (`proofs.checkpoint.verifier_key`; several,
    when the operator has changed its key), whose name is the log's origin. Raises CheckpointError."""
    keys = []
    for text in verifier_keys:
        name, algorithm, key = notes.parse_verifier_key(text)
        if algorithm != notes.ED25519:
            raise CheckpointError(f"the key of {name} is not an Ed25519 key of a log (algorithm 01)")
        keys.append((name, key))
    if not keys:
        raise CheckpointError("no verifier key was given")

    def check(note: str) -> Checkpoint:
        fault: CheckpointError | None = None
        for name, key in keys:
            try:
                return notes.verify(note, key, name)
            except CheckpointError as error:
                fault = error
        assert fault is not None
        raise fault

    return check


class PublishedLog:
    """A published log at one checkpoint, which `checkpoint` fetches or `at` gives.

    `private_key` (32 bytes) opens the bundles of a private log. `workers` files are fetched at the same
    time where several are needed; 0 fetches one after the other. Methods raise JournalError: LOG_INVALID
    (what was fetched is not what the checkpoint commits to), LOG_INCOMPLETE (a file is missing),
    LOG_FORM (a private log and no key), LOG_KEY (the wrong key), OUT_OF_RANGE; ProofError where `check`
    refuses; and whatever `fetch` raises.
    """

    def __init__(self, fetch: Fetch, check: Check, private_key: bytes | None = None, workers: int = 0) -> None:
        self.note = ""
        self.tip: Checkpoint | None = None
        self._fetch = fetch
        self._check = check
        self._private_key = private_key
        self._workers = workers
        self._form: str | None = None
        self._edge: dict[Tile, bytes] = {}
        self._cache: OrderedDict[Tile, bytes] = OrderedDict()

    # -- checkpoint -------------------------------------------------------------------------------

    def fetch_note(self) -> tuple[str, Checkpoint]:
        """The newest note and its checkpoint, checked, without going to it."""
        try:
            text = self._fetch(CHECKPOINT_PATH).decode()
        except FileNotFoundError as error:
            raise JournalError(errors.LOG_INCOMPLETE, f"there is no log: {error}") from None
        except UnicodeDecodeError:
            raise CheckpointError("the checkpoint is not text") from None
        return text, self._check(text)

    def checkpoint(self) -> Checkpoint:
        """Fetch and check the newest checkpoint and go to it."""
        text, tip = self.fetch_note()
        self._go(text, tip)
        return tip

    def at(self, note: str) -> Checkpoint:
        """Check a note and go to its checkpoint."""
        tip = self._check(note)
        self._go(note, tip)
        return tip

    def _go(self, note: str, tip: Checkpoint) -> None:
        partial = edge(tip.size)
        found = dict(zip(partial, self._together(partial), strict=True))
        root = _invalid(lambda: TiledTree(tip.size, found.__getitem__).root())
        if root != tip.root:
            raise JournalError(
                errors.LOG_INVALID, f"the tiles do not lead to the root that the checkpoint of {tip.size} entries names"
            )
        if tip != self.tip:
            # A tile that was checked against another root says nothing about this one.
            self._cache.clear()
        self.note, self.tip, self._edge = note, tip, found

    def _together(self, wanted: list[Tile]) -> list[bytes]:
        if not self._workers or len(wanted) < 2:
            return [self._raw_tile(tile) for tile in wanted]
        with ThreadPoolExecutor(self._workers) as pool:
            return list(pool.map(self._raw_tile, wanted))

    @property
    def size(self) -> int:
        """Entries at the checkpoint; fetches one if there is none yet."""
        return (self.tip or self.checkpoint()).size

    # -- tiles ------------------------------------------------------------------------------------

    def tile(self, level: int, index: int, width: int = TILE_WIDTH) -> bytes:
        """The hashes of a tile of this tree, or its first `width`."""
        tile = _invalid(lambda: tile_of(level, index, self.size))
        if width > tile.width:
            raise JournalError(errors.OUT_OF_RANGE, f"{tile.path} has {tile.width} hashes at {self.size} entries")
        return self._verified(tile)[: width * HASH_BYTES]

    def tree(self) -> TiledTree:
        """The tree over verified tiles: its proofs and roots, at any size up to the checkpoint's, are the log's."""
        return TiledTree(self.size, self._verified)

    def _verified(self, tile: Tile, data: bytes | None = None) -> bytes:
        known = self._edge.get(tile) or self._cache.get(tile)
        if known is not None:
            if tile in self._cache:
                self._cache.move_to_end(tile)
            return known
        if not tile.full:
            raise JournalError(errors.OUT_OF_RANGE, f"{tile.path} is no tile of a log of {self.size} entries")
        found = self._raw_tile(tile) if data is None else data
        above, slot = divmod(tile.n, TILE_WIDTH)
        parent = self._verified(tile_of(tile.level + 1, above, self.size))
        if fold(split_tile(found, TILE_WIDTH)) != parent[slot * HASH_BYTES : (slot + 1) * HASH_BYTES]:
            raise JournalError(
                errors.LOG_INVALID, f"{tile.path} is not the tile that the checkpoint of {self.size} entries commits to"
            )
        self._cache[tile] = found
        if len(self._cache) > _CACHED_TILES:
            self._cache.popitem(last=False)
        return found

    def _raw_tile(self, tile: Tile) -> bytes:
        """A tile as fetched, of the right length; a partial one may be gone once the full one is there."""
        data, width = self._either(tile.path, tile.widened().path, tile)
        if len(data) != width * HASH_BYTES:
            raise JournalError(errors.LOG_INVALID, f"{tile.path} has {len(data)} bytes, not {width * HASH_BYTES}")
        return data[: tile.width * HASH_BYTES]

    def _either(self, name: str, full_name: str, tile: Tile) -> tuple[bytes, int]:
        try:
            return self._fetch(name), tile.width
        except FileNotFoundError as error:
            if tile.full:
                raise JournalError(errors.LOG_INCOMPLETE, f"a file of the log is missing: {error}") from None
            try:
                return self._fetch(full_name), TILE_WIDTH
            except FileNotFoundError:
                raise JournalError(errors.LOG_INCOMPLETE, f"a file of the log is missing: {error}") from None

    # -- entries ----------------------------------------------------------------------------------

    @property
    def form(self) -> str:
        """ "open", "private", "no entries" (tiles alone) or "empty", by where the first bundle lies."""
        if self._form is None:
            if self.size == 0:
                return EMPTY
            first = tile_of(0, 0, self.size)
            for room, form in ((OPEN_ENTRIES, OPEN), (PRIVATE_ENTRIES, PRIVATE)):
                for tile in dict.fromkeys((first, first.widened())):
                    try:
                        self._fetch(tile.bundle_path(room))
                    except FileNotFoundError:
                        continue
                    self._form = form
                    return form
            self._form = NO_ENTRIES
        return self._form

    @property
    def readable(self) -> bool:
        """Whether entries can be read: an open log, or a private one with its key."""
        return self.form in (OPEN, EMPTY) or (self.form == PRIVATE and self._private_key is not None)

    def bundle(self, index: int, width: int = TILE_WIDTH) -> list[bytes]:
        """The first `width` entries of bundle `index`, checked."""
        tile = _invalid(lambda: tile_of(0, index, self.size))
        if width > tile.width:
            raise JournalError(errors.OUT_OF_RANGE, f"bundle {index} has {tile.width} entries at {self.size} entries")
        return self.opened(tile, self.raw_bundle(tile))[:width]

    def raw_bundle(self, tile: Tile) -> tuple[bytes, int]:
        """The bytes of the bundle of a tile as they are published, unchecked, and how many entries they hold (256
        where the full bundle stands in for a partial one)."""
        form = self.form
        if form == NO_ENTRIES:
            raise JournalError(errors.LOG_INCOMPLETE, "the log holds tiles and no entries; read another copy of it")
        room = PRIVATE_ENTRIES if form == PRIVATE else OPEN_ENTRIES
        return self._either(tile.bundle_path(room), tile.widened().bundle_path(room), tile)

    def opened(self, tile: Tile, raw: tuple[bytes, int], leaves: bytes | None = None) -> list[bytes]:
        """The entries of a fetched bundle, checked against the tile, which may have been fetched with it."""
        data, width = raw
        hashes = split_tile(self._verified(tile, leaves), tile.width)
        if self.form == PRIVATE:
            data = self._unsealed(tile.n, data)

        def decoded() -> list[bytes]:
            entries = decode_bundle(data, width)[: tile.width]
            check_bundle(entries, hashes, tile.n * TILE_WIDTH)
            return entries

        return _invalid(decoded)

    def _unsealed(self, index: int, data: bytes) -> bytes:
        if self._private_key is None:
            raise JournalError(
                errors.LOG_FORM, "the entries of this log are private; give the key it is published with"
            )
        try:
            return sealed.unseal(self._private_key, index, data)
        except TileError as error:
            raise JournalError(errors.LOG_KEY, f"bundle {index}: {error.message}") from None

    def bundles(self, first: int, stop: int) -> Iterator[tuple[Tile, bytes, tuple[bytes, int], list[bytes]]]:
        """Per bundle `first` to `stop` (excluded): its tile, the checked hashes, the bundle as published (see
        `raw_bundle`), and its checked entries. Fetches ahead with the given workers."""
        size = self.size
        for tile, leaves, raw in self._ahead([tile_of(0, index, size) for index in range(first, stop)]):
            entries = self.opened(tile, raw, leaves)
            yield tile, self._verified(tile), raw, entries

    def _ahead(self, wanted: list[Tile]) -> Iterator[tuple[Tile, bytes | None, tuple[bytes, int]]]:
        def both(tile: Tile) -> tuple[bytes | None, tuple[bytes, int]]:
            return (self._raw_tile(tile) if tile.full else None), self.raw_bundle(tile)

        if not self._workers or len(wanted) < 2:
            for tile in wanted:
                yield tile, *both(tile)
            return
        _ = self.form  # asked once, not by every thread
        with ThreadPoolExecutor(self._workers) as pool:
            running: deque[tuple[Tile, Future[tuple[bytes | None, tuple[bytes, int]]]]] = deque()
            waiting = iter(wanted)
            try:
                while True:
                    for tile in islice(waiting, 2 * self._workers - len(running)):
                        running.append((tile, pool.submit(both, tile)))
                    if not running:
                        return
                    done, future = running.popleft()
                    yield done, *future.result()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def entries(self, first: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The entries `first` to `stop` (excluded; default: all), each checked, with memory that does not grow."""
        end = self.size if stop is None else stop
        if not 0 <= first <= end <= self.size:
            raise JournalError(errors.OUT_OF_RANGE, f"entries {first} to {end} are not in a log of {self.size}")
        if first == end:
            return
        begin = first // TILE_WIDTH
        for tile, _, _, found in self.bundles(begin, -(-end // TILE_WIDTH)):
            start = tile.n * TILE_WIDTH
            yield from found[max(0, first - start) : end - start]


def _invalid(work: Callable[[], T]) -> T:
    """What `work` returns; bytes that are no tile or bundle are LOG_INVALID."""
    try:
        return work()
    except TileError as error:
        raise JournalError(errors.LOG_INVALID, error.message) from None
