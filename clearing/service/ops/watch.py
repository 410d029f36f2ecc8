# SPDX-License-Identifier: GPL-3.0-or-later
"""Monitoring of one running node: meter, gauges, alert log and the private port, behind one object.

Rules:
- A node works without it: whatever fails here is logged as a fault of the part "watch" and tried again.
- `look` runs every `watch_seconds` on a thread of its own; what the private port answers is as old as the question,
  but for balances and the accounts' risk, which say their age.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clearing.model.outcomes import Outcome
from clearing.service.config import Config
from clearing.service.loops import Faults, Loop
from clearing.service.ops import private
from clearing.service.ops.alerts import Alert, AlertLog, judge
from clearing.service.ops.figures import Figures, Gauges
from clearing.service.ops.meter import Meter
from clearing.service.ops.metrics import registry

if TYPE_CHECKING:
    from clearing.service.pipeline import Pipeline
    from clearing.service.sequencer import Sequencer


def attach(meter: Meter, pipeline: Pipeline, sequencer: Sequencer) -> None:
    """Have the writer's path count. Before anything is submitted, and after other watchers of outcomes."""
    pipeline.committer.on_commit = meter.committed
    sequencer.on_queued, sequencer.on_answered = meter.queued, meter.answered
    earlier = pipeline.watch
    if earlier is None:
        pipeline.watch = meter.note
        return

    def both(outcomes: list[Outcome]) -> None:
        earlier(outcomes)
        meter.note(outcomes)

    pipeline.watch = both


class Watch:
    """`start` begins to look and, with a host, to serve; `stop` ends both."""

    def __init__(self, gauges: Gauges, config: Config, faults: Faults, log: Any) -> None:
        self.gauges = gauges
        self._config = config
        self.alerts = AlertLog(log)
        self._loop = Loop("watch", config.watch_seconds, self.look, faults, self.look)
        self._server: private.PrivateServer | None = None
        self._public_url = ""

    def judge(self, figures: Figures) -> list[Alert]:
        """What stands by these figures."""
        return judge(figures, self._config.alerts)

    def look(self) -> None:
        """One look: accounts, balances, alerts. Raises `ChainError` after all is done."""
        try:
            self.gauges.look()
        finally:
            self.alerts.look(self.judge(self.gauges.read()))

    def seed(self, entries: Iterable[Iterable[Outcome]]) -> None:
        self.gauges.meter.seed(entries)

    def start(self) -> None:
        self._loop.start()
        self._loop.poke()

    def serve(self, host: str, port: int, names: Sequence[str] = ()) -> int:
        """Open the private port; which one it is. Raises `NovateError` PORT_UNAVAILABLE."""
        read: Callable[[], Figures] = self.gauges.read
        metrics = registry(read, self.gauges.meter, lambda: self.alerts.current)
        app = private.build(read, self.judge, metrics, (host, *names), lambda: self._public_url)
        self._server = private.PrivateServer(app, private.listen(host, port))
        self._server.start()
        return self._server.port

    def announce(self, data_dir: Path, host: str, port: int, private_host: str, private_port: int) -> None:
        """Say in the data directory who runs here."""
        self._public_url = private.url_of(host, port)
        private.write_running(data_dir, private.Running(os.getpid(), host, port, private_host, private_port))

    def stop(self, data_dir: Path) -> None:
        """Idempotent."""
        self._loop.stop()
        if self._server is not None:
            self._server.stop()
            self._server = None
            private.remove_running(data_dir)
