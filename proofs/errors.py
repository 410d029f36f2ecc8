# SPDX-License-Identifier: Apache-2.0
"""Named errors of the verifiers. Each has a stable `code` and a message that says what to do."""


class ProofError(Exception):
    """Base: a proof, or the bytes it came in, does not hold."""

    code = "PROOF_INVALID"

    def __init__(self, message: str) -> None:
        super().__init__(f"{self.code}: {message}")
        self.message = message


class EncodingError(ProofError):
    """A value does not fit its fixed width, or bytes are not the one encoding of a value."""

    code = "ENCODING_INVALID"


class InclusionError(ProofError):
    """The entry is not shown to be in the log."""

    code = "INCLUSION_INVALID"


class ConsistencyError(ProofError):
    """The log is not shown to have only grown."""

    code = "CONSISTENCY_INVALID"


class SumTreeError(ProofError):
    """The exit leaf, its path or its sums do not lead to the posted root."""

    code = "EXIT_PROOF_INVALID"


class StateTreeError(ProofError):
    """The state leaf or its path does not lead to the posted root."""

    code = "STATE_PROOF_INVALID"


class CheckpointError(ProofError):
    """The checkpoint is malformed or not signed by the expected key."""

    code = "CHECKPOINT_INVALID"


class DiffError(ProofError):
    """A diff chunk is malformed."""

    code = "DIFF_INVALID"


class BundleError(ProofError):
    """The bundle file cannot be read."""

    code = "BUNDLE_MALFORMED"


class TileError(ProofError):
    """A tile or entry bundle of a published log is malformed, or its hashes do not lead to the root."""

    code = "TILE_INVALID"


class CosignatureError(ProofError):
    """A signature line of a known witness does not verify."""

    code = "COSIGNATURE_INVALID"


class PolicyError(ProofError):
    """A witness policy is not one that C2SP tlog-policy allows."""

    code = "POLICY_INVALID"


class PolicyUnsatisfied(PolicyError):
    """A checkpoint lacks the log's signature or the cosignatures that a policy asks for."""

    code = "POLICY_UNSATISFIED"
