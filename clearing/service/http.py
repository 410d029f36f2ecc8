# SPDX-License-Identifier: GPL-3.0-or-later
"""The thin HTTP way in: signed commands as raw msgpack, reads as JSON.

Rules:
- Nothing here decides anything: a POST goes to the sequencer as it came, and is answered after the commit.
- Errors are {"code", "message"} with a stable code; a fault of ours is INTERNAL with status 500, its
  cause goes to the log and never to the caller.
- Bodies are read up to a limit and no further. Reads hold the state's lock for one object at a time.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from clearing.model import ids
from clearing.model.codec import decode_entry
from clearing.model.errors import NovateError, Refused
from clearing.service import views, wire
from clearing.service.pipeline import Receipt
from clearing.service.venue import Venue
from journal import JournalError

MAX_BATCH: Final = 1_000
MAX_BATCH_BYTES: Final = 8 << 20
MAX_BLOCKS_BYTES: Final = 4 << 20
MAX_JSON_BYTES: Final = 65_536
_MSGPACK: Final = "application/msgpack"
_envelopes = msgspec.msgpack.Decoder(list[bytes]).decode

Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]


STATUS: Final[dict[str, int]] = {
    "MALFORMED": 400,
    "BAD_PARAMETER": 400,
    "BAD_SIGNATURE": 401,
    "NOT_ATTESTOR": 403,
    "UNSUPPORTED_KEY": 401,
    "UNKNOWN_KEY": 401,
    "KEY_EXPIRED": 401,
    "UNKNOWN_PUBLISHER": 401,
    "WRONG_DEPLOYMENT": 403,
    "UNKNOWN_ACCOUNT": 404,
    "UNKNOWN_OWNER": 404,
    "UNKNOWN_INSTRUMENT": 404,
    "UNKNOWN_EPOCH": 404,
    "UNKNOWN_SEQ": 404,
    "UNKNOWN_VAULT": 404,
    "UNKNOWN_ASSET": 404,
    "NO_HEADER": 404,
    "NOT_POSTED": 404,
    "NOT_FOUND": 404,
    "METHOD_NOT_ALLOWED": 405,
    "NONCE_USED": 409,
    "ORACLE_REPLAYED": 409,
    "GENESIS_TWICE": 409,
    "HEADER_DIFFERS": 409,
    "VOUCHER_TOO_HIGH": 409,
    "VOUCHER_TOO_LOW": 409,
    "FLOAT_TOO_LOW": 409,
    "OUTFLOW_CAPPED": 409,
    "VAULT_FROZEN": 409,
    "WINDING_DOWN": 409,
    "ENVELOPE_TOO_LARGE": 413,
    "BODY_TOO_LARGE": 413,
    "OVERLOADED": 503,
    "SHUTTING_DOWN": 503,
    "NODE_HALTED": 503,
    "SNAPSHOT_NOT_FOUND": 503,
    "NO_CHAIN": 503,
    "RPC_UNREACHABLE": 503,
    "DISK_FULL": 507,
    "JOURNAL_FULL": 507,
}


def status_of(error: NovateError | JournalError) -> int:
    """HTTP status of a code: what the caller did wrong is 4xx, everything else is ours."""
    if error.code in STATUS:
        return STATUS[error.code]
    return 400 if isinstance(error, Refused) else 500


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _error(code: str, message: str, status: int) -> Response:
    return _json({"code": code, "message": message}, status)


def _guarded(endpoint: Endpoint, report: Callable[[str, BaseException], None]) -> Endpoint:
    """The endpoint with every exception turned into an answer."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except (NovateError, JournalError) as error:
            if status_of(error) == 500:
                report(f"http {request.url.path}", error)
            return _error(error.code, error.message, status_of(error))
        except HTTPException:
            raise
        except ClientDisconnect:
            return _error("MALFORMED", "the body was cut short", 400)
        except Exception as error:  # noqa: BLE001 - a caller gets a code, never a traceback
            report(f"http {request.url.path}", error)
            return _error("INTERNAL", "the operator failed on this request; its log says why", 500)

    return answer


async def _on_http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    names = {
        404: ("NOT_FOUND", "no such resource"),
        405: ("METHOD_NOT_ALLOWED", "this resource has no such method"),
    }
    code, message = names.get(error.status_code, ("HTTP_ERROR", str(error.detail)))
    return _error(code, message, error.status_code)


class Api:
    """The endpoints over a `Venue`."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue

    # --- commands ---

    async def command(self, request: Request) -> Response:
        raw = await wire.body(request, ids.MAX_ENVELOPE_BYTES, "ENVELOPE_TOO_LARGE")
        found = await asyncio.wrap_future(self._venue.submit(raw))
        return _json(await self._receipt_of(request, found))

    async def _receipt_of(self, request: Request, found: Receipt) -> dict[str, Any]:
        """With `?proof=1` the receipt is complete, and its holder needs to ask for nothing more."""
        answer = views.receipt(found)
        if request.query_params.get("proof") == "1":
            answer |= await run_in_threadpool(self._venue.shown, found)
        return answer

    async def commands(self, request: Request) -> Response:
        body = await wire.body(request, MAX_BATCH_BYTES, "BODY_TOO_LARGE")
        try:
            raws = _envelopes(body)
        except (msgspec.MsgspecError, ValueError, OverflowError) as error:
            raise Refused("MALFORMED", f"the body is not a msgpack array of envelopes as bin: {error}") from None
        if not 1 <= len(raws) <= MAX_BATCH:
            raise Refused("BAD_PARAMETER", f"{len(raws)} envelopes; send 1 to {MAX_BATCH} at once")
        waiting = [asyncio.wrap_future(future) for future in self._venue.submit_many(raws)]
        results = await asyncio.gather(*waiting, return_exceptions=True)
        return _json({"results": [await self._result(request, result) for result in results]})

    async def _result(self, request: Request, result: Receipt | BaseException) -> dict[str, Any]:
        if isinstance(result, Receipt):
            return await self._receipt_of(request, result)
        if isinstance(result, NovateError):
            return {"code": result.code, "message": result.message}
        raise result

    # --- the state ---

    async def status(self, _: Request) -> Response:
        return _json(await run_in_threadpool(self._venue.status))

    async def genesis(self, _: Request) -> Response:
        venue = self._venue
        entry = await run_in_threadpool(venue.store.entry, 0)
        return _json({"genesis": views.plain(venue.genesis), "entry": views.plain(entry)})

    async def instruments(self, _: Request) -> Response:
        def read() -> list[Any]:
            with self._venue.lock:
                return [views.instrument(inst) for inst in self._venue.state.instruments.values()]

        return _json({"instruments": await run_in_threadpool(read)})

    async def params(self, _: Request) -> Response:
        def read() -> Any:
            with self._venue.lock:
                return views.params(self._venue.state)

        return _json(await run_in_threadpool(read))

    async def auctions(self, _: Request) -> Response:
        def read() -> list[Any]:
            with self._venue.lock:
                return [views.auction(account) for account in self._venue.state.auctions.values()]

        return _json({"auctions": await run_in_threadpool(read)})

    async def account(self, request: Request) -> Response:
        number = wire.number(request.path_params["number"], "account", 0, 2**32)

        def read() -> Any:
            with self._venue.lock:
                accounts = self._venue.state.accounts
                if number >= len(accounts):
                    raise Refused(
                        "UNKNOWN_ACCOUNT", f"no account {number}; deposit first, GET /v1/owners/ADDRESS tells"
                    )
                return views.account(accounts[number])

        return _json(await run_in_threadpool(read))

    async def owner(self, request: Request) -> Response:
        address = wire.address(request.path_params["address"])

        def read() -> Any:
            with self._venue.lock:
                found = self._venue.state.owners.get(address)
                if found is None:
                    raise Refused("UNKNOWN_OWNER", f"0x{address.hex()} has no account; deposit into the vault first")
                return views.owner(found)

        return _json(await run_in_threadpool(read))

    async def book(self, request: Request) -> Response:
        number = wire.number(request.path_params["instrument"], "instrument", 0, 2**32)
        depth = wire.number(request.query_params.get("depth", "20"), "depth", 1, 1_000)

        def read() -> Any:
            with self._venue.lock:
                inst = self._venue.state.instruments.get(number)
                if inst is None:
                    raise Refused("UNKNOWN_INSTRUMENT", f"no instrument {number}; GET /v1/instruments lists them")
                return views.book(inst, depth)

        return _json(await run_in_threadpool(read))

    # --- the journal ---

    def _seq(self, text: str) -> int:
        seq = wire.number(text, "seq", 0, 2**63 - 1)
        size = self._venue.store.head().next_seq
        if seq >= size:
            raise Refused("UNKNOWN_SEQ", f"no entry {seq} yet; the journal holds {size}")
        return seq

    async def receipt(self, request: Request) -> Response:
        seq = self._seq(request.path_params["seq"])
        return _json(await run_in_threadpool(self._venue.proven_receipt, seq))

    async def entry(self, request: Request) -> Response:
        seq = self._seq(request.path_params["seq"])
        data = await run_in_threadpool(self._venue.store.entry, seq)
        entry = decode_entry(data)
        fields = {name: views.plain(getattr(entry, name)) for name in ("seq", "time_us", "envelope", "outcomes")}
        return _json(fields | {"entry": views.plain(data)})

    async def checkpoint(self, _: Request) -> Response:
        return PlainTextResponse(self._venue.checkpoint().note)

    async def blocks(self, request: Request) -> Response:
        store = self._venue.store
        size = store.head().next_seq
        seq = wire.number(request.query_params.get("from", "0"), "from", 0, 2**63 - 1)
        if seq > size:
            raise Refused("UNKNOWN_SEQ", f"no entry {seq} yet; the journal holds {size}")

        def read() -> list[bytes]:
            found: list[bytes] = []
            total = 0
            for block in store.read(seq) if seq < size else ():
                total += len(block.raw)
                if found and total > MAX_BLOCKS_BYTES:
                    break
                found.append(block.raw)
            return found

        return Response(msgspec.msgpack.encode(await run_in_threadpool(read)), media_type=_MSGPACK)

    # --- epochs and proofs ---

    async def epochs(self, request: Request) -> Response:
        first = wire.number(request.query_params.get("from", "1"), "from", 1, 2**63 - 1)
        limit = wire.number(request.query_params.get("limit", "100"), "limit", 1, 1_000)
        return _json(await run_in_threadpool(self._venue.epochs, first, limit))

    async def epoch(self, request: Request) -> Response:
        number = wire.number(request.path_params["epoch"], "epoch", 1, 2**63 - 1)
        record = await run_in_threadpool(self._venue.book.load, number)
        return _json(views.epoch(record, self._venue.posted()))

    async def headers(self, request: Request) -> Response:
        number = wire.number(request.path_params["epoch"], "epoch", 1, 2**63 - 1)
        return _json(await run_in_threadpool(self._venue.headers, number))

    async def proof(self, request: Request) -> Response:
        address = wire.address(request.path_params["owner"])
        vault = wire.number(request.query_params.get("vault", "0"), "vault", 0, 255)
        bundle = await run_in_threadpool(self._venue.prover.bundle, address, vault)
        name = f"novate-{address.hex()}.proof"
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(bundle, media_type="application/octet-stream", headers=headers)

    # --- attestors and vouchers ---

    async def attest(self, request: Request) -> Response:
        body = wire.fields(await wire.body(request, MAX_JSON_BYTES, "BODY_TOO_LARGE"), wire.AttestationBody)
        header_hash = wire.data(body.header_hash, "header_hash", 32, 32)
        signature = wire.data(body.signature, "signature", 65, 65)
        book = self._venue.attestations
        attestor = await run_in_threadpool(book.add, body.vault, body.epoch, header_hash, signature)
        known = await run_in_threadpool(book.view, body.vault, body.epoch)
        return _json({"attestor": views.plain(attestor)} | known)

    async def attestations(self, request: Request) -> Response:
        number = wire.number(request.path_params["epoch"], "epoch", 1, 2**63 - 1)
        return _json(await run_in_threadpool(self._venue.attested, number))

    async def voucher(self, request: Request) -> Response:
        body = wire.fields(await wire.body(request, MAX_JSON_BYTES, "BODY_TOO_LARGE"), wire.VoucherBody)
        cumulative = wire.number(str(body.cumulative), "cumulative", 1, ids.MAX_AMOUNT_ATOMS)
        expiry = wire.number(str(body.expiry), "expiry", 1, 2**53)
        owner, signature = wire.address(body.owner), wire.data(body.signature, "signature", 1, 8_192)
        desk = self._venue.vouchers
        arguments = body.vault, body.asset, cumulative, expiry, owner, signature
        return _json(await run_in_threadpool(desk.countersigned, *arguments))


def build_app(venue: Venue, report: Callable[[str, BaseException], None]) -> Starlette:
    """The application. `report` hears of faults that became INTERNAL."""
    api = Api(venue)
    table: list[tuple[str, str, Endpoint]] = [
        ("POST", "/v1/commands", api.command),
        ("POST", "/v1/commands/batch", api.commands),
        ("GET", "/v1/status", api.status),
        ("GET", "/v1/genesis", api.genesis),
        ("GET", "/v1/instruments", api.instruments),
        ("GET", "/v1/params", api.params),
        ("GET", "/v1/auctions", api.auctions),
        ("GET", "/v1/accounts/{number}", api.account),
        ("GET", "/v1/owners/{address}", api.owner),
        ("GET", "/v1/books/{instrument}", api.book),
        ("GET", "/v1/receipts/{seq}", api.receipt),
        ("GET", "/v1/entries/{seq}", api.entry),
        ("GET", "/v1/checkpoint", api.checkpoint),
        ("GET", "/v1/blocks", api.blocks),
        ("GET", "/v1/epochs", api.epochs),
        ("GET", "/v1/epochs/{epoch}", api.epoch),
        ("GET", "/v1/epochs/{epoch}/headers", api.headers),
        ("GET", "/v1/proofs/{owner}", api.proof),
        ("POST", "/v1/attestations", api.attest),
        ("GET", "/v1/attestations/{epoch}", api.attestations),
        ("POST", "/v1/vouchers", api.voucher),
    ]
    routes = [Route(path, _guarded(endpoint, report), methods=[method]) for method, path, endpoint in table]
    return Starlette(routes=routes, exception_handlers={HTTPException: _on_http_error})
