# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything a user alone needs to leave: an RPC URL, the vault's address, and a key that pays fees.

Rules: nothing here reads the operator's servers or files. What the chain published is rebuilt, and
checked against the header that the contract holds, before anything is sent. Payments always go to
the leaf's owner, so any key may pay the fees for anyone.
"""
