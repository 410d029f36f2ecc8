# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong between us and a chain, by stable code.

| code | meaning |
|---|---|
| RPC_UNREACHABLE | no answer after all retries: nothing is known about the chain |
| RPC_ERROR | the endpoint answered with an error or with something that is not JSON-RPC |
| RPC_BAD_DATA | the endpoint's answer does not decode under the ABI |
| TX_REVERTED | the contract refused; `reason` names its error |
| TX_REFUSED | the node refused the transaction before executing it (funds, nonce, fee) |
| TX_TIMEOUT | no receipt in time; the transaction may still be mined |
| FEE_TOO_HIGH | the chain asks for more per gas than the policy's ceiling |
| RPC_DISAGREE | two endpoints answered differently about the same block |
| REORGED | a block that was taken as final is no longer part of the chain |
| OUTBOX_FOLDER | the folder that keeps what is sent cannot be written, or a file in it is damaged |
| BAD_BLOB | bytes that are no blob of ours, or not the blob of that hash |
| WRONG_CHAIN | the endpoint serves another chain id than the one asked for |
| NO_CODE | there is no contract at the address |
| CODE_MISMATCH | the contract's code or constants are not the ones of the artifact |
| KEY_FILE | a key file is missing, readable by others, or malformed |
| INVALID_ADDRESS | not a 20-byte hexadecimal address |
| INVALID_ARGUMENT | a value does not fit the contract's type |
| EVM_START_FAILED | the embedded EVM process did not come up |
"""

from clearing.model.errors import NovateError


class ChainError(NovateError):
    """A fault of the chain, the endpoint or the key. `reason` and `data` are set on reverts."""

    def __init__(self, code: str, message: str, reason: str = "", data: bytes = b"") -> None:
        super().__init__(code, message)
        self.reason = reason
        self.data = data
