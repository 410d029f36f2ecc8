# SPDX-License-Identifier: GPL-3.0-or-later
"""What the public interface has to work with: the running parts of its process, and nothing else."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clearing.api.link import Link
from clearing.api.replica import Replica
from clearing.model.commands import Genesis
from clearing.service.config import Config
from clearing.service.epochs import EpochBook
from journal import Store

OnClose = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Context:
    """`store` is the journal opened for reading; of `book` only what reads may be called. `report` hears of faults of
    ours, by part; `log` is the process's logger."""

    data_dir: Path
    config: Config
    genesis: Genesis
    link: Link
    replica: Replica
    store: Store
    book: EpochBook
    report: Callable[[str, BaseException], None]
    log: Any
    closers: list[OnClose] = field(default_factory=list)

    def on_close(self, closer: OnClose) -> None:
        """Have `closer` awaited when the process is asked to stop, before connections are closed: the last word to
        those who stream. It has a few seconds."""
        self.closers.append(closer)
