# SPDX-License-Identifier: GPL-3.0-or-later
"""What a reader that checks nothing gets from a data file; a process of its own, since damage may kill it.

Reads one line (directory, blocks, tiles as JSON) at a time and answers with a digest over every value of
the three databases, reached in every way the store reaches them: in order, by key, and by search.
"""

import hashlib
import sys
from collections.abc import Iterator

import lmdb
import msgspec


def values(path: str, entries: int, keys: list[list[str]]) -> Iterator[bytes]:
    with lmdb.open(path, lib_version=0, readonly=True, lock=False, max_dbs=3, map_size=1 << 30) as env:
        names = [env.open_db(name, create=False) for name in (b"blocks", b"tiles", b"meta")]
        with env.begin() as txn:
            for db, wanted in zip(names, keys, strict=True):
                with txn.cursor(db=db) as cursor:
                    for key, value in cursor:
                        yield key
                        yield value
                    for key in map(bytes.fromhex, wanted):
                        yield txn.get(key, db=db) or b"missing"
            with txn.cursor(db=names[0]) as cursor:
                for seq in range(entries):
                    cursor.set_range(seq.to_bytes(8, "big"))
                    yield cursor.key()
                    yield cursor.key() if cursor.prev() else b"none"


def main() -> None:
    for line in sys.stdin.buffer:
        path, entries, keys = msgspec.json.decode(line, type=tuple[str, int, list[list[str]]])
        digest = hashlib.sha256()
        try:
            for value in values(path, entries, keys):
                digest.update(len(value).to_bytes(8, "big") + value)
            answer = digest.hexdigest()
        except Exception as error:  # noqa: BLE001 - whatever it is, the reader did not get its bytes
            answer = f"error {error!r}"
        sys.stdout.write(answer.replace("\n", " ") + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
