# SPDX-License-Identifier: GPL-3.0-or-later
"""Developer scripts: bootstrap, contracts build, vectors, golden journal, bench."""
