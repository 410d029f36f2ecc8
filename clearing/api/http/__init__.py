# SPDX-License-Identifier: GPL-3.0-or-later
"""The public HTTP routes, by subject."""
