# SPDX-License-Identifier: GPL-3.0-or-later
"""The reducer: pure functions from commands to outcomes, over one State.

No clock, randomness, network, disk or float in here; no iteration over sets, no hash(): the same
journal must give the same bytes on every machine. tests/unit/test_rules.py enforces it.
"""
