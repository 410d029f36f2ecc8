# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation that cannot rot: `run` executes what the pages tell to type, `reference` writes pages from the code."""
