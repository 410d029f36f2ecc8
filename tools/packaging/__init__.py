# SPDX-License-Identifier: GPL-3.0-or-later
"""What the builds of the package run: the hook of the wheel, and the manual pages."""
