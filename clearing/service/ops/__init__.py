# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator needs besides the venue itself: figures, alerts, metrics, logs, backups, checks."""
