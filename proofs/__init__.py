# SPDX-License-Identifier: Apache-2.0
"""What a wallet needs to check Novate's proofs: standard library, msgspec and pynacl only."""
