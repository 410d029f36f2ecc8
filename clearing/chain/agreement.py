# SPDX-License-Identifier: GPL-3.0-or-later
"""When answers of several endpoints say the same.

Rules: what is compared is what the client reads and what the chain fixes; how a node spells it (case,
order of logs, extra fields) is not. Two reverts are alike whatever they carry, since nodes differ in that.
"""

from collections.abc import Hashable, Sequence
from typing import Any, Final, NamedTuple

from clearing.chain.errors import ChainError

Json = Any

# The reads that must agree, and which parameter names the block.
BLOCK_TAG: Final = {
    "eth_call": 1,
    "eth_getCode": 1,
    "eth_getBalance": 1,
    "eth_getTransactionCount": 1,
    "eth_getStorageAt": 2,
    "eth_getBlockByNumber": 0,
    "eth_getLogs": 0,
}
_BLOCK: Final = ("number", "hash", "parentHash", "timestamp", "baseFeePerGas")
_RECEIPT: Final = ("transactionHash", "blockHash", "blockNumber", "status", "gasUsed", "contractAddress")
_LOG: Final = ("address", "topics", "data", "blockNumber", "blockHash", "logIndex", "transactionHash")


class Answer(NamedTuple):
    """What an endpoint said: a value, or a fault."""

    url: str
    value: Json
    fault: ChainError | None

    def text(self) -> str:
        """A short form for people."""
        shown = str(self.fault if self.fault is not None else self.value)
        return shown if len(shown) <= 120 else shown[:117] + "..."


def key_of(method: str, answer: Answer) -> Hashable:
    """What two answers must have in common."""
    if answer.fault is not None:
        return ("revert",)
    value = answer.value
    if value is None:
        return ("nothing",)
    if method == "eth_getLogs" and isinstance(value, list):
        return tuple(sorted(_picked(log, _LOG) for log in value))
    if method == "eth_getTransactionReceipt" and isinstance(value, dict):
        logs = value.get("logs")
        return _picked(value, _RECEIPT), tuple(sorted(_picked(log, _LOG) for log in logs or ()))
    if method == "eth_getBlockByNumber":
        return _picked(value, _BLOCK)
    if method in ("eth_getBalance", "eth_getTransactionCount"):
        return str(_number(value)).lower()
    return str(value).lower()


def differing(method: str, answers: Sequence[Answer]) -> tuple[Answer, Answer] | None:
    """The first two answers that differ, or None."""
    first = answers[0]
    known = key_of(method, first)
    return next(((first, other) for other in answers[1:] if key_of(method, other) != known), None)


def _picked(value: Json, names: Sequence[str]) -> tuple[str, ...]:
    if not isinstance(value, dict):
        return ("malformed", str(value))
    return tuple(str(_number(value.get(name))).lower() for name in names)


def _number(value: Json) -> Json:
    """Numbers by value, so that 0x01 is 0x1; long data and everything else as it is."""
    if isinstance(value, str) and value[:2] == "0x" and len(value) <= 18:
        try:
            return int(value, 16)
        except ValueError:
            return value
    return value
