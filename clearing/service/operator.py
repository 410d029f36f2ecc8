# SPDX-License-Identifier: GPL-3.0-or-later
"""The operator as a signer of commands: clock, chain and house go through the same sequencer as
members do, and are journalled the same way.

Rules: one nonce source per process, above every nonce the journal has seen; the key is the one that
the journal names now, so that a rotation needs no restart.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from clearing.model import commands as c
from clearing.model.outcomes import Rejected
from clearing.model.signature import sign
from clearing.service.layout import KeyRing
from clearing.service.pipeline import Pipeline, Receipt

Submit = Callable[[bytes], Future[Receipt]]


class Operator:
    """Signs and submits operator batches. Thread-safe."""

    def __init__(self, pipeline: Pipeline, submit: Submit, ring: KeyRing, timeout_s: float = 60.0) -> None:
        self._pipeline = pipeline
        self._submit = submit
        self._ring = ring
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._nonce = 0

    def submit(self, commands: Sequence[c.OperatorCommand]) -> Future[Receipt]:
        """Queue a batch of 1 to 50 commands (those that stand alone: one)."""
        state = self._pipeline.reducer.state
        with self._lock:
            self._nonce = max(self._nonce, state.operator_nonces.high) + 1
            body = c.OperatorBatch(state.deployment, self._nonce, tuple(commands))
            return self._submit(sign(body, self._ring.ed25519(state.operator_key).seed))

    def run(self, *commands: c.OperatorCommand) -> Receipt:
        """As `submit`, and wait for the commit. Raises the `NovateError` that refused it, TimeoutError."""
        return self.submit(commands).result(self._timeout_s)


def rejections(receipt: Receipt) -> list[str]:
    """Codes of the commands that the reducer refused, in order."""
    return [outcome.code for outcome in receipt.outcomes if isinstance(outcome, Rejected)]
