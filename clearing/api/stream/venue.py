# SPDX-License-Identifier: GPL-3.0-or-later
"""Topics of the venue as a whole: epochs, checkpoint, status. They are looked at once a second.

Rules: an epoch is told when its headers can be read from disk, and again when every live vault holds them; each is
told once, in order. What the sequencer cannot be asked for is told when it can.
"""

import asyncio
from typing import TYPE_CHECKING

import msgspec

from clearing.api.http.shown import shown
from clearing.api.messages import frames as f
from clearing.api.messages.commands import Head
from clearing.api.stream.backfill import Backfill
from clearing.api.stream.topics import Topic
from clearing.model.errors import NovateError
from clearing.service import views
from clearing.service.epochs import EpochRecord

if TYPE_CHECKING:
    from clearing.api.stream.hub import Hub


class CheckpointTopic(Topic):
    channel = "checkpoint"
    interval_s = 1.0

    def __init__(self, hub: "Hub", key: int) -> None:
        super().__init__(hub, key)
        self._head = self._now()

    def look(self) -> None:
        """Tell a newer head."""
        if self._now() != self._head:
            self.mark()

    def told(self, backfill: Backfill | None) -> msgspec.Struct:
        return f.CheckpointSnapshot(seq=self.seq, data=self._head)

    def change(self, seq: int) -> msgspec.Struct | None:
        head = self._now()
        if head is None or head == self._head:
            return None
        self._head = head
        return f.CheckpointDelta(seq=seq, prev_seq=self.seq, data=head)

    def _now(self) -> Head | None:
        try:
            found = self.hub.replica.checkpoint
        except NovateError:
            return None
        return Head(found.size, "0x" + found.root.hex(), found.note)


class StatusTopic(Topic):
    channel = "status"
    interval_s = 1.0

    def look(self) -> None:
        """Tell it again when anything was applied."""
        if self.hub.seq != self.seq:
            self.mark()

    def told(self, backfill: Backfill | None) -> msgspec.Struct:
        return f.StatusSnapshot(seq=self.seq, data=shown(views.status(self.hub.replica.state)))

    def change(self, seq: int) -> msgspec.Struct | None:
        if seq == self.seq:
            return None
        return f.StatusDelta(seq=seq, prev_seq=self.seq, data=shown(views.status(self.hub.replica.state)))


class EpochsTopic(Topic):
    """`_closed`: the newest epoch that was told; `_posted`: the newest that was told as posted."""

    channel = "epochs"

    def __init__(self, hub: "Hub", key: int) -> None:
        super().__init__(hub, key)
        self._newest: f.Epoch | None = None
        self._closed = self._posted = 0
        self._news: list[f.Epoch] = []

    async def begin(self) -> None:
        """Read where things stand; before anybody is told."""
        epoch, record = self.hub.replica.state.epoch, None
        while epoch and record is None:  # the newest record may still be on its way to disk
            record = await self._load(epoch)
            epoch -= record is None
        if record is not None:
            posted = await self._held()
            is_posted = posted is not None and _is_posted(record, posted)
            self._newest = _epoch(record, is_posted)
            self._closed = record.epoch
            self._posted = record.epoch if is_posted else max(0, min(record.epoch - 1, min(posted or [0])))

    async def poll(self) -> None:
        """Find what is new."""
        while (record := await self._load(self._closed + 1)) is not None:
            self._closed += 1
            self._news.append(_epoch(record, False))
        posted = await self._held() if self._posted < self._closed else None
        while posted is not None and self._posted < self._closed:
            record = await self._load(self._posted + 1)
            if record is None or not _is_posted(record, posted):
                break
            self._posted += 1
            self._news.append(_epoch(record, True))
        if self._news:
            self.mark()

    def told(self, backfill: Backfill | None) -> msgspec.Struct:
        return f.EpochsSnapshot(seq=self.seq, data=self._newest)

    def change(self, seq: int) -> msgspec.Struct | None:
        """One at a time; `flush` goes on until there is none."""
        if not self._news:
            return None
        epoch = self._news.pop(0)
        if self._newest is None or epoch.epoch >= self._newest.epoch:
            self._newest = epoch
        return f.EpochsDelta(seq=seq, prev_seq=self.seq, data=epoch)

    def flush(self, now: float) -> None:
        super().flush(now)
        while self._news:
            super().flush(now)

    def reset(self) -> None:
        while self._news:
            self.change(self.hub.seq)
        super().reset()

    async def _load(self, epoch: int) -> EpochRecord | None:
        if epoch > self.hub.replica.state.epoch:
            return None
        try:
            return await asyncio.to_thread(self.hub.context.book.load, epoch)
        except NovateError:
            return None

    async def _held(self) -> list[int] | None:
        """Per vault the last epoch that it holds; None when the sequencer cannot be asked."""
        try:
            found: list[int] = await self.hub.context.link.ask("posted")
        except NovateError:
            return None
        return found


def _is_posted(record: EpochRecord, posted: list[int]) -> bool:
    return all(posted[vault] >= record.epoch for vault in record.live())


def _epoch(record: EpochRecord, posted: bool) -> f.Epoch:
    headers = [f.VaultHeader(vault, "0x" + record.part(vault).header_hash.hex()) for vault in record.live()]
    return f.Epoch(record.epoch, "posted" if posted else "closed", headers)
