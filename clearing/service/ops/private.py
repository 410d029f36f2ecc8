# SPDX-License-Identifier: GPL-3.0-or-later
"""The private port: what the operator's own people and machines may see, apart from the public interface.

    GET /metrics             Prometheus text
    GET /healthz             200 while the process works; 503 with a reason once the writer has halted
    GET /readyz              200 while commands are taken; 503 with a reason
    GET /v1/operator         figures and alerts as JSON: what `novate operator status` and the console show
    GET /                    the operator's console, a page; its scripts and styles at /assets/*

Rules:
- It only reads: whoever reaches it learns things and changes nothing. It still belongs behind a firewall: account
  numbers near their margin are on it. Requests must name this host (or `private_host`), so that a page in the
  operator's browser cannot read it through a rebound name.
- It runs on a thread with an event loop of its own; a slow reader of it cannot hold up the public interface.
- Who listens where is in `running.json` of the data directory while the process runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from clearing.service.epochs import write_durably
from clearing.service.ops.alerts import CRITICAL, Alert
from clearing.service.ops.figures import Figures
from clearing.service.ops.metrics import package_version
from clearing.service.run import listen as bound
from clearing.web import files

RUNNING: Final = "running.json"


class Running(msgspec.Struct, frozen=True):
    """`running.json`: the process of a data directory and its ports."""

    pid: int
    host: str
    port: int
    private_host: str
    private_port: int

    @property
    def private_url(self) -> str:
        return url_of(self.private_host, self.private_port)

    def alive(self) -> bool:
        """Whether a process of this number exists. (After a crash another may have it: what counts is who answers.)"""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


def url_of(host: str, port: int) -> str:
    """The URL of a listener; an address that means "every interface" is reached at this machine's own."""
    name = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def read_running(data_dir: Path) -> Running | None:
    """Who runs this data directory; None when nobody says so."""
    try:
        return msgspec.json.decode((data_dir / RUNNING).read_bytes(), type=Running)
    except (OSError, msgspec.MsgspecError):
        return None


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `NovateError` PORT_UNAVAILABLE."""
    listener = bound(host, port, "another private_port")
    listener.listen(128)  # at once, so that who asks before the server loop runs waits and is not refused
    return listener


class Report(msgspec.Struct, frozen=True):
    """What /v1/operator answers: `health` is "critical", "warning" or "ok"; `public_url`: where this machine reaches
    the public interface, empty before it is served."""

    health: str
    version: str
    alerts: list[Alert]
    figures: Figures
    public_url: str = ""


def report(figures: Figures, alerts: Sequence[Alert], public_url: str = "") -> Report:
    """Figures with the worst of what stands."""
    worst = "ok"
    if alerts:
        worst = CRITICAL if any(alert.severity == CRITICAL for alert in alerts) else "warning"
    return Report(worst, package_version(), list(alerts), figures, public_url)


def build(
    read: Callable[[], Figures],
    alerts: Callable[[Figures], Sequence[Alert]],
    metrics: CollectorRegistry,
    hosts: Sequence[str] = (),
    public_url: Callable[[], str] = str,
) -> Starlette:
    """The application; `hosts` are the names under which it may be asked, besides those of this machine; `public_url`
    says where the public interface is."""
    known = {"localhost", *hosts}

    def refused(request: Request) -> Response | None:
        name = request.url.hostname or ""
        if name in known or _is_address(name):
            return None
        return _json({"code": "WRONG_HOST", "message": f"{name[:80]!r} is not a name of this host"}, 421)

    def page(answer: Callable[[Request], Response]) -> Callable[[Request], Any]:
        async def serve(request: Request) -> Response:
            refusal = refused(request)
            return refusal if refusal is not None else await run_in_threadpool(answer, request)

        return serve

    def show_metrics(request: Request) -> Response:
        encode, kind = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(metrics), headers={"content-type": kind})

    def health(_: Request) -> Response:
        halted = read().halted
        return PlainTextResponse(f"halted: {halted}\n", 503) if halted else PlainTextResponse("ok\n")

    def ready(_: Request) -> Response:
        found = read()
        reason = found.halted or found.refusing
        return PlainTextResponse(f"not ready: {reason}\n", 503) if reason else PlainTextResponse("ready\n")

    def operator(_: Request) -> Response:
        figures = read()
        return _json(report(figures, alerts(figures), public_url()))

    def guarded(route: Route) -> Route:
        async def serve(request: Request) -> Response:
            refusal = refused(request)
            return refusal if refusal is not None else await route.endpoint(request)

        return Route(route.path, serve, methods=["GET"])

    table = (("/metrics", show_metrics), ("/healthz", health), ("/readyz", ready), ("/v1/operator", operator))
    console = [
        files.page("/", files.ROOT / "console/index.html", files.ANYWHERE),
        files.assets("/assets", files.ROOT, ("shared", "console", "vendor")),
    ]
    routes = [Route(path, page(answer), methods=["GET"]) for path, answer in table]
    return Starlette(routes=[*routes, *map(guarded, console)])


def _is_address(name: str) -> bool:
    """An IP address cannot be rebound by a name server."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


class PrivateServer:
    """Serves an application on a listening socket, on a thread of its own."""

    def __init__(self, app: Starlette, listener: socket.socket) -> None:
        self._listener = listener
        self.port: int = listener.getsockname()[1]
        settings = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=2)
        self._server = uvicorn.Server(settings)
        self._thread = threading.Thread(target=self._run, name="private", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        asyncio.run(self._server.serve([self._listener]))

    def stop(self, timeout_s: float = 5.0) -> None:
        """Stop serving and close the socket. Idempotent."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self._listener.close()


def write_running(data_dir: Path, running: Running) -> None:
    """Raises `NovateError` DISK_FULL."""
    write_durably(data_dir / RUNNING, msgspec.json.encode(running) + b"\n")


def remove_running(data_dir: Path) -> None:
    with contextlib.suppress(OSError):
        (data_dir / RUNNING).unlink()
