# SPDX-License-Identifier: GPL-3.0-or-later
"""Counting, figures, alerts and the log: what an operator is told is what is the case."""

import io
import json
import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from clearing.core.margin import assess
from clearing.model import ids
from clearing.model.outcomes import Deleveraged, EpochClosed, Liquidated, Outcome, TrancheDrawn
from clearing.service.config import AlertConfig
from clearing.service.ops import logs
from clearing.service.ops.alerts import CRITICAL, NAMES, WARNING, AlertLog, judge
from clearing.service.ops.figures import Figures, PublisherFigures, RiskScan, VaultFigures
from clearing.service.ops.meter import BUCKETS, Histogram, Meter
from tests.service.world import BTC, World, order

VAULT = VaultFigures(
    vault=0, connected=True, posted_epoch=5, epoch_lag=0, frozen=False, seconds_to_freeze=600_000,
    deadline_seconds=604_800, urgency=0.0, missing_attestations=0, pending=0, chain_age_seconds=1.0,
    balance_wei=10**18, epoch_cost_wei=10**15, epochs_left=1_000,
)  # fmt: skip
WELL = Figures(
    time_us=1, uptime_seconds=1.0, entries=10, commits=5, fills=0, waiting=0, answer_p50_seconds=0.001,
    answer_p99_seconds=0.002, map_used_bytes=1, map_size_bytes=100, disk_free_bytes=50, disk_size_bytes=100,
    free_ppm=500_000, reserve_ready=True, refusing="", halted="", faults={}, epoch=5, epoch_age_seconds=10.0,
    epoch_seconds=600, posted_epoch=5, vaults=[VAULT], publishers=[PublisherFigures(0, 1.0)], oracle_quorum=1,
    oracle_max_age_seconds=60.0, instruments=[], accounts=5, open_orders=0, insurance_fund_atoms=0,
    operator_capital_atoms=0, haircut_ppm=0, stage=0, stage_name="calm", auctions=0, defaulters=0, liquidations=0,
    near_count=0, failing_count=0, near=[], scan_age_seconds=1.0, api={},
)  # fmt: skip


def told(vault: dict[str, Any] | None = None, limits: AlertConfig | None = None, **changed: Any) -> dict[str, str]:
    """Severity by name of what stands when these figures change."""
    if vault is not None:
        changed["vaults"] = [msgspec.structs.replace(VAULT, **vault)]
    return {a.name: a.severity for a in judge(msgspec.structs.replace(WELL, **changed), limits or AlertConfig())}


def test_a_venue_that_is_well_has_no_alert() -> None:
    assert told() == {}


@pytest.mark.parametrize(
    ("changed", "name", "severity"),
    [
        ({"halted": "COMMIT_FAILED"}, "NovateHalted", CRITICAL),
        ({"refusing": "DISK_FULL", "free_ppm": 40_000}, "NovateRefusing", CRITICAL),
        ({"free_ppm": 99_999}, "NovateDiskLow", WARNING),
        ({"free_ppm": 74_000}, "NovateDiskLow", CRITICAL),
        ({"reserve_ready": False}, "NovateReserveMissing", WARNING),
        ({"faults": {"poster": "RPC_UNREACHABLE"}}, "NovateFault", WARNING),
        ({"epoch_age_seconds": 1_261.0}, "NovateEpochOverdue", WARNING),
        ({"stage": 2}, "NovateWaterfall", WARNING),
        ({"stage": 4}, "NovateWaterfall", CRITICAL),
        ({"vault": {"seconds_to_freeze": 302_400}}, "NovateFreezeNear", WARNING),
        ({"vault": {"seconds_to_freeze": 151_200}}, "NovateFreezeNear", CRITICAL),
        ({"vault": {"seconds_to_freeze": -5}}, "NovateFreezeNear", CRITICAL),
        ({"vault": {"frozen": True}}, "NovateVaultFrozen", CRITICAL),
        ({"vault": {"epochs_left": 49}}, "NovateGasLow", WARNING),
        ({"vault": {"epochs_left": 0}}, "NovateGasLow", CRITICAL),
        ({"vault": {"epoch_lag": 2}}, "NovateEpochLag", WARNING),
        ({"vault": {"missing_attestations": 1}}, "NovateAttestationsMissing", WARNING),
        ({"vault": {"chain_age_seconds": 151.0}}, "NovateChainSilent", WARNING),
        ({"vault": {"chain_age_seconds": None}}, "NovateChainSilent", WARNING),
        ({"insurance_fund_atoms": -1}, "NovateFundLow", WARNING),
    ],
)
def test_each_alert_has_its_limit(changed: dict[str, Any], name: str, severity: str) -> None:
    """It stands past the limit, alone, and at its severity."""
    assert told(**changed) == {name: severity}


def test_silent_publishers_are_told_one_by_one_and_the_lost_quorum_is_critical() -> None:
    rows = [PublisherFigures(0, 61.0), PublisherFigures(1, None), PublisherFigures(2, 60.0)]
    figures = msgspec.structs.replace(WELL, publishers=rows, oracle_quorum=2)
    found = judge(figures, AlertConfig())
    assert [(a.name, a.subject) for a in found] == [
        ("NovateOracleQuorumLost", ""),
        ("NovateOracleStale", "publisher 0"),
        ("NovateOracleStale", "publisher 1"),
    ]
    assert told(publishers=rows[2:]) == {}


def test_limits_are_the_operators_choice() -> None:
    """The same figures under other limits."""
    assert told(limits=AlertConfig(gas_epochs=1_001)) == {"NovateGasLow": WARNING}
    assert told(limits=AlertConfig(fund_atoms=1)) == {"NovateFundLow": WARNING}
    assert told(limits=AlertConfig(freeze_ppm=1)) == {"NovateFreezeNear": WARNING}
    assert told({"connected": False, "seconds_to_freeze": None, "chain_age_seconds": None}) == {}


def test_an_alert_is_logged_when_it_comes_changes_and_goes_and_not_in_between() -> None:
    """By subject: one vault's alert over is not the other's."""
    capture = structlog.testing.LogCapture()
    log = AlertLog(structlog.wrap_logger(None, processors=[capture]))
    low = msgspec.structs.replace(WELL, free_ppm=90_000)
    worse = msgspec.structs.replace(WELL, free_ppm=60_000)
    for figures in (WELL, low, low, low, worse, worse, WELL, WELL):
        log.look(judge(figures, AlertConfig()))
    assert [(line["event"], line["log_level"]) for line in capture.entries] == [
        ("alert", "warning"),
        ("alert", "critical"),
        ("alert over", "info"),
    ]
    assert log.current == []


# --- counting ---


@given(st.lists(st.tuples(st.integers(1, 5), st.floats(0, 20)), max_size=30), st.data())
def test_every_answer_is_counted_with_its_own_wait(groups: list[tuple[int, float]], data: st.DataObject) -> None:
    """Groups come together and are answered in other portions: the waits are those of a plain queue."""
    now = [0.0]
    meter = Meter(lambda: now[0])
    came: list[float] = []
    waits: list[float] = []
    for count, pause in groups:
        now[0] += pause
        meter.queued(count)
        came += [now[0]] * count
        take = data.draw(st.integers(0, len(came)))
        now[0] += data.draw(st.floats(0, 3))
        meter.answered(take)
        waits += [now[0] - then for then in came[:take]]
        del came[:take]
    assert meter.answers.count == len(waits)
    assert meter.answers.total == pytest.approx(sum(waits))
    wanted = Histogram()
    for wait in waits:
        wanted.observe(wait)
    assert meter.answers.counts == wanted.counts


def test_quantiles_are_upper_bounds() -> None:
    found = Histogram((1.0, 2.0))
    assert found.quantile(0.5) is None
    found.observe(0.5, 98)
    found.observe(1.5, 1)
    assert (found.quantile(0.5), found.quantile(0.99)) == (1.0, 2.0)
    found.observe(9.0)
    assert found.quantile(1.0) == 2.0
    assert list(BUCKETS) == sorted(BUCKETS)


def test_the_stage_is_the_deepest_since_the_last_close_and_survives_a_restart() -> None:
    """What was asked and not drawn does not count; `seed` sees the same entries again and counts none of them."""
    nothing: dict[str, int] = {"asked_atoms": 5, "left_atoms": 0, "account": 7}
    step = Liquidated(7, "DEFAULT", -1, 0, 0, 1, 0, 0, 0)
    fund = TrancheDrawn(tranche=ids.TRANCHE_INSURANCE, drawn_atoms=5, **nothing)
    empty = TrancheDrawn(tranche=ids.TRANCHE_OPERATOR, drawn_atoms=0, **nothing)
    adl = Deleveraged(7, 8, 1, 1, 1, 0, 1, 1, 1)
    end = EpochClosed(*[None] * len(EpochClosed.__struct_fields__))  # type: ignore[arg-type]  # only its kind matters
    stories: list[tuple[list[Outcome], int]] = [
        ([step], 1), ([step, fund], 2), ([fund, empty], 2), ([fund, adl], 6), ([adl, end], 0),
    ]  # fmt: skip
    for outcomes, stage in stories:
        live, seeded = Meter(), Meter()
        live.note(outcomes)
        seeded.seed([outcomes])
        assert live.stage == seeded.stage == stage
        assert seeded.liquidations == {} and seeded.deleveraged == 0
    assert live.deleveraged == 1


# --- accounts near maintenance ---


def near_by_hand(world: World, near_ppm: int) -> list[int]:
    found = []
    for account in world.reducer.state.accounts[ids.HOUSE_ACCOUNTS :]:
        worth, _, maintenance = assess(account)
        if maintenance and worth * ids.PPM < maintenance * near_ppm:
            found.append(account.number)
    return sorted(found)


def test_the_scan_finds_exactly_those_near_maintenance_and_forgets_who_recovered(market: World) -> None:
    """At every price on the way down and up again; the worst comes first."""
    size = 16_000
    market.ok(market.batch("alice", order(ids.SELL, size=size)), market.batch("bob", order(ids.BUY, size=size)))
    state = market.reducer.state
    assert state.instruments[BTC].open_interest == size
    near_ppm = 3_000_000
    scan = RiskScan(market.pipeline.lock, lambda: market.reducer.state, near_ppm)
    assert not scan.near()
    seen = set()
    for dollars in (50_000, 49_000, 47_800, 49_500, 51_000, 52_200, 50_000):
        market.ok(market.price(dollars * 10_000))
        scan.turn()
        assert sorted(row.account for row in scan.near()) == near_by_hand(market, near_ppm)
        ratios = [row.ratio_ppm for row in scan.near()]
        assert ratios == sorted(ratios)
        seen.add(len(ratios))
    age_s = scan.age_s
    assert age_s is not None and age_s < 60
    assert len(seen) > 1, "the prices moved someone in and out"


# --- logs ---


def test_log_lines_are_json_and_hold_no_secret() -> None:
    """Ours and those of libraries."""
    stream = io.StringIO()
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        log = logs.configure(True, "info", stream)
        log.debug("unseen")
        log.error("fault", part="chain 0", message="https://u:pw@host/ fails", seed="00ff")
        logging.getLogger("uvicorn.error").warning("from %s", "https://h/v3/0123456789abcdef0123456789abcdef")
    finally:
        root.handlers[:], root.level = before[0], before[1]
        structlog.reset_defaults()
    rows = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [row["level"] for row in rows] == ["error", "warning"]
    assert rows[0]["seed"] == "***" and "pw" not in rows[0]["message"] and "0123456789" not in rows[1]["event"]


def test_every_alert_rule_of_the_operator_is_in_the_rules_file() -> None:
    """docs/ops/alerts.yml has an alert of each name, and none that is unknown but for what only Prometheus can see."""
    text = (Path(__file__).resolve().parents[2] / "docs/ops/alerts.yml").read_text()
    listed = {line.split("alert: ")[1].strip() for line in text.splitlines() if "alert: " in line}
    assert listed - {"NovateDown", "NovateSlow"} == set(NAMES)
