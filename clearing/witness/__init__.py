# SPDX-License-Identifier: GPL-3.0-or-later
"""A witness (C2SP tlog-witness): cosigns checkpoints of logs it follows, never two that do not extend one another."""
