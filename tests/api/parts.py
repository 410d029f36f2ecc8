# SPDX-License-Identifier: GPL-3.0-or-later
"""Resources of the interface on their own: an application of nothing but them, and a process that serves it.

`python -m tests.api.parts DATA_DIR` is the interface's process with the history's resources in it.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from clearing.api.context import Context
from clearing.api.history import History
from clearing.api.http import estimate, market, member
from clearing.api.http.table import Resource
from clearing.api.process import main
from clearing.model.errors import NovateError, Refused


def _endpoint(resource: Resource) -> Any:
    async def answer(request: Request) -> Response:
        try:
            found = await resource.handler(request)
        except NovateError as error:
            status = 400 if isinstance(error, Refused) else 503
            return JSONResponse({"code": error.code, "message": error.message}, status)
        assert not isinstance(found, Response)
        data = msgspec.json.encode(found)
        assert not isinstance(resource.answer, str)
        msgspec.json.decode(data, type=resource.answer, strict=True)  # it is what it is declared to be
        return Response(data, media_type="application/json")

    return answer


def app_of(resources: Sequence[Resource]) -> Starlette:
    """Each resource on its path, every answer checked against its declaration."""
    return Starlette(routes=[Route(r.path, _endpoint(r), methods=[r.method]) for r in resources])


def resources_of(context: Context, history: History) -> list[Resource]:
    """Everything that history has to show."""
    parts = (market, member, estimate)
    return [resource for part in parts for resource in part.resources(context, history)]


def build_app(context: Context) -> Starlette:
    return app_of(resources_of(context, History(context)))


if __name__ == "__main__":
    main(build=build_app)
