# SPDX-License-Identifier: GPL-3.0-or-later
"""The golden journal: bytes that these rules gave once, and must give on every machine for ever.

Regenerate with `python -m tools.golden` only while the rules are unreleased.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from clearing.core.reducer import Reducer
from clearing.core.snapshot import dump
from clearing.model import commands as c
from clearing.model import outcomes as o
from clearing.model.codec import decode_any_envelope, decode_entry, encode_entry
from clearing.model.errors import REJECTIONS
from clearing.model.signature import verify
from proofs import log
from tools import golden

ROOT = Path(__file__).parent.parent.parent

# What a journal of this size cannot show, and where it is shown instead.
# The risk engine's are in tests/core (one file per subject) and in the scenarios.
COMMANDS_ELSEWHERE = {
    "BidAuction", "ChargeInterest", "Deleverage", "DelistInstrument", "HaltMarket", "ListInstrument", "PlaceTrigger",
    "PledgeDefaultFund", "ProposeLiquidation", "ProposeParams", "ResolveDeficit", "RunTriggers",
    "ScheduleCancelAll", "SetMarginMode", "SettleExpiry",
}  # fmt: skip
OUTCOMES_ELSEWHERE = {
    "AssetTransferred", "AuctionEnded", "AuctionFilled", "AuctionStarted", "BreakerChanged", "CancelAllScheduled",
    "CollateralSeized", "DefaultFundPledged", "Deleveraged", "ExpiryPriced", "GainHaircut", "GovernanceApproved",
    "InstrumentDelisted", "InstrumentListed", "InterestCharged", "MarginAdapted", "MarginModeSet", "ParamsChanged",
    "ParamsProposed", "PledgeDrawn",
    "PositionSettled", "RiskArrayBuilt", "SurfaceAccepted", "TrancheDrawn", "TriggerFired", "TriggerPlaced",
}  # fmt: skip
CODES_ELSEWHERE = {
    "AUCTION_PRICE", "BORROW_CAP", "FALSE_WITNESS", "INSTRUMENT_EXISTS", "INSTRUMENT_EXPIRED", "INSTRUMENT_IN_USE",
    "INTEREST_NOT_DUE", "INVALID_INSTRUMENT", "INVALID_SURFACE", "IN_LIQUIDATION", "LIQUIDATION_COOLING",
    "MARKET_HALTED", "NOTHING_TO_RESOLVE", "NOT_EXPIRED", "NO_AUCTION", "NO_TRIGGERS", "ORACLE_CONFIDENCE",
    "ORACLE_DIVERGED", "ORACLE_OFF_TREND", "OUTSIDE_PRICE_BAND", "PARAMS_NOTICE", "PARAMS_OUT_OF_BOUNDS",
    "PARAMS_VERSION", "PLEDGE_LOCKED", "SHARE_TOO_SMALL", "TOO_MANY_ORDERS", "TOO_MANY_POSITIONS",
    "TRANCHE_NOT_EMPTY", "TRIGGERS_PENDING", "TRIGGER_ALREADY_REACHED", "NOT_APPROVED",
}  # fmt: skip


@pytest.fixture(scope="module")
def entries() -> list[bytes]:
    return golden.unpack(golden.JOURNAL.read_bytes())


@pytest.fixture(scope="module")
def roots() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(golden.ROOTS.read_text())
    return found


def replayed(entries: list[bytes]) -> Reducer:
    """Fold the stored envelopes, comparing every entry's bytes and every signature."""
    reducer = None
    for seq, data in enumerate(entries):
        entry = decode_entry(data)
        envelope, body = decode_any_envelope(entry.envelope)
        verify(envelope, body)
        if reducer is None:
            assert isinstance(body, c.Genesis)
            reducer = Reducer(body)
        out = reducer.apply(entry.time_us, envelope, body)
        assert encode_entry(seq, entry.time_us, entry.envelope, out) == data, f"entry {seq} diverged"
    assert reducer is not None
    return reducer


def test_replay_gives_every_byte_and_every_root(entries: list[bytes], roots: dict[str, Any]) -> None:
    """Outcome bytes of each entry, the journal root at each epoch, and the final state."""
    state = replayed(entries).state
    leaves = [log.leaf_hash(entry) for entry in entries]
    assert len(entries) == roots["entries"]
    assert log.root(leaves).hex() == roots["journal_root"]
    assert hashlib.sha256(dump(state)).hexdigest() == roots["state_sha256"]
    for epoch in roots["epochs"]:
        closed = decode_entry(entries[epoch["seq"]]).outcomes[-1]
        assert isinstance(closed, o.EpochClosed)
        assert log.root(leaves[: epoch["seq"] + 1]).hex() == epoch["journal_root"]
        for name in ("state_root", "marks_hash", "params_hash", "globals_hash"):
            assert getattr(closed, name).hex() == epoch[name]
        assert [golden.shown(part) for part in closed.vaults] == epoch["vaults"]
        assert closed.shortfall_atoms == epoch["shortfall_atoms"]
    assert state.state_tree.root.hex() == roots["epochs"][-1]["state_root"]
    last = roots["epochs"][-1]["vaults"]
    assert [vault.exit_tree.root.hex() for vault in state.vaults] == [part["exit_root"] for part in last]


def test_the_journal_is_made_again_to_the_byte(entries: list[bytes], roots: dict[str, Any]) -> None:
    """The script gives what is stored, so that the file can be reviewed as its script."""
    venue = golden.build()
    made = golden.entries_of(venue)
    assert made == entries
    assert golden.roots_of(venue, made) == roots


def test_it_shows_every_command_outcome_and_reason(entries: list[bytes], roots: dict[str, Any]) -> None:
    seen = golden.coverage(entries)
    assert seen == roots["coverage"]
    commands = [*get_args(c.MemberCommand), *get_args(c.OperatorCommand), c.RegisterKey, c.RevokeKey]
    assert {t.__name__ for t in [*commands, c.Genesis, c.OracleUpdate]} == (set(seen["commands"]) | COMMANDS_ELSEWHERE)
    assert {t.__name__ for t in get_args(o.Outcome)} == set(seen["outcomes"]) | OUTCOMES_ELSEWHERE
    assert set(REJECTIONS) - set(seen["codes"]) == CODES_ELSEWHERE
    reasons = {"USER", "IOC", "STP", "EXPIRED", "REDUCE_ONLY", "LIQUIDATION", "FILL_LIMIT", "FORCED"}
    assert set(seen["reasons"]) == reasons
    assert len(entries) > 300 and len(roots["epochs"]) >= 6
    assert any(epoch["shortfall_atoms"] for epoch in roots["epochs"])


def test_a_changed_byte_diverges_at_its_entry(entries: list[bytes]) -> None:
    """The replay above can fail: a fill of one atom more is found where it stands."""
    decoded = [decode_entry(data) for data in entries]
    seq = next(n for n, e in enumerate(decoded) if any(isinstance(x, o.TradeNovated) for x in e.outcomes))
    entry = decoded[seq]
    forged = [
        msgspec.structs.replace(x, taker_fee_atoms=x.taker_fee_atoms + 1) if isinstance(x, o.TradeNovated) else x
        for x in entry.outcomes
    ]
    tampered = [*entries[:seq], encode_entry(seq, entry.time_us, entry.envelope, forged), *entries[seq + 1 :]]
    with pytest.raises(AssertionError, match=f"entry {seq} diverged"):
        replayed(tampered)


@pytest.mark.slow
def test_the_hash_seed_changes_nothing(roots: dict[str, Any]) -> None:
    """Replayed in processes whose str and bytes hash differently: the same state to the byte."""
    program = (
        "import hashlib\n"
        "from tests.golden.test_golden import golden, replayed, dump\n"
        "state = replayed(golden.unpack(golden.JOURNAL.read_bytes())).state\n"
        "print(hashlib.sha256(dump(state)).hexdigest())\n"
    )
    for seed in ("0", "1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == roots["state_sha256"]
