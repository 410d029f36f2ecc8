# SPDX-License-Identifier: GPL-3.0-or-later
"""The vocabulary: units, commands, outcomes, parameters and their bytes. No behaviour, no state."""
