# SPDX-License-Identifier: GPL-3.0-or-later
"""What only the sequencer's process knows and many ask for: asked once, kept for a moment."""

import asyncio
import time
from typing import Any, Final

from clearing.api.context import Context
from clearing.model.errors import NovateError

_KEPT_S: Final = 0.05


class Writer:
    """One per application. The last answer is told on while the sequencer cannot be reached."""

    def __init__(self, context: Context) -> None:
        self._link = context.link
        self._asked = -_KEPT_S
        self._found: dict[str, Any] | None = None
        self._reached = False
        self._lock = asyncio.Lock()

    async def status(self, after: int = -1) -> tuple[dict[str, Any] | None, bool]:
        """What it last told of itself, and whether that is of now; None before the first answer. What was told before
        entry `after` is not kept: who has a receipt reads what it did."""
        async with self._lock:
            older = self._found is not None and self._found["size"] <= after
            if older or time.monotonic() - self._asked >= _KEPT_S:
                try:
                    self._found = await self._link.ask("status")
                    self._reached = True
                except NovateError:
                    self._reached = False
                self._asked = time.monotonic()
            return self._found, self._reached

    async def posted(self) -> list[int]:
        """Per vault the last epoch that it holds, as last heard; empty before that."""
        found, _ = await self.status()
        return list(found["posted"]) if found is not None else []
