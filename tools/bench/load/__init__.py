# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole service under load: signed orders from separate processes over WebSocket, until their durable receipts."""
