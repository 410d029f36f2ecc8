# SPDX-License-Identifier: GPL-3.0-or-later
"""How a balance came to be, to the atom: `explain`."""

from clearing.audit.explain.explanation import Balance, Event, Explanation, Position
from clearing.audit.explain.story import explain
from clearing.audit.explain.wording import KINDS, Line

__all__ = ["KINDS", "Balance", "Event", "Explanation", "Line", "Position", "explain"]
