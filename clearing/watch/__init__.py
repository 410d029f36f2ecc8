# SPDX-License-Identifier: GPL-3.0-or-later
"""Attestors and watchers: replay everything live, sign what is true, object to what is not."""
