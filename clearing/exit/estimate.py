# SPDX-License-Identifier: GPL-3.0-or-later
"""What the steps of an exit cost, without sending anything: gas, and ether at the chain's present prices.

Rules: the gas limit is what the node says a transaction needs now; a step that only becomes possible after
an earlier one (an escape before the freeze) has none yet. A payment needs a higher limit than what it uses,
since the contract keeps a reserve so that no token can spoil another's payment; so what a step will use is
stated apart, as measured in our tests. Fees are in wei: `likely` for what is used, at the next block's base
fee and tip; `most` for the limits, at the highest price that the sender signs at first.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from clearing.chain.errors import ChainError
from clearing.chain.fees import GWEI
from clearing.chain.vault import VaultClient
from clearing.exit.plan import Kind, Step

_USED: Final = {
    Kind.FREEZE: 80_000,
    Kind.ESCAPE: 150_000,
    Kind.REFUND: 110_000,
    Kind.CLAIM: 120_000,
    Kind.WITHDRAW_CREDIT: 65_000,
}
_PER_FURTHER_ASSET: Final = 45_000
_RESERVE: Final = 260_000
_MOST_DIGITS: Final = 18


class Estimate(NamedTuple):
    """A step, the gas limit it needs (None when it is not possible now, for `reason`), and what it will use."""

    step: Step
    gas: int | None
    used: int
    reason: str


class Price(NamedTuple):
    """Wei per gas: what the next block takes, and the cap that is signed. `known` False: assumed."""

    likely_wei: int
    most_wei: int
    known: bool


class Cost(NamedTuple):
    """What all steps use, and its price in wei."""

    used: int
    likely_wei: int
    most_wei: int


def dry_run(vault: VaultClient, steps: Sequence[Step]) -> list[Estimate]:
    """Gas of the steps on the present state. Raises `ChainError` RPC_*."""
    estimates = []
    freezes = any(step.kind is Kind.FREEZE for step in steps)
    for step in steps:
        assets = sum(1 for lane in zip(step.amounts, step.repaid or step.amounts, strict=True) if any(lane))
        used = _USED[step.kind] + _PER_FURTHER_ASSET * max(0, assets - 1)
        if freezes and step.kind in (Kind.ESCAPE, Kind.REFUND):
            estimates.append(Estimate(step, None, used, "possible after the freeze"))
            continue
        try:
            gas = vault.estimate(step.function, *step.arguments)
            estimates.append(Estimate(step, gas, min(used, gas), ""))
        except ChainError as error:
            if error.code != "TX_REVERTED":
                raise
            estimates.append(Estimate(step, None, 0, error.message))
    return estimates


def price(vault: VaultClient, fallback_gwei: float | None = None) -> Price:
    """What gas costs now. `fallback_gwei` is taken when the endpoint does not say.

    Raises `ChainError` RPC_* without a fallback.
    """
    try:
        fees = vault.rpc.fees()
    except ChainError:
        if fallback_gwei is None:
            raise
        wei = int(fallback_gwei * GWEI)
        return Price(wei, wei, False)
    base = (fees.max_fee_wei - fees.max_priority_wei) // 2
    return Price(base + fees.max_priority_wei, fees.max_fee_wei, True)


def cost(estimates: Sequence[Estimate], at: Price) -> Cost:
    """Gas and ether of all steps that are or will be possible."""
    used = sum(estimate.used for estimate in estimates)
    limits = sum(estimate.gas or (estimate.used + _RESERVE if estimate.used else 0) for estimate in estimates)
    return Cost(used, used * at.likely_wei, limits * at.most_wei)


def ether(wei: int) -> str:
    """Ether with the digits that matter: `0.001234 ETH`."""
    whole, fraction = divmod(wei, 10**_MOST_DIGITS)
    digits = str(fraction).rjust(_MOST_DIGITS, "0")
    leading = len(digits) - len(digits.lstrip("0"))
    keep = 6 if whole else min(_MOST_DIGITS, max(6, leading + 3))
    return f"{whole:,}.{digits[:keep]} ETH"
