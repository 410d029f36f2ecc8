# SPDX-License-Identifier: GPL-3.0-or-later
"""What to pay for a transaction: the opening bid, a higher one, and where to stop.

A bid's cap is twice the base fee and the tip, enough for six full blocks in a row; what is not needed
is not paid. A node replaces a waiting transaction only when every price rises by a tenth (by all of it
again for blobs), so a bump is at least an eighth (or a doubling). Nothing above the ceiling is ever
signed, and an endpoint that asks for a tip beyond `max_tip_wei`, which unlike the cap is paid in full, is
not believed. `urgency` 0 to 1 moves the ceiling from `max_fee_wei` to `urgent_max_fee_wei` and the tip up
to `urgent_tip_factor` times the node's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from clearing.chain.errors import ChainError
from clearing.chain.rpc import Rpc

GWEI: Final = 10**9
PPM: Final = 10**6
BLOB_BUMP_PPM: Final = 1_000_000

Urgency = float | Callable[[], float]


@dataclass(frozen=True, slots=True)
class SendPolicy:
    """Times in seconds, prices in wei per gas (`_blob_`: per blob gas), shares in parts per million.

    `resend_after_s`: how often a node is asked whether it still knows a transaction; `lost_after_s`: how long
    its nonce must have been used up, without a receipt of ours, until it is given a fresh one.
    """

    replace_after_s: float = 45.0
    replace_after_blocks: int = 4
    resend_after_s: float = 12.0
    lost_after_s: float = 60.0
    bump_ppm: int = 125_000
    gas_margin_ppm: int = 150_000
    max_fee_wei: int = 300 * GWEI
    urgent_max_fee_wei: int = 3_000 * GWEI
    max_blob_fee_wei: int = 200 * GWEI
    urgent_max_blob_fee_wei: int = 2_000 * GWEI
    max_tip_wei: int = 20 * GWEI
    urgent_tip_factor: int = 10

    def __post_init__(self) -> None:
        if self.bump_ppm < 100_000:
            raise ChainError("INVALID_ARGUMENT", "nodes replace a transaction only for 10 % more: bump_ppm >= 100000")
        if self.urgent_max_fee_wei < self.max_fee_wei or self.urgent_max_blob_fee_wei < self.max_blob_fee_wei:
            raise ChainError("INVALID_ARGUMENT", "the urgent ceiling is below the normal one")


class Quote(NamedTuple):
    """What the chain asks now, wei per gas; `blob_wei` is zero when nobody asked."""

    base_wei: int
    tip_wei: int
    blob_wei: int


class Bid(NamedTuple):
    """A transaction's caps, wei per gas; `blob_wei` is zero without blobs."""

    max_fee_wei: int
    tip_wei: int
    blob_wei: int


def quote(rpc: Rpc, blobs: bool) -> Quote:
    """Ask the endpoint. Raises `ChainError` RPC_*."""
    fees = rpc.fees()
    base = (fees.max_fee_wei - fees.max_priority_wei) // 2
    return Quote(base, fees.max_priority_wei, rpc.blob_base_fee() if blobs else 0)


def opening(asked: Quote, policy: SendPolicy, urgency: float) -> Bid:
    """A first bid. Raises `ChainError` FEE_TOO_HIGH when the ceiling is below what the chain asks."""
    ceiling, blob_ceiling = _ceilings(policy, urgency)
    _require_below(asked.base_wei, ceiling, "gas", "max_fee_wei")
    _require_below(asked.blob_wei, blob_ceiling, "blob gas", "max_blob_fee_wei")
    tip = min(asked.tip_wei, policy.max_tip_wei) * (PPM + _ppm(urgency) * (policy.urgent_tip_factor - 1)) // PPM
    cap = min(2 * asked.base_wei + tip, ceiling)
    return Bid(cap, min(tip, cap), min(2 * asked.blob_wei, blob_ceiling))


def raised(old: Bid, asked: Quote, policy: SendPolicy, urgency: float) -> Bid:
    """A bid that replaces `old` at every node. Raises `ChainError` FEE_TOO_HIGH when it would pass the ceiling."""
    step = max(policy.bump_ppm, BLOB_BUMP_PPM) if old.blob_wei else policy.bump_ppm
    ceiling, blob_ceiling = _ceilings(policy, urgency)
    fresh = opening(asked, policy, urgency)
    least = [was + was * step // PPM + 1 for was in old]
    blob = max(fresh.blob_wei, least[2]) if old.blob_wei else 0
    bid = Bid(max(fresh.max_fee_wei, least[0]), max(fresh.tip_wei, least[1]), blob)
    bid = bid._replace(max_fee_wei=max(bid.max_fee_wei, bid.tip_wei))
    _require_below(bid.max_fee_wei, ceiling, "gas", "max_fee_wei")
    _require_below(bid.blob_wei, blob_ceiling, "blob gas", "max_blob_fee_wei")
    return bid


def current(urgency: Urgency) -> float:
    """The urgency now, within 0 to 1."""
    value = urgency() if callable(urgency) else urgency
    return min(1.0, max(0.0, value))


def deadline_urgency(start_s: float, deadline_s: float, now_s: float) -> float:
    """0 for the first half of the time, then rising evenly to 1 at the deadline."""
    half = (deadline_s - start_s) / 2
    if half <= 0:
        return 1.0
    return min(1.0, max(0.0, (now_s - start_s - half) / half))


def _ppm(urgency: float) -> int:
    return int(urgency * PPM)


def _ceilings(policy: SendPolicy, urgency: float) -> tuple[int, int]:
    share = _ppm(urgency)
    gas = policy.max_fee_wei + (policy.urgent_max_fee_wei - policy.max_fee_wei) * share // PPM
    blob_room = policy.urgent_max_blob_fee_wei - policy.max_blob_fee_wei
    return gas, policy.max_blob_fee_wei + blob_room * share // PPM


def _require_below(asked_wei: int, ceiling_wei: int, what: str, name: str) -> None:
    if asked_wei > ceiling_wei:
        asked, most = asked_wei / GWEI, ceiling_wei / GWEI
        text = f"{asked:.6g} gwei per {what} are needed and the ceiling is {most:.6g}; wait, or raise {name}"
        raise ChainError("FEE_TOO_HIGH", text)
