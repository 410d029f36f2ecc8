# SPDX-License-Identifier: GPL-3.0-or-later
"""The operator's process: sequencer, oracle intake, epoch poster, HTTP way in."""
