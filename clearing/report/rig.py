# SPDX-License-Identifier: GPL-3.0-or-later
"""A copy of the venue under stress: the real reducer, driven by commands that nobody signed.

Rules:
- The reducer never sees signatures (they are checked before it), so a copied state takes updates of its own
  publishers and commands of its own operator; nothing of the core is bypassed, and what it refuses is counted.
- Money is checked to the atom after every entry (`core.invariants.check`).
- Members do nothing: their orders and triggers are cancelled before the start, since makers do not stay in a
  falling market, nobody deposits, and nobody bids in an auction. What the ladder then cannot sell goes to the
  backstop and the waterfall. That is the worst case, and makes runs independent of what rests in books.
- Every publisher votes its own last prices and surfaces, scaled by the path. The clock is the scenario's.
"""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from clearing.core import adl, backstop, borrowing, expiry, funding, liquidation, triggers, waterfall
from clearing.core.invariants import check
from clearing.core.reducer import Reducer
from clearing.core.state import State
from clearing.core.sweep import sweep
from clearing.model import commands as c
from clearing.model.codec import encode
from clearing.model.ids import HOUSE_ACCOUNTS, PPM
from clearing.model.outcomes import Outcome, Rejected

# What the operator submits by itself, in its order; liquidations come after.
_SOURCES: Final[tuple[Callable[[State, int], c.OperatorCommand | None], ...]] = (
    triggers.due,
    adl.due,
    waterfall.due,
    expiry.due,
    funding.due,
    borrowing.due,
)
_MAX_ROUNDS: Final = 2_000
_SURFACES_PER_UPDATE: Final = 100
_PRICES_PER_UPDATE: Final = 250
# A price that only others know is voted with this confidence, in ppm of it.
_ASSUMED_CONFIDENCE_PPM: Final = 1_000


class Rig:
    """`state` is driven from where it is and must be a copy. `on_outcomes` hears of every entry.

    `silent`: publishers that do not vote. `checks`: how often money was found whole; `refused`: votes that the
    reducer did not accept, by code.
    """

    def __init__(self, state: State, on_outcomes: Callable[[list[Outcome]], None]) -> None:
        self.state = state
        self.reducer = Reducer(state=state)
        self.now_us = state.time_us
        self.checks = 0
        self.refused: dict[str, int] = {}
        self.silent: set[int] = set()
        self._on_outcomes = on_outcomes
        self._nonce = state.operator_nonces.high
        self._prices = [self._known_prices(at) for at in range(len(state.publishers))]
        self._surfaces = [[vote for vote, _ in p.surfaces.values()] for p in state.publishers]

    def _known_prices(self, publisher: int) -> dict[int, tuple[int, int]]:
        """(price, confidence) by underlying: the publisher's last, or the index where it has none."""
        votes = self.state.publishers[publisher].prices
        found = {}
        for under in self.state.underlyings.values():
            if under.index:
                vote = votes.get(under.id)
                own = (under.index, -(-under.index * _ASSUMED_CONFIDENCE_PPM // PPM)) if vote is None else vote[:2]
                found[under.id] = (own[0], own[1])
        return found

    def withdraw_makers(self) -> None:
        """Cancel every member's orders and triggers."""
        for account in self.state.accounts[HOUSE_ACCOUNTS:]:
            if account.orders or account.triggers:
                self.state.out = []
                backstop.cancel_everything(self.state, account)
                self.state.dirty[account.number] = account
        self.state.touched.clear()
        check(self.state)

    # --- entries ---

    def _apply(self, body: c.Body, key: bytes) -> list[Outcome]:
        out = self.reducer.apply(self.now_us, c.Envelope(encode(body), key, b""), body)
        check(self.state)
        self.checks += 1
        self._on_outcomes(out)
        return out

    def operator(self, command: c.OperatorCommand) -> bool:
        """Was the command accepted?"""
        self._nonce += 1
        batch = c.OperatorBatch(self.state.deployment, self._nonce, (command,))
        return not any(isinstance(outcome, Rejected) for outcome in self._apply(batch, self.state.operator_key))

    def vote(self, spot: Mapping[int, int], vol: int = PPM, forward: int = PPM, rate: int = 0) -> None:
        """All publishers that are not silent: prices x ratios by underlying (ppm), surfaces likewise."""
        rules = self.state.params.oracle
        for at in range(len(self.state.publishers)):
            if at in self.silent:
                continue
            prices = [
                c.Price(under, _scaled(price, spot.get(under, PPM)), _scaled(confidence, spot.get(under, PPM)))
                for under, (price, confidence) in self._prices[at].items()
            ]
            surfaces = []
            for vote in self._surfaces[at]:
                if vote.expiry_us > self.now_us:
                    ratio = spot.get(vote.underlying, PPM) * forward // PPM
                    vols = tuple(min(max(v * vol // PPM, rules.min_vol), rules.max_vol) for v in vote.vols)
                    surfaces.append(
                        msgspec.structs.replace(
                            vote,
                            forward_atoms=_scaled(vote.forward_atoms, ratio),
                            forward_confidence_atoms=_scaled(vote.forward_confidence_atoms, ratio),
                            rate=vote.rate + rate,
                            vols=vols,
                        )
                    )
            self._publish(at, prices, surfaces)

    def _publish(self, at: int, prices: list[c.Price], surfaces: list[c.Surface]) -> None:
        """As many updates as it takes."""
        rounds = max(-(-len(prices) // _PRICES_PER_UPDATE), -(-len(surfaces) // _SURFACES_PER_UPDATE))
        for part in range(rounds):
            publisher = self.state.publishers[at]
            # An update is newer than the publisher's last, and two of one moment are a microsecond apart.
            self.now_us = max(self.now_us, publisher.time_us + 1)
            body = c.OracleUpdate(
                self.state.deployment,
                at,
                publisher.head,
                self.now_us,
                tuple(prices[part * _PRICES_PER_UPDATE : (part + 1) * _PRICES_PER_UPDATE]),
                tuple(surfaces[part * _SURFACES_PER_UPDATE : (part + 1) * _SURFACES_PER_UPDATE]),
            )
            out = self._apply(body, publisher.key)
            for outcome in out:
                if isinstance(outcome, Rejected):
                    self.refused[outcome.code] = self.refused.get(outcome.code, 0) + 1

    def settle(self) -> list[int]:
        """Submit all that is due at this moment until nothing more happens; who still fails then, at fresh prices."""
        failing: list[tuple[int, int]] = []
        for _ in range(_MAX_ROUNDS):
            state = self.state
            state.time_us = max(state.time_us, self.now_us)
            moved = False
            for source in _SOURCES:
                command = source(state, self.now_us)
                moved |= command is not None and self.operator(command)
            failing = sweep(state)
            for number, scenario in failing:
                account = state.accounts[number]
                if liquidation.is_ready(state, account, self.now_us):
                    moved |= self.operator(c.Liquidate(number, scenario))
            if not moved:
                break
        return [number for number, _ in failing]


def _scaled(price: int, ratio: int) -> int:
    return max(1, (price * ratio + PPM // 2) // PPM)
