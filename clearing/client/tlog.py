# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetching the files of a published log over HTTP: any web server or object store will do.

Rules:
- A missing file (404, 410; 403, which object stores answer where listing is not allowed) is a
  FileNotFoundError: the reader may know another place for it.
- Faults on the way (no answer, 429, 5xx) are tried again with growing pauses; then LOG_UNREACHABLE.
- An answer is read up to what its file can hold, and no further.
- Nothing is believed: `journal.published` checks every byte. Thread-safe.
"""

import random
import time
from collections.abc import Callable
from typing import Final

import httpx

from clearing.model.errors import NovateError
from proofs.tiles import CHECKPOINT_PATH, MAX_BUNDLE_BYTES, TILE_BYTES

_MISSING: Final = frozenset({403, 404, 410})
_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_NOTE_BYTES: Final = 16_384
_SEALED_BYTES: Final = 64
_PAUSE_S: Final = 0.2
_MAX_PAUSE_S: Final = 10.0


class LogFetch:
    """The files below a URL: call it with a path. Close it, or use `with`.

    `timeout_s` bounds the wait for each part of an answer, `attempts` the tries per file.
    Raises NovateError LOG_URL for what is no http(s) URL.
    """

    def __init__(
        self, url: str, timeout_s: float = 20.0, attempts: int = 5, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise NovateError("LOG_URL", f"{url[:200]!r} is no http(s) URL of a published log")
        self.url = url.rstrip("/")
        self._attempts = attempts
        self._sleep = sleep
        limits = httpx.Limits(max_connections=32, max_keepalive_connections=32)
        try:
            self._http = httpx.Client(timeout=timeout_s, limits=limits, headers={"user-agent": "novate"})
        except httpx.InvalidURL as error:
            raise NovateError("LOG_URL", f"{url[:200]!r} is no URL: {error}") from None

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> "LogFetch":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, path: str) -> bytes:
        """The bytes at `path`. Raises FileNotFoundError, NovateError LOG_UNREACHABLE, LOG_ANSWER."""
        url, reason = f"{self.url}/{path}", ""
        for attempt in range(self._attempts):
            if attempt:
                # Many mirrors follow one log: they should not all come back in the same moment.
                pause = min(_MAX_PAUSE_S, _PAUSE_S * 2 ** (attempt - 1))
                self._sleep(pause * random.uniform(0.5, 1.0))
            try:
                with self._http.stream("GET", url) as response:
                    if response.status_code in _MISSING:
                        raise FileNotFoundError(f"{url} does not exist (HTTP {response.status_code})")
                    if response.status_code not in _AGAIN:
                        return self._body(path, url, response)
                    reason = f"HTTP {response.status_code}"
            except (httpx.HTTPError, httpx.StreamError) as error:
                reason = str(error) or type(error).__name__
            except httpx.InvalidURL as error:
                raise NovateError("LOG_URL", f"{url[:200]!r} is no URL: {error}") from None
        raise NovateError("LOG_UNREACHABLE", f"{url} could not be fetched ({reason}); try again later")

    def _body(self, path: str, url: str, response: httpx.Response) -> bytes:
        if response.status_code != 200:
            raise NovateError("LOG_ANSWER", f"{url} answers HTTP {response.status_code}; check the URL")
        most = _most(path)
        parts: list[bytes] = []
        size = 0
        for part in response.iter_bytes():
            size += len(part)
            if size > most:
                raise NovateError("LOG_ANSWER", f"{url} is larger than {most} bytes; check the URL")
            parts.append(part)
        return b"".join(parts)


def _most(path: str) -> int:
    """How many bytes the file at a path can hold."""
    if path == CHECKPOINT_PATH:
        return _NOTE_BYTES
    return MAX_BUNDLE_BYTES + _SEALED_BYTES if "entries" in path else TILE_BYTES
