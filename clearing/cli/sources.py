# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a journal comes from: a directory of this machine, or an operator's read interface."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clearing.cli.output import COULD_NOT_CHECK, fail

if TYPE_CHECKING:
    from clearing.client.http import ApiClient
    from clearing.model.commands import Genesis


def entries(journal: Path | None, api: str | None) -> Iterator[tuple[int, bytes]]:
    """(seq, entry bytes) from a data or journal directory, or over HTTP block by block, verified."""
    if journal is not None:
        from journal import Store
        from journal.replay import entries as stored

        with Store.open(journal_path(journal), read_only=True) as store:
            yield from stored(store)
        return
    if api is None:
        raise click.UsageError("give --journal DIR or --api URL")
    from clearing.client.http import ApiClient
    from journal import JournalError

    try:
        with ApiClient(api) as client:
            yield from _served(client)
    except JournalError as error:
        fail(error.code, f"{api} serves blocks that are none: {error.message}", COULD_NOT_CHECK)


def _served(client: "ApiClient") -> Iterator[tuple[int, bytes]]:
    """Blocks as the operator serves them; their hash chain is checked here."""
    from journal.block import decode

    seq, previous = 0, bytes(32)
    while blocks := client.blocks(seq):
        for raw in blocks:
            block = decode(raw)
            if block.first_seq != seq or block.prev_hash != previous:
                fail(
                    "BLOCK_CHAIN_BROKEN",
                    f"the block at seq {seq} does not follow the one before",
                    COULD_NOT_CHECK,
                )
            yield from enumerate(block.entries, seq)
            seq, previous = seq + block.count, block.hash


def journal_path(path: Path) -> Path:
    """The journal itself, given it or the data directory that holds it."""
    inner = path / "journal"
    return inner if inner.is_dir() else path


def genesis_of(journal: Path | None, api: str | None) -> "Genesis":
    """The genesis in entry 0."""
    from clearing.model.codec import decode_any_envelope, decode_entry
    from clearing.model.commands import Genesis

    for _, data in entries(journal, api):
        _, body = decode_any_envelope(decode_entry(data).envelope)
        if isinstance(body, Genesis):
            return body
        break
    fail("NO_GENESIS", "entry 0 is not a genesis; this is not a Novate journal")
