# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal: entries, their proofs, the signed head, raw blocks. Read from the journal on disk, on threads."""

import asyncio
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from clearing.api.context import Context
from clearing.api.http import errors
from clearing.api.http.commands import MSGPACK
from clearing.api.http.shown import answer
from clearing.api.http.table import Param, Resource
from clearing.api.messages import journal as m
from clearing.model.codec import decode_entry
from clearing.model.errors import NovateError, Refused
from clearing.service import views, wire
from clearing.service.checkpoints import SignedCheckpoint
from journal import Store
from proofs.log import leaf_hash

MAX_BLOCKS_BYTES: Final = 4 << 20
_LAST: Final = 2**53
_SEQ: Final = Param("seq", Annotated[int, Meta(ge=0)], "number of an entry", required=True)
_FROM: Final = Param("from", Annotated[int, Meta(ge=0)], "the entry that the first block must hold", default="0")
_GROUP: Final = "journal"


def _proven(store: Store, seq: int, signed: SignedCheckpoint) -> dict[str, Any]:
    entry = store.entry(seq)
    return {
        "seq": seq,
        "entry": views.plain(entry),
        "entry_hash": views.plain(leaf_hash(entry)),
        "proof": views.plain(store.inclusion(seq, signed.size)),
        "checkpoint": {"size": signed.size, "root": views.plain(signed.root), "note": signed.note},
    }


def _entry(store: Store, seq: int) -> dict[str, Any]:
    data = store.entry(seq)
    entry = decode_entry(data)
    fields = {name: views.plain(getattr(entry, name)) for name in ("seq", "time_us", "envelope", "outcomes")}
    return fields | {"entry": views.plain(data)}


def _blocks(store: Store, seq: int) -> bytes:
    found: list[bytes] = []
    total = 0
    for block in store.read(seq) if seq < store.head().next_seq else ():
        total += len(block.raw)
        if found and total > MAX_BLOCKS_BYTES:
            break
        found.append(block.raw)
    return msgspec.msgpack.encode(found)


class _Journal:
    def __init__(self, context: Context) -> None:
        self._store = context.store
        self._replica = context.replica

    async def _signed(self, seq: int) -> SignedCheckpoint:
        """The newest signed head, once it covers entry `seq`, which is on disk."""
        signed = self._replica.checkpoint
        if seq >= signed.size:
            await self._replica.wait_for(seq, 2.0)
            signed = self._replica.checkpoint
        if seq >= signed.size:
            raise NovateError("REPLICA_BEHIND", f"no signed head covers entry {seq} yet; ask again in a second")
        return signed

    def _seq(self, text: str, name: str = "seq", end: bool = False) -> int:
        seq = wire.number(text, name, 0, _LAST)
        size = self._store.head().next_seq
        if seq >= size + end:
            raise Refused("UNKNOWN_SEQ", f"no entry {seq} yet; the journal holds {size}")
        return seq

    async def receipt(self, request: Request) -> Response:
        seq = self._seq(request.path_params["seq"])
        signed = await self._signed(seq)
        return errors.json(await asyncio.to_thread(_proven, self._store, seq, signed))

    async def entry(self, request: Request) -> Response:
        seq = self._seq(request.path_params["seq"])
        return answer(await asyncio.to_thread(_entry, self._store, seq))

    async def checkpoint(self, _: Request) -> Response:
        return PlainTextResponse(self._replica.checkpoint_note)

    async def blocks(self, request: Request) -> Response:
        seq = self._seq(request.query_params.get("from", "0"), "from", end=True)
        return Response(await asyncio.to_thread(_blocks, self._store, seq), media_type=MSGPACK)


def resources(context: Context) -> list[Resource]:
    """Routes of the journal."""
    journal = _Journal(context)
    unknown = ("UNKNOWN_SEQ", "SEQUENCER_UNREACHABLE")
    return [
        Resource(
            "GET", "/v1/receipts/{seq}", journal.receipt, "An entry, proven", m.ProvenEntry, _GROUP, (_SEQ,),
            errors=unknown,
        ),
        Resource("GET", "/v1/entries/{seq}", journal.entry, "An entry", m.Entry, _GROUP, (_SEQ,), errors=unknown),
        Resource(
            "GET", "/v1/checkpoint", journal.checkpoint, "The signed head", "text/plain", _GROUP,
            errors=("SEQUENCER_UNREACHABLE",), doc="A C2SP tlog-checkpoint as a signed note.",
        ),
        Resource(
            "GET", "/v1/blocks", journal.blocks, "Raw blocks", MSGPACK, _GROUP, (_FROM,), errors=unknown,
            doc=f"A msgpack array of bin, whole blocks, about {MAX_BLOCKS_BYTES >> 20} MiB at most.",
        ),
    ]  # fmt: skip
