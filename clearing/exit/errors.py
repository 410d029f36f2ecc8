# SPDX-License-Identifier: GPL-3.0-or-later
"""Why an exit cannot be rebuilt or planned, by stable code.

| code | meaning |
|---|---|
| WRONG_DOMAIN | the contract's exit domain is not the one of this chain and address |
| HEADER_MISSING | an epoch's header is not among the logs; the endpoint hides or lost it |
| DIFF_MISSING | a chunk that a header commits to is not among the logs |
| DIFF_INVALID | a chunk has the right hash and does not decode: the operator posted nonsense |
| ROOT_MISMATCH | the published leaves do not give the header's root or sums |
| EPOCH_UNKNOWN | no header was posted under this epoch number |
"""

from clearing.model.errors import NovateError


class ExitError(NovateError):
    """The exit data on the chain is incomplete or wrong."""
