# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages' files, as the public and the private port serve them.

Rules:
- What is served is what was on disk when the process started: read once, compressed once, named by its hash.
- Every answer carries its own ETag and is asked for again by it (`no-cache`), so that a page and its scripts are
  always of one version and cost a header each when nothing changed.
- Every page carries a Content-Security-Policy: no inline script or style, nobody else's code, no frames around it.
  Only pages that ask a chain's endpoint of the reader's choice may connect elsewhere.
- Nothing outside of the named folders can be reached: names are looked up in a table, not on disk.
"""

import gzip
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

ROOT: Final = Path(__file__).resolve().parent
_KINDS: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_SMALL: Final = 512
_HEADERS: Final = {
    "cache-control": "no-cache",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


def policy(connect: str = "'self'") -> str:
    """The Content-Security-Policy of a page that may connect to `connect`."""
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src {connect}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


OWN: Final = policy()
# A page whose reader names endpoints of a chain, or the venue's public port: whoever that is.
ANYWHERE: Final = policy("'self' http: https: ws: wss:")


@dataclass(frozen=True)
class File:
    """A file as it is sent."""

    data: bytes
    packed: bytes
    kind: str
    etag: str

    @classmethod
    def read(cls, path: Path) -> "File":
        data = path.read_bytes()
        packed = gzip.compress(data, 9, mtime=0) if len(data) > _SMALL else b""
        return cls(data, packed, _KINDS[path.suffix], hashlib.sha256(data).hexdigest()[:32])

    def answer(self, request: Request, csp: str = OWN) -> Response:
        """200, or 304 to who has it."""
        packed = bool(self.packed) and "gzip" in request.headers.get("accept-encoding", "")
        etag = f'"{self.etag}-gz"' if packed else f'"{self.etag}"'
        headers = _HEADERS | {"etag": etag, "vary": "accept-encoding", "content-security-policy": csp}
        known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
        if etag in known or "*" in known:
            return Response(status_code=304, headers=headers)
        if packed:
            headers["content-encoding"] = "gzip"
        return Response(self.packed if packed else self.data, headers=headers, media_type=self.kind)


def page(path: str, file: Path, csp: str = OWN) -> Route:
    """A route that serves one page."""
    found = File.read(file)

    async def serve(request: Request) -> Response:
        return found.answer(request, csp)

    return Route(path, serve, methods=["GET"], include_in_schema=False)


def redirect(path: str, target: str) -> Route:
    """A route that sends on to a page of this server."""

    async def serve(_: Request) -> Response:
        return RedirectResponse(target, 308, _HEADERS)

    return Route(path, serve, methods=["GET"], include_in_schema=False)


def assets(prefix: str, folder: Path, parts: Sequence[str] = ("",)) -> Route:
    """A route that serves the scripts and styles below `folder`, of the named parts of it."""
    table = {
        path.relative_to(folder).as_posix(): File.read(path)
        for part in parts
        for path in sorted((folder / part).rglob("*"))
        if path.suffix in (".js", ".css", ".svg") and "node_modules" not in path.parts
    }

    async def serve(request: Request) -> Response:
        found = table.get(request.path_params["name"])
        if found is None:
            return Response("there is no such file\n", 404, _HEADERS, "text/plain")
        return found.answer(request)

    return Route(prefix + "/{name:path}", serve, methods=["GET"], include_in_schema=False)
