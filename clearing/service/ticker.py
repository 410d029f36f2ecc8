# SPDX-License-Identifier: GPL-3.0-or-later
"""What time and prices bring about: funding, expiry of orders, liquidation.

The reducer decides all of it; this thread only notices when something is due, under the reader's
lock, and submits the command. What is not due is never submitted, so an idle venue's journal does
not grow. Liquidation is swept after each accepted oracle update, and by account number.
"""

import threading
from collections.abc import Callable

from clearing.core.liquidation import is_liquidatable
from clearing.core.state import State
from clearing.model import commands as c
from clearing.service.operator import Operator
from clearing.service.pipeline import Pipeline

Report = Callable[[str, BaseException], None]


def due(state: State, now_us: int, sweep: bool) -> list[c.OperatorCommand]:
    """What is due at `now_us`, in the order in which it should happen."""
    found: list[c.OperatorCommand] = []
    interval = state.params.funding_interval_us
    if any(inst.index and now_us - inst.funding_time >= interval for inst in state.instruments.values()):
        found.append(c.FundingTick())
    if state.expiries and state.expiries[0][0] <= now_us:
        found.append(c.ExpireOrders())
    if sweep:
        numbers = sorted({number for inst in state.instruments.values() for number in inst.holders})
        found += [c.Liquidate(n) for n in numbers if not is_liquidatable(state, state.accounts[n])]
    return found


class Ticker:
    """Runs until `stop`. `price_moved` wakes it at once; `report` hears of faults, which do not end it."""

    def __init__(
        self,
        pipeline: Pipeline,
        operator: Operator,
        clock_us: Callable[[], int],
        tick_seconds: float,
        report: Report,
    ) -> None:
        self._pipeline = pipeline
        self._operator = operator
        self._clock_us = clock_us
        self._tick_seconds = tick_seconds
        self._report = report
        self._wake = threading.Event()
        self._sweep = True
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
        """Submit what is due and wait for it; returns how many commands that were."""
        sweep, self._sweep = self._sweep, False
        with self._pipeline.lock:
            commands = due(self._pipeline.reducer.state, self._clock_us(), sweep)
        for command in commands:
            self._operator.run(command)
        return len(commands)

    def _run(self) -> None:
        while not self._stopped:
            try:
                self.turn()
            except Exception as error:  # noqa: BLE001 - a missed tick is made up for by the next one
                self._report("ticker", error)
            self._wake.wait(self._tick_seconds)
            self._wake.clear()
