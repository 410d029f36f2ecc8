# SPDX-License-Identifier: GPL-3.0-or-later
"""History: what happened, kept so that it can be asked for: tapes of markets and accounts."""

from clearing.api.history.cursor import Cursor, Page
from clearing.api.history.main import History
from clearing.api.history.tapes import Slice

__all__ = ["Cursor", "History", "Page", "Slice"]
