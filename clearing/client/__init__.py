# SPDX-License-Identifier: GPL-3.0-or-later
"""The member's side: build, sign and submit commands, read receipts."""
