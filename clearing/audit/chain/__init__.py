# SPDX-License-Identifier: GPL-3.0-or-later
"""The vaults' chains: what they hold, and whether it is what the journal says."""

from clearing.audit.chain.compare import compare_with_chain
from clearing.audit.chain.identity import identity, number_of
from clearing.audit.findings import Finding

__all__ = ["Finding", "compare_with_chain", "identity", "number_of"]
