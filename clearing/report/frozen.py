# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies of a state that may be moved, shocked and driven without touching the original."""

from clearing.core.snapshot import dump, restore
from clearing.core.state import State


class Frozen:
    """A state at one moment; every `thaw` is a fresh, independent copy.

    Copies carry everything that decides what happens next. They have no committed trees, so that no epoch can
    be closed on them.
    """

    def __init__(self, state: State) -> None:
        self._payload = dump(state)
        self._dirty = tuple(state.dirty)
        self._defaulters = tuple(state.defaulters)

    def thaw(self) -> State:
        state = restore(self._payload)
        # Of a snapshot at an epoch's close these follow; in the middle of one they do not.
        state.dirty = {number: state.accounts[number] for number in self._dirty}
        state.defaulters = {number: state.accounts[number] for number in self._defaulters}
        return state
