# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures for people: what an account, the venue and its waterfall look like, now and under stress.

Rules:
- A report is a pure function of a replayed journal. It names the entry, the parameters, the risk arrays and
  the last epoch's root that it rests on, so that anyone with the journal gets the same figures.
- Money stays in integer atoms; floats draw charts and interpolate scenario paths, nothing else.
- What-if figures are computed on copies. The state that a report reads is never changed.
"""
