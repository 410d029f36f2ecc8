# SPDX-License-Identifier: GPL-3.0-or-later
"""One journal in pieces: hashes that join, ranges side by side, audits that begin in the middle."""
