# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages on the public port: start, user, auditor, verifier, and the operator's latest audit report.

    GET /                    links and the venue's state
    GET /user                balance, orders, proofs, leaving
    GET /auditor             checkpoints, epochs, the latest audit
    GET /verify/             the verifier's page
    GET /assets/*            scripts and styles
    GET /auditor/reports     when they were written: {"html_s", "json_s"}, seconds UTC or null
    GET /auditor/report      audit.html of the data directory, as `novate audit run --report` wrote it; also .json

Rules: an audit report is served in a sandbox, since it is a file that the operator was given. It is read at every
request, so that a newer one shows at once.
"""

from pathlib import Path
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from clearing.api.context import Context
from clearing.web.files import ANYWHERE, ROOT, assets, page, redirect

REPORT: Final = "audit"
_MAX_REPORT_BYTES: Final = 64 << 20
_KINDS: Final = {".html": "text/html; charset=utf-8", ".json": "application/json"}
_SANDBOX: Final = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox",
    "cache-control": "no-cache",
    "x-content-type-options": "nosniff",
}


def page_routes(context: Context) -> list[BaseRoute]:
    """The routes; everything but the report is read now."""
    return [
        page("/", ROOT / "start/index.html"),
        page("/user", ROOT / "user/index.html", ANYWHERE),
        page("/auditor", ROOT / "auditor/index.html"),
        redirect("/verify", "/verify/"),
        page("/verify/", ROOT / "verify/index.html", ANYWHERE),
        assets("/verify", ROOT / "verify"),
        assets("/assets", ROOT, ("shared", "signing", "start", "user", "auditor", "vendor")),
        _reports(context.data_dir),
        _report("/auditor/report", context.data_dir / f"{REPORT}.html"),
        _report("/auditor/report.json", context.data_dir / f"{REPORT}.json"),
    ]


def _reports(folder: Path) -> Route:
    def written(kind: str) -> int | None:
        try:
            return int((folder / f"{REPORT}{kind}").stat().st_mtime)
        except OSError:
            return None

    async def serve(_: Request) -> Response:
        found = await run_in_threadpool(lambda: {f"{kind[1:]}_s": written(kind) for kind in _KINDS})
        return JSONResponse(found, headers={"cache-control": "no-store"})

    return Route("/auditor/reports", serve, methods=["GET"], include_in_schema=False)


def _report(path: str, file: Path) -> Route:
    def read() -> bytes | None:
        try:
            with file.open("rb") as stream:
                data = stream.read(_MAX_REPORT_BYTES + 1)
        except OSError:
            return None
        return data if len(data) <= _MAX_REPORT_BYTES else None

    async def serve(_: Request) -> Response:
        data = await run_in_threadpool(read)
        if data is None:
            message = f"the operator has published no audit report; {file.name} in its data directory would be served"
            return JSONResponse({"code": "NO_REPORT", "message": message}, 404)
        return Response(data, headers=_SANDBOX, media_type=_KINDS[file.suffix])

    return Route(path, serve, methods=["GET"], include_in_schema=False)
