# SPDX-License-Identifier: GPL-3.0-or-later
"""Replay a journal, find the first divergence, report: what an auditor runs."""
