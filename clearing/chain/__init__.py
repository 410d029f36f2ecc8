# SPDX-License-Identifier: GPL-3.0-or-later
"""The chain port: JSON-RPC client, wallets, the vault's client, and an embedded EVM.

Rules: reading a chain needs httpx and a Keccak and nothing heavier, since the exit tool and the
verifier take this path; whatever signs or executes is imported on first use. Nothing here trusts
the RPC endpoint with a secret, and keys never leave `wallet`.

| module | what |
|---|---|
| transport, rpc, pool, agreement | JSON-RPC to one endpoint, typed; several endpoints that check one another |
| finality | what is final, and whether something remembered is still part of the chain |
| abi, structs, reads, scans, vault | the vault's contract: encoding, shapes, views, logs, transactions |
| wallet, blobs | keys and what they sign; blobs and their commitments |
| fees, outbox, outbox_files, transact | what is paid, what is on its way, what survives a restart, sending |
| deploy, governance | deploying a vault and checking a deployed one; the governor's contracts |
| evm, embedded | a development chain in memory, and its JSON-RPC server |
"""
