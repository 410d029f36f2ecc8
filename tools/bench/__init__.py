# SPDX-License-Identifier: GPL-3.0-or-later
"""Benchmarks. Every figure is a ratio of two sides measured in the same rounds, side by side,
and the median over the rounds is what counts: machines are noisy, ratios less so."""
