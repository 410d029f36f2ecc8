# SPDX-License-Identifier: GPL-3.0-or-later
"""The public interface: every resource, the stream, the pages.

Anybody may ask from any origin: there are no cookies, and what changes something is signed by its sender.
"""

from importlib.metadata import version
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from clearing.api.context import Context
from clearing.api.history import History
from clearing.api.http import commands, epochs, errors, estimate, journal, market, member, openapi, state
from clearing.api.http.guard import Guard
from clearing.api.http.limits import Quota
from clearing.api.http.pages import page_routes
from clearing.api.http.table import Resource
from clearing.api.http.writer import Writer
from clearing.api.stream import asyncapi, stream_route

_EXPOSED = [
    "x-novate-seq", "x-novate-age-ms", "x-novate-stale", "x-ratelimit-limit", "x-ratelimit-remaining",
    "x-ratelimit-reset", "retry-after",
]  # fmt: skip


def resources_of(context: Context, history: History, quota: Quota) -> list[Resource]:
    """All that can be asked for, in the order in which it is described. `quota`: of what is submitted."""
    writer = Writer(context)
    return [
        *commands.resources(context, quota),
        *state.resources(context, writer),
        *market.resources(context, history),
        *member.resources(context, history),
        *estimate.resources(context, history),
        *journal.resources(context),
        *epochs.resources(context, writer),
    ]


def build_app(context: Context) -> Starlette:
    """The application. Call it on the event loop that will run it."""
    history = History(context)
    quota = Quota(context.config.api.commands_per_second, context.config.api.commands_burst)
    resources = resources_of(context, history, quota)
    guard = Guard(context, quota)
    routes: list[BaseRoute] = [Route(found.path, guard.endpoint(found), methods=[found.method]) for found in resources]
    routes.append(_told("/v1/openapi.json", openapi.document(resources, version("novate"))))
    routes.append(_told("/v1/asyncapi.json", asyncapi.document()))
    routes.append(stream_route(context, history, quota=quota))
    routes += page_routes(context)
    cross = Middleware(CORSMiddleware, allow_origins=["*"], allow_headers=["content-type"], expose_headers=_EXPOSED)
    return Starlette(routes=routes, middleware=[cross], exception_handlers={HTTPException: errors.on_http_error})


def _told(path: str, document: dict[str, Any]) -> Route:
    """A description, as it was made at the start."""
    body = bytes(errors.json(document).body)

    async def describe(_: Request) -> Response:
        return Response(body, media_type=errors.JSON)

    return Route(path, describe)
