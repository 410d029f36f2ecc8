# SPDX-License-Identifier: GPL-3.0-or-later
"""Static analysis of the contracts; see `tools.slither.findings` for the rules."""
