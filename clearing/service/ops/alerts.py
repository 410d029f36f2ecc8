# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator must be told: from figures to alerts, and the log of when each came and went.

Rules:
- `judge` is a function of figures and limits. docs/ops/alerts.yml says the same over the metrics, by the same names,
  for those who have a Prometheus; the log and `operator status` need none.
- WARNING: look at it today. CRITICAL: money or the venue is at stake now, or nothing goes on.
- An alert is logged when it comes, when it gets worse or better, and when it is over: never at every look.
- Every message names the figure, its limit, and what to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from clearing.service.config import AlertConfig
from clearing.service.ops.figures import Figures, PublisherFigures, VaultFigures

WARNING: Final = "warning"
CRITICAL: Final = "critical"
NAMES: Final = (
    "NovateHalted",
    "NovateRefusing",
    "NovateFreezeNear",
    "NovateVaultFrozen",
    "NovateGasLow",
    "NovateEpochLag",
    "NovateEpochOverdue",
    "NovateAttestationsMissing",
    "NovateChainSilent",
    "NovateOracleStale",
    "NovateOracleQuorumLost",
    "NovateDiskLow",
    "NovateReserveMissing",
    "NovateFundLow",
    "NovateWaterfall",
    "NovateFault",
)
# Of a vault's deadline used up: half a minute before the end nobody can help any more, so call people early.
_FREEZE_CRITICAL_PPM: Final = 750_000
_GAS_CRITICAL: Final = 5  # as a divisor of the limit
_HALT_FREE_PPM: Final = 50_000
_CHAIN_SILENT_S: Final = 120
_PPM: Final = 1_000_000


class Alert(msgspec.Struct, frozen=True):
    """`subject` tells alerts of one name apart: a vault, a publisher, a part."""

    name: str
    severity: str
    message: str
    subject: str = ""


def judge(figures: Figures, limits: AlertConfig) -> list[Alert]:
    """What stands now, the critical first."""
    found = [
        *_process(figures, limits),
        *(alert for vault in figures.vaults for alert in _vault(vault, figures, limits)),
        *_epochs(figures),
        *_oracles(figures),
        *_market(figures, limits),
    ]
    return sorted(found, key=lambda alert: (alert.severity != CRITICAL, NAMES.index(alert.name), alert.subject))


def _process(f: Figures, limits: AlertConfig) -> Iterator[Alert]:
    if f.halted:
        yield Alert("NovateHalted", CRITICAL, f"the writer halted on {f.halted}; read the log, then restart")
    if f.refusing:
        text = f"new commands are refused: {f.refusing}; free space, or restart with a larger journal_map_bytes"
        yield Alert("NovateRefusing", CRITICAL, text)
    elif f.free_ppm < limits.free_ppm:
        severity = CRITICAL if f.free_ppm < (limits.free_ppm + _HALT_FREE_PPM) // 2 else WARNING
        left = f"{f.free_ppm / 10_000:.1f} % of the journal's disk or map is left, limit {limits.free_ppm / 10_000:g} %"
        yield Alert("NovateDiskLow", severity, f"{left}; orders stop at 5 %: make room before")
    if not f.reserve_ready:
        text = "the journal's reserve was given up to a full disk; free space, a restart sets it up again"
        yield Alert("NovateReserveMissing", WARNING, text)
    for part, code in sorted(f.faults.items()):
        yield Alert("NovateFault", WARNING, f"{part} fails with {code} and is tried again; the log says more", part)


def _vault(v: VaultFigures, f: Figures, limits: AlertConfig) -> Iterator[Alert]:
    name = f"vault {v.vault}"
    if v.frozen:
        text = f"{name} is frozen on its chain: owners leave by escape; see what froze it"
        yield Alert("NovateVaultFrozen", CRITICAL, text, name)
        return
    if not v.connected:
        return
    yield from _deadline(v, name, limits)
    if v.epochs_left is not None and v.epochs_left < limits.gas_epochs:
        severity = CRITICAL if v.epochs_left < max(1, limits.gas_epochs // _GAS_CRITICAL) else WARNING
        text = (
            f"{name}: the ether lasts for {v.epochs_left} epochs, limit {limits.gas_epochs}; send some to the operator"
        )
        yield Alert("NovateGasLow", severity, text, name)
    if v.epoch_lag >= limits.epoch_lag:
        text = f"{name} is {v.epoch_lag} epochs behind, limit {limits.epoch_lag}; see its faults and the ether"
        yield Alert("NovateEpochLag", WARNING, text, name)
    if v.missing_attestations:
        text = f"{name}: the next header waits for {v.missing_attestations} attestors; ask them"
        yield Alert("NovateAttestationsMissing", WARNING, text, name)
    if v.chain_age_seconds is None or v.chain_age_seconds > max(_CHAIN_SILENT_S, f.epoch_seconds // 4):
        age = "never answered" if v.chain_age_seconds is None else f"has not answered for {v.chain_age_seconds:.0f} s"
        yield Alert("NovateChainSilent", WARNING, f"{name}: its chain {age}; check rpc_url", name)


def _deadline(v: VaultFigures, name: str, limits: AlertConfig) -> Iterator[Alert]:
    if v.seconds_to_freeze is None or not v.deadline_seconds:
        return
    used_ppm = _PPM - v.seconds_to_freeze * _PPM // v.deadline_seconds
    if used_ppm < limits.freeze_ppm:
        return
    worst = max(_FREEZE_CRITICAL_PPM, limits.freeze_ppm)
    text = f"{name}: anyone may freeze it in {v.seconds_to_freeze} s of {v.deadline_seconds}; see why nothing is posted"
    yield Alert("NovateFreezeNear", CRITICAL if used_ppm >= worst else WARNING, text, name)


def _epochs(f: Figures) -> Iterator[Alert]:
    """Two intervals without a close: the next one waits for something."""
    if f.epoch_seconds and f.epoch_age_seconds is not None and f.epoch_age_seconds > 2 * f.epoch_seconds + 60:
        text = f"the last epoch closed {f.epoch_age_seconds:.0f} s ago, one is due every {f.epoch_seconds} s"
        yield Alert("NovateEpochOverdue", WARNING, f"{text}; see faults and attestations")


def _oracles(f: Figures) -> Iterator[Alert]:
    def fresh(row: PublisherFigures) -> bool:
        return row.age_seconds is not None and row.age_seconds <= f.oracle_max_age_seconds

    for row in f.publishers:
        if not fresh(row):
            age = "never published" if row.age_seconds is None else f"published {row.age_seconds:.0f} s ago"
            text = f"publisher {row.publisher} {age}, limit {f.oracle_max_age_seconds:g} s; restart it"
            yield Alert("NovateOracleStale", WARNING, text, f"publisher {row.publisher}")
    alive = sum(map(fresh, f.publishers))
    if alive < f.oracle_quorum:
        text = f"{alive} of {len(f.publishers)} publishers are fresh, {f.oracle_quorum} are needed"
        yield Alert("NovateOracleQuorumLost", CRITICAL, f"{text}: no new risk is taken and nothing is liquidated")


def _market(f: Figures, limits: AlertConfig) -> Iterator[Alert]:
    if f.insurance_fund_atoms < limits.fund_atoms:
        text = f"the insurance fund holds {f.insurance_fund_atoms} atoms, limit {limits.fund_atoms}; fund it"
        yield Alert("NovateFundLow", WARNING, text)
    if f.stage >= 2 or f.defaulters:
        severity = CRITICAL if f.stage >= 3 else WARNING
        text = f"the default waterfall reached: {f.stage_name}, {f.defaulters} accounts in default; watch the market"
        yield Alert("NovateWaterfall", severity, text)


class AlertLog:
    """Logs what changed between two looks; `current` is what stands. One thread at a time."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._standing: dict[tuple[str, str], Alert] = {}

    @property
    def current(self) -> list[Alert]:
        """What stood at the last look, the critical first."""
        return list(self._standing.values())

    def look(self, alerts: list[Alert]) -> None:
        """Take note of what stands now."""
        now = {(alert.name, alert.subject): alert for alert in alerts}
        for key, alert in now.items():
            before = self._standing.get(key)
            if before is None or before.severity != alert.severity:
                write = self._log.critical if alert.severity == CRITICAL else self._log.warning
                write("alert", alert=alert.name, severity=alert.severity, subject=alert.subject, message=alert.message)
        for key, alert in self._standing.items():
            if key not in now:
                self._log.info("alert over", alert=alert.name, subject=alert.subject)
        self._standing = now
