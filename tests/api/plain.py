# SPDX-License-Identifier: GPL-3.0-or-later
"""The interface's process with a small application of the tests in it: `python -m tests.api.plain DATA_DIR`.

What is under test is the process around an application: link, replica, supervision, stopping.
"""

import asyncio
import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from clearing.api.context import Context
from clearing.api.process import main
from clearing.model.errors import NovateError
from clearing.service.pipeline import Receipt


def build_app(context: Context) -> Starlette:
    """Submit, look, dawdle, and die on demand."""
    if os.environ.get("NOVATE_TEST_API") == "broken":
        raise NovateError("BROKEN", "this interface never serves")

    under_way: list[Request] = []

    async def submit(request: Request) -> Response:
        try:
            (result,) = await context.link.submit([await request.body()])
        except NovateError as error:
            result = error
        if isinstance(result, Receipt):
            return JSONResponse({"seq": result.seq, "size": result.checkpoint.size})
        return JSONResponse({"code": result.code, "message": result.message}, 503)

    async def look(_: Request) -> Response:
        state = await context.replica.settled()
        told = {"pid": os.getpid(), "seq": context.replica.seq, "stale": context.replica.stale, "epoch": state.epoch}
        return JSONResponse(told | {"under_way": len(under_way)})

    async def dawdle(request: Request) -> Response:
        under_way.append(request)
        await asyncio.sleep(float(request.query_params["s"]))
        return await submit(request)

    async def die(_: Request) -> Response:
        os._exit(9)

    async def diverge(_: Request) -> Response:
        context.replica._diverged("the test says so")
        return JSONResponse({})

    async def last_words() -> None:
        context.log.info("last words")

    context.on_close(last_words)
    table = {"/submit": submit, "/look": look, "/dawdle": dawdle, "/die": die, "/diverge": diverge}
    return Starlette(routes=[Route(path, endpoint, methods=["GET", "POST"]) for path, endpoint in table.items()])


if __name__ == "__main__":
    main(build=build_app)
