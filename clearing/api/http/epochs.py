# SPDX-License-Identifier: GPL-3.0-or-later
"""Epochs, proof bundles, attestations and vouchers."""

import asyncio
from typing import Annotated, Any, Final

from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from clearing.api.context import Context
from clearing.api.http import errors
from clearing.api.http.shown import answer
from clearing.api.http.state import OWNER
from clearing.api.http.table import Param, Resource
from clearing.api.http.writer import Writer
from clearing.api.messages import journal as m
from clearing.api.proofs import Bundles
from clearing.model import ids
from clearing.service import views, wire
from clearing.service.epochs import EpochBook

BUNDLE: Final = "application/octet-stream"
_MAX_BODY: Final = 65_536
_LAST: Final = 2**53
_EPOCH: Final = Param("epoch", Annotated[int, Meta(ge=1)], "number of a closed epoch", required=True)
_VAULT: Final = Param("vault", Annotated[int, Meta(ge=0, le=255)], "number of a vault", default="0")
_FROM: Final = Param("from", Annotated[int, Meta(ge=1)], "the first epoch", default="1")
_LIMIT: Final = Param("limit", Annotated[int, Meta(ge=1, le=1_000)], "epochs in the answer", default="100")


def _padded(posted: list[int]) -> list[int]:
    """Of every vault that there may be; 0 for what was not heard."""
    return [*posted, *[0] * (256 - len(posted))]


def _rows(book: EpochBook, first: int, limit: int, state_epoch: int, posted: list[int]) -> dict[str, Any]:
    # The reducer may be an epoch ahead of the records, which are written after its commit.
    last = min(state_epoch, book.written())
    found, known = [], _padded(posted)
    for number in range(first, min(last, first + limit - 1) + 1):
        record = book.load(number)
        live = record.live()
        hashes = {str(vault): views.plain(record.part(vault).header_hash) for vault in live}
        found.append(
            {"epoch": number, "header_hashes": hashes, "posted": all(number <= known[vault] for vault in live)}
        )
    return {"last": last, "epochs": found}


class _Epochs:
    def __init__(self, context: Context, writer: Writer) -> None:
        self._context = context
        self._book = context.book
        self._writer = writer
        self._bundles = Bundles(context.link, context.book)

    async def all(self, request: Request) -> Response:
        first = wire.number(request.query_params.get("from", "1"), "from", 1, _LAST)
        limit = wire.number(request.query_params.get("limit", "100"), "limit", 1, 1_000)
        told, _ = await self._writer.status()
        posted = list(told["posted"]) if told is not None else []
        epoch = (await self._context.replica.settled()).epoch
        found = await asyncio.to_thread(_rows, self._book, first, limit, epoch, posted)
        return errors.json(found | {"posted": told["posted_epoch"] if told is not None else 0})

    async def one(self, request: Request) -> Response:
        record = await asyncio.to_thread(self._book.load, self._number(request))
        return answer(views.epoch(record, _padded(await self._writer.posted())))

    async def headers(self, request: Request) -> Response:
        number = self._number(request)
        record = await asyncio.to_thread(self._book.load, number)
        posted = _padded(await self._writer.posted())
        rows = [views.header(record, vault, number <= posted[vault]) for vault in record.live()]
        return errors.json({"epoch": number, "headers": rows})

    async def bundle(self, request: Request) -> Response:
        owner = wire.address(request.path_params["owner"])
        vault = wire.number(request.query_params.get("vault", "0"), "vault", 0, 255)
        found = await self._bundles.bundle(owner, vault)
        name = f"novate-{owner.hex()}.proof"
        return Response(found, media_type=BUNDLE, headers={"content-disposition": f'attachment; filename="{name}"'})

    # --- attestors and vouchers: the writer's process decides ---

    async def attest(self, request: Request) -> Response:
        body = wire.fields(await wire.body(request, _MAX_BODY, "BODY_TOO_LARGE"), m.AttestationBody)
        vault = wire.number(str(body.vault), "vault", 0, 255)
        epoch = wire.number(str(body.epoch), "epoch", 1, _LAST)
        header_hash = wire.data(body.header_hash, "header_hash", 32, 32)
        signature = wire.data(body.signature, "signature", 65, 65)
        return errors.json(await self._context.link.ask("attest", vault, epoch, header_hash, signature))

    async def attestations(self, request: Request) -> Response:
        return errors.json(await self._context.link.ask("attestations", self._number(request)))

    async def voucher(self, request: Request) -> Response:
        body = wire.fields(await wire.body(request, _MAX_BODY, "BODY_TOO_LARGE"), m.VoucherBody)
        vault = wire.number(str(body.vault), "vault", 0, 255)
        asset = wire.number(str(body.asset), "asset", 0, 255)
        cumulative = wire.number(str(body.cumulative), "cumulative", 1, ids.MAX_AMOUNT_ATOMS)
        expiry = wire.number(str(body.expiry), "expiry", 1, _LAST)
        owner, signature = wire.address(body.owner), wire.data(body.signature, "signature", 1, 8_192)
        asked = self._context.link.ask("voucher", vault, asset, cumulative, expiry, owner, signature)
        return errors.json(await asked)

    def _number(self, request: Request) -> int:
        return wire.number(request.path_params["epoch"], "epoch", 1, _LAST)


def resources(context: Context, writer: Writer) -> list[Resource]:
    """Routes of epochs and of what belongs to them."""
    epochs = _Epochs(context, writer)
    unknown = ("UNKNOWN_EPOCH",)
    asked = ("MALFORMED", "BODY_TOO_LARGE", "UNKNOWN_VAULT", "SEQUENCER_UNREACHABLE")
    attests = (*unknown, *asked, "NO_HEADER", "HEADER_DIFFERS", "NOT_ATTESTOR")
    pays = (
        *asked, "UNKNOWN_OWNER", "UNKNOWN_ASSET", "VOUCHER_TOO_HIGH", "VOUCHER_TOO_LOW", "FLOAT_TOO_LOW",
        "OUTFLOW_CAPPED", "VAULT_FROZEN", "WINDING_DOWN", "NO_CHAIN", "RPC_UNREACHABLE", "BAD_SIGNATURE",
    )  # fmt: skip
    return [
        Resource("GET", "/v1/epochs", epochs.all, "Closed epochs", m.Epochs, "epochs", (_FROM, _LIMIT)),
        Resource("GET", "/v1/epochs/{epoch}", epochs.one, "An epoch", m.Epoch, "epochs", (_EPOCH,), errors=unknown),
        Resource(
            "GET", "/v1/epochs/{epoch}/headers", epochs.headers, "An epoch's headers", m.Headers, "epochs", (_EPOCH,),
            errors=unknown,
        ),
        Resource(
            "GET", "/v1/proofs/{owner}", epochs.bundle, "An owner's proof bundle", BUNDLE, "epochs", (OWNER, _VAULT),
            errors=("NOT_POSTED", "UNKNOWN_OWNER", "UNKNOWN_VAULT", "SNAPSHOT_NOT_FOUND", "SEQUENCER_UNREACHABLE"),
            doc="One file that proves a balance offline; `novate verify` and the verifier page check it.",
        ),
        Resource(
            "POST", "/v1/attestations", epochs.attest, "Hand an attestor's signature in", m.Attested, "epochs",
            body={errors.JSON: m.AttestationBody}, errors=attests,
        ),
        Resource(
            "GET", "/v1/attestations/{epoch}", epochs.attestations, "Who has signed", m.Attestations, "epochs",
            (_EPOCH,), errors=(*unknown, "SEQUENCER_UNREACHABLE"),
        ),
        Resource(
            "POST", "/v1/vouchers", epochs.voucher, "Have a voucher countersigned", m.Voucher, "epochs",
            body={errors.JSON: m.VoucherBody}, errors=pays,
        ),
    ]  # fmt: skip
