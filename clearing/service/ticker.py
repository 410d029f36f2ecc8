# SPDX-License-Identifier: GPL-3.0-or-later
"""What time and prices bring about: triggers, liquidation, the waterfall, expiry, funding, interest, what
owners forced, and the steps of a wind-down.

The reducer decides all of it; this thread only notices when something is due, under the reader's
lock, and submits the command. What is not due is never submitted, so an idle venue's journal does
not grow. Liquidation is swept after each accepted oracle update, and again while any account fails.
"""

import threading
from collections.abc import Callable
from typing import Final

from clearing.core import adl, borrowing, closing, expiry, forced, funding, orders, triggers, waterfall
from clearing.core.liquidation import is_ready
from clearing.core.state import State
from clearing.core.sweep import Sweeper
from clearing.model import commands as c
from clearing.service.operator import Operator
from clearing.service.pipeline import Pipeline

Report = Callable[[str, BaseException], None]

# In the order in which it should happen: who waits longest for a price goes first.
_SOURCES: Final[tuple[Callable[[State, int], c.OperatorCommand | None], ...]] = (
    triggers.due,
    adl.due,
    waterfall.due,
    forced.due,
    expiry.due,
    orders.due,
    funding.due,
    borrowing.due,
)
# One turn submits at most this many rounds of what stays due (an expiry takes several entries).
_MAX_ROUNDS: Final = 64


def due(state: State, now_us: int) -> list[c.OperatorCommand]:
    """What time has brought about at `now_us`, in the order in which it should happen; in a wind-down its next step."""
    if state.winding:
        step = closing.due(state, now_us)
        return [step] if step is not None else []
    return [command for command in (source(state, now_us) for source in _SOURCES) if command is not None]


def liquidations(state: State, now_us: int, found: list[tuple[int, int]]) -> list[c.OperatorCommand]:
    """The next step for those of `found` (account, witness) that are neither cooling down nor on auction."""
    ready = [(n, scenario) for n, scenario in found if is_ready(state, state.accounts[n], now_us)]
    return [c.Liquidate(n, scenario) for n, scenario in ready]


class Ticker:
    """Runs until `stop`. `price_moved` wakes it at once; `report` hears of faults, which do not end it;
    `on_done` is called after a turn that submitted anything."""

    def __init__(
        self,
        pipeline: Pipeline,
        operator: Operator,
        clock_us: Callable[[], int],
        tick_seconds: float,
        report: Report,
        on_done: Callable[[], None] | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._operator = operator
        self._clock_us = clock_us
        self._tick_seconds = tick_seconds
        self._report = report
        self._on_done = on_done
        self._wake = threading.Event()
        self._sweep = True
        self._sweeper = Sweeper(pipeline.reducer.state)
        pipeline.watch = self._sweeper.note
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="ticker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def price_moved(self) -> None:
        """An oracle update was journalled: sweep for liquidations now."""
        self._sweep = True
        self._wake.set()

    def stop(self, timeout_s: float = 10.0) -> None:
        self._stopped = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def turn(self) -> int:
        """Submit what is due and wait for it, until nothing is; returns how many commands that were."""
        count = 0
        for _ in range(_MAX_ROUNDS):
            commands = self._look()
            for command in commands:
                self._operator.run(command)
            count += len(commands)
            if not commands:
                break
        if count and self._on_done is not None:
            self._on_done()
        return count

    def _look(self) -> list[c.OperatorCommand]:
        with self._pipeline.lock:
            state, now_us = self._pipeline.reducer.state, self._clock_us()
            # Cleared before the sweep: a price that comes while it runs asks for the next one.
            wanted, self._sweep = self._sweep, False
            found = self._sweeper.run() if wanted and not state.winding else []
            if found:  # whoever fails now is looked at again, price or no price: a step may be cooling down
                self._sweep = True
            return due(state, now_us) + liquidations(state, now_us, found)

    def _run(self) -> None:
        while not self._stopped:
            try:
                self.turn()
            except Exception as error:  # noqa: BLE001 - a missed tick is made up for by the next one
                self._report("ticker", error)
            self._wake.wait(self._tick_seconds)
            self._wake.clear()
