# SPDX-License-Identifier: GPL-3.0-or-later
"""The clearinghouse: model, reducer, chain, service, exit, audit and command line."""
