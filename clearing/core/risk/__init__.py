# SPDX-License-Identifier: GPL-3.0-or-later
"""Risk numbers: the option kernel, risk arrays and the margin rules made of them.

Rules:
- Floats live in `kernel` and nowhere else; whatever leaves it is an integer (lint: tests/unit/rules.py).
- numpy is for int64 arrays, with bounds asserted by whoever fills them; money is summed in Python ints.
"""
