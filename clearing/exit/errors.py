# SPDX-License-Identifier: GPL-3.0-or-later
"""Why an exit cannot be rebuilt, planned or carried out, by stable code.

| code | meaning |
|---|---|
| WRONG_DOMAIN | the contract's exit domain is not the one of this chain and address |
| VAULT_TWICE | the same vault is named twice in one command |
| HEADER_MISSING | an epoch's header is not among the logs; the endpoint hides or lost it |
| DIFF_MISSING | a chunk that a header commits to is not among the logs |
| BLOB_MISSING | a chunk that a header commits to went into a blob, and no archive gave it |
| BLOBS_UNREACHABLE | the archive of blobs does not answer, or not with blobs |
| DIFF_INVALID | a chunk has the right hash and does not decode: the operator posted nonsense |
| ROOT_MISMATCH | the published leaves do not give the header's root or sums |
| EPOCH_UNKNOWN | no header was posted under this epoch number |
| NO_FEE_MONEY | the wallet has no ether for the fees |
| EXPORT_EXISTS | the folder to export into holds something already |
| EXPORT_DAMAGED | a file of proofs is not as it was written |
| EXPORT_MALFORMED | a file is no file of proofs, or of a version that is not known |
| EXPORT_OTHER_VAULT | a file of proofs belongs to another chain or vault |
| EXPORT_STALE | a file of proofs is of another epoch than the one that pays |
| EXPORT_FALSE | a file's header is not the chain's, or a proof in it does not hold |
| NOT_IN_EXPORT | a file of proofs holds nothing of this owner |
| VAULT_FROZEN | the vault is frozen: what was asked for is no longer possible |
| HOUSE_REQUEST | the house cannot force anything |
| UNKNOWN_ASSET | the vault has no asset of this number |
| UNKNOWN_REQUEST | the inbox holds no request of this number |
| VOUCHER_MALFORMED | a file is no voucher, or of a version that is not known |
| VOUCHER_OTHER | a voucher is of another vault, owner or asset than the one at hand |
| VOUCHER_SIGNATURE | a voucher is not signed by its owner, or not by the operator |
| VOUCHER_LOWER | a voucher's figure is not above what is known already: the highest wins |
| VOUCHER_EXPIRED | a voucher's time is over |
| FLOAT_TOO_LOW | the operator's float holds less than the voucher asks for |
| OUTFLOW_CAPPED | the voucher asks for more than vouchers may pay per hour |
"""

from clearing.model.errors import NovateError


class ExitError(NovateError):
    """The exit data, or what was asked for, does not fit the chain."""
