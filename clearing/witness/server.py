# SPDX-License-Identifier: GPL-3.0-or-later
"""The witness on the network: `POST /add-checkpoint` and nothing else (C2SP tlog-witness).

Rules:
- Anybody may ask; what counts is the log's signature. Bodies are read up to a limit of bytes and of seconds.
- Statuses are the standard's. The body of a 409 is the known size, as `text/x.tlog.size`; other refusals carry
  {"code", "message"}.
- A fault of ours is INTERNAL with status 500 and no cosignature; its cause goes to the log, not to the caller.
"""

import asyncio
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any, Final

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from clearing.model.errors import NovateError
from clearing.witness.witness import MAX_REQUEST_BYTES, Refusal, Witness

PATH: Final = "/add-checkpoint"
SIZE_TYPE: Final = "text/x.tlog.size"
BODY_S: Final = 10.0
_STATUS: Final = {"WITNESS_DISK": 507, "WITNESS_HALTED": 503}

Tell = Callable[..., Any]


def _error(code: str, message: str, status: int) -> Response:
    return Response(msgspec.json.encode({"code": code, "message": message}), status, media_type="application/json")


async def _body(request: Request) -> bytes:
    parts, total = [], 0
    async for part in request.stream():
        total += len(part)
        if total > MAX_REQUEST_BYTES:
            raise Refusal(413, "WITNESS_MALFORMED", f"the request is larger than {MAX_REQUEST_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)


def _answer(refusal: Refusal) -> Response:
    if refusal.status == 409 and refusal.size is not None:
        # The type is the standard's, letter by letter: no charset.
        return Response(f"{refusal.size}\n", 409, headers={"content-type": SIZE_TYPE})
    return _error(refusal.code, refusal.message, refusal.status)


async def _on_http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error("NOT_FOUND", f"a witness answers POST {PATH} and nothing else", error.status_code)


def build_app(witness: Witness, tell: Tell = lambda event, **fields: None) -> Starlette:
    """The application. `tell` hears of faults."""

    async def add_checkpoint(request: Request) -> Response:
        try:
            async with asyncio.timeout(BODY_S):
                body = await _body(request)
            return PlainTextResponse(await run_in_threadpool(witness.add_checkpoint, body))
        except Refusal as refusal:
            return _answer(refusal)
        except NovateError as error:
            tell("failed", code=error.code, message=error.message)
            return _error(error.code, error.message, _STATUS.get(error.code, 500))
        except TimeoutError:
            return _error("WITNESS_MALFORMED", f"the body did not come within {BODY_S:g} seconds", 408)
        except ClientDisconnect:
            return _error("WITNESS_MALFORMED", "the body was cut short", 400)
        except Exception as error:  # noqa: BLE001 - a caller gets a code, never a traceback
            tell("failed", code="INTERNAL", message=f"{type(error).__name__}: {error}")
            return _error("INTERNAL", "the witness failed on this request; its log says why", 500)

    routes = [Route(PATH, add_checkpoint, methods=["POST"])]
    return Starlette(routes=routes, exception_handlers={HTTPException: _on_http_error})


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises NovateError PORT_UNAVAILABLE."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio sets TCP_NODELAY on what it accepts: answers do not wait for acknowledgements.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise NovateError("PORT_UNAVAILABLE", f"cannot listen on {host}:{port}: {error}; choose another") from None
    return listener


class Server:
    """The application on a bound socket; `run` serves until `stop`, or until SIGTERM or SIGINT in the main thread."""

    def __init__(self, app: Starlette, listener: socket.socket) -> None:
        self._listener = listener
        settings = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", limit_concurrency=256, timeout_graceful_shutdown=10
        )
        self._server = uvicorn.Server(settings)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def stop(self) -> None:
        self._server.should_exit = True

    def run(self, on_start: Callable[[], None] = lambda: None) -> None:
        """Serve; `on_start` is called when requests are answered."""
        if threading.current_thread() is threading.main_thread():
            # uvicorn raises the signal that stopped it once more when it is done, which would end the process.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: self.stop())

        async def serve() -> None:
            serving = asyncio.create_task(self._server.serve([self._listener]))
            while not self._server.started and not serving.done():
                await asyncio.sleep(0.005)
            if self._server.started:
                on_start()
            await serving

        try:
            asyncio.run(serve())
        finally:
            self._listener.close()
