# SPDX-License-Identifier: GPL-3.0-or-later
"""The link: how other processes of this machine reach the one writer, over a socket in the data directory."""
