# SPDX-License-Identifier: GPL-3.0-or-later
"""The chain port: JSON-RPC client, wallets, the vault's client, and an embedded EVM.

Rules: reading a chain needs httpx and a Keccak and nothing heavier, since the exit tool and the
verifier take this path; whatever signs or executes is imported on first use. Nothing here trusts
the RPC endpoint with a secret, and keys never leave `wallet`.
"""
