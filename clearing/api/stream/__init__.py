# SPDX-License-Identifier: GPL-3.0-or-later
"""The stream: markets and accounts as they change, and commands, over one WebSocket."""

from clearing.api.stream.protocol import SETTINGS
from clearing.api.stream.session import stream_route

__all__ = ["SETTINGS", "stream_route"]
