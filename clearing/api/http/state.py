# SPDX-License-Identifier: GPL-3.0-or-later
"""The state: venue, markets, books, accounts, owners. Read from the replica, in one moment each."""

from typing import Annotated, Final

from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from clearing.api.context import Context
from clearing.api.http import errors
from clearing.api.http.guard import age_ms
from clearing.api.http.member import ACCOUNT, account_of
from clearing.api.http.shown import answer
from clearing.api.http.table import Param, Resource
from clearing.api.http.writer import Writer
from clearing.api.messages import state as m
from clearing.api.messages.commands import Head
from clearing.core.state import InstrumentState, State
from clearing.model.errors import NovateError, Refused
from clearing.service import views, wire

INSTRUMENT: Final = Param("instrument", Annotated[int, Meta(ge=0)], "id of an instrument", required=True)
OWNER: Final = Param("owner", Annotated[str, Meta(pattern="^0x[0-9a-fA-F]{40}$")], "an address", required=True)
_DEPTH: Final = Param("depth", Annotated[int, Meta(ge=1, le=1_000)], "levels of each side", default="20")
_MOST: Final = 2**32
_WRITERS: Final = ("posted", "posted_epoch", "posting", "wind_down", "waiting", "halted", "faults")


class _State:
    def __init__(self, context: Context, writer: Writer) -> None:
        self._context = context
        self._replica = context.replica
        self._writer = writer

    @property
    def _after(self) -> dict[str, int]:
        return {"seq": self._replica.seq - 1}

    async def health(self, _: Request) -> Response:
        told, reached = await self._writer.status()
        state = await self._replica.settled()
        replica = self._replica
        try:
            signed = replica.checkpoint
            head = Head(signed.size, "0x" + signed.root.hex(), signed.note)
        except NovateError:
            head = None
        status = "ok"
        if told is not None and told["halted"] is not None:
            status = "halted"
        elif replica.stale or not reached:
            status = "stale"
        posted = told["posted_epoch"] if told is not None else None
        found = m.Health(status, replica.seq - 1, replica.head - 1, age_ms(replica), state.time_us, posted, head)
        return errors.json(found, 200 if status == "ok" else 503)

    async def status(self, request: Request) -> Response:
        told, reached = await self._writer.status(int(request.query_params.get("min_seq", -1)))
        rest = dict(told) if told is not None else dict.fromkeys(_WRITERS)
        rest["faults"] = (rest["faults"] or {}) | ({} if reached else {"sequencer": "SEQUENCER_UNREACHABLE"})
        state = await self._replica.settled()
        signed = self._replica.checkpoint
        counted = {"size": signed.size, "root": views.plain(signed.root)}
        return answer(views.status(state) | {name: rest[name] for name in _WRITERS} | counted)

    async def genesis(self, _: Request) -> Response:
        context = self._context
        return answer({"genesis": views.plain(context.genesis), "entry": views.plain(context.store.entry(0))})

    async def instruments(self, _: Request) -> Response:
        state = await self._replica.settled()
        return answer({"instruments": [views.instrument(found) for found in state.instruments.values()]} | self._after)

    async def instrument(self, request: Request) -> Response:
        found = _instrument(await self._replica.settled(), request)
        return answer({"instrument": views.instrument(found)} | self._after)

    async def params(self, _: Request) -> Response:
        return answer(views.params(await self._replica.settled()))

    async def auctions(self, _: Request) -> Response:
        state = await self._replica.settled()
        return answer({"auctions": [views.auction(account) for account in state.auctions.values()]})

    async def account(self, request: Request) -> Response:
        found = account_of(await self._replica.settled(), request)
        return answer(views.account(found) | self._after)

    async def owner(self, request: Request) -> Response:
        address = wire.address(request.path_params["owner"])
        found = (await self._replica.settled()).owners.get(address)
        if found is None:
            raise Refused("UNKNOWN_OWNER", f"0x{address.hex()} has no account; deposit into the vault first")
        return answer(views.owner(found) | self._after)

    async def book(self, request: Request) -> Response:
        depth = wire.number(request.query_params.get("depth", "20"), "depth", 1, 1_000)
        found = _instrument(await self._replica.settled(), request)
        return answer(views.book(found, depth) | self._after)


def _instrument(state: State, request: Request) -> InstrumentState:
    number = wire.number(request.path_params["instrument"], "instrument", 0, _MOST)
    found = state.instruments.get(number)
    if found is None:
        raise Refused("UNKNOWN_INSTRUMENT", f"no instrument {number}; GET /v1/instruments lists them")
    return found


def resources(context: Context, writer: Writer) -> list[Resource]:
    """Routes of the state."""
    state = _State(context, writer)
    unknown = ("UNKNOWN_INSTRUMENT",)
    return [
        Resource("GET", "/v1/health", state.health, "Is it alive, and how fresh", m.Health, "venue", waits=False),
        Resource(
            "GET", "/v1/status", state.status, "Counters, and what is wrong", m.Status, "venue",
            errors=("SEQUENCER_UNREACHABLE",),
        ),
        Resource("GET", "/v1/genesis", state.genesis, "Entry 0: who the venue is", m.Genesis, "venue"),
        Resource("GET", "/v1/params", state.params, "Governed parameters", m.Parameters, "venue"),
        Resource("GET", "/v1/auctions", state.auctions, "Books on offer", m.Auctions, "market"),
        Resource("GET", "/v1/instruments", state.instruments, "All markets", m.Instruments, "market"),
        Resource(
            "GET", "/v1/instruments/{instrument}", state.instrument, "A market", m.Instrument, "market", (INSTRUMENT,),
            errors=unknown,
        ),
        Resource(
            "GET", "/v1/books/{instrument}", state.book, "The order book", m.Book, "market", (INSTRUMENT, _DEPTH),
            errors=unknown,
        ),
        Resource(
            "GET", "/v1/accounts/{account}", state.account, "An account", m.Account, "accounts", (ACCOUNT,),
            errors=("UNKNOWN_ACCOUNT",),
        ),
        Resource(
            "GET", "/v1/owners/{owner}", state.owner, "An owner's accounts, keys and exits", m.Owner, "accounts",
            (OWNER,), errors=("UNKNOWN_OWNER",),
        ),
    ]  # fmt: skip
