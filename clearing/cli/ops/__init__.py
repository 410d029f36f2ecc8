# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands of whoever operates a venue: set up, look, check, back up."""
