# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus metrics of the operator's process: names `novate_*`, base units (seconds, bytes; wei and atoms as such).

Rules:
- Everything is read when it is scraped, from one `Figures` and the writer's counters; nothing is kept twice.
- Label values come from genesis and from this code (vault, publisher, instrument, step), never from what users send:
  the number of series does not grow with use. Accounts are counted, not named.
- A value that is not known has no sample; `novate_oracle_age_seconds` of a publisher that never published is infinite,
  so that an alert on its age fires.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from math import inf
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from clearing.model import ids
from clearing.service.ops.alerts import Alert
from clearing.service.ops.figures import Figures, VaultFigures
from clearing.service.ops.meter import STAGES, Histogram, Meter

TRANCHES: Final = {
    ids.TRANCHE_DEFAULTER: "defaulter",
    ids.TRANCHE_INSURANCE: "insurance",
    ids.TRANCHE_OPERATOR: "operator",
    ids.TRANCHE_DEFAULT_FUND: "default_fund",
    ids.TRANCHE_GAINS: "gains",
    ids.TRANCHE_ADL: "adl",
}
_API_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,60}")
STEPS: Final = ("CANCEL", "SEIZE", "SLICE", "AUCTION", "BACKSTOP", "DEFAULT", "ADL")

# name, help, figure: one sample each; None leaves the sample out.
_GAUGES: Final[tuple[tuple[str, str, Callable[[Figures], float | None]], ...]] = (
    ("novate_uptime_seconds", "Since the operator's process recovered.", lambda f: f.uptime_seconds),
    ("novate_journal_entries", "Entries in the journal.", lambda f: f.entries),
    ("novate_journal_map_used_bytes", "Used pages of the journal's map.", lambda f: f.map_used_bytes),
    ("novate_journal_map_size_bytes", "Size of the journal's map.", lambda f: f.map_size_bytes),
    ("novate_journal_reserve_ready", "Whether the reserve for a full disk stands.", lambda f: f.reserve_ready),
    ("novate_disk_free_bytes", "Free on the journal's disk.", lambda f: f.disk_free_bytes),
    ("novate_disk_size_bytes", "Size of the journal's disk.", lambda f: f.disk_size_bytes),
    ("novate_queue_commands", "Commands that wait for the writer.", lambda f: f.waiting),
    ("novate_halted", "Whether the writer halted on a fault.", lambda f: bool(f.halted)),
    ("novate_refusing", "Whether new commands are refused for lack of room.", lambda f: bool(f.refusing)),
    ("novate_faults", "Background parts that fail at the moment.", lambda f: len(f.faults)),
    ("novate_epoch", "The last closed epoch.", lambda f: f.epoch),
    ("novate_epoch_age_seconds", "Since the last close.", lambda f: f.epoch_age_seconds),
    (
        "novate_epoch_interval_seconds",
        "How often an epoch should close; 0: never by itself.",
        lambda f: f.epoch_seconds,
    ),
    ("novate_posted_epoch", "The last epoch that every live vault holds.", lambda f: f.posted_epoch),
    ("novate_oracle_quorum", "Publishers that a price needs.", lambda f: f.oracle_quorum),
    ("novate_oracle_max_age_seconds", "Age up to which a price counts.", lambda f: f.oracle_max_age_seconds),
    ("novate_accounts", "Accounts, the house's included.", lambda f: f.accounts),
    ("novate_open_orders", "Open orders.", lambda f: f.open_orders),
    ("novate_accounts_near_maintenance", "Accounts near maintenance margin or below it.", lambda f: f.near_count),
    ("novate_accounts_below_maintenance", "Accounts below maintenance margin.", lambda f: f.failing_count),
    (
        "novate_risk_scan_age_seconds",
        "Since the last full round over all accounts began.",
        lambda f: f.scan_age_seconds,
    ),
    ("novate_insurance_fund_atoms", "Equity of the insurance fund.", lambda f: f.insurance_fund_atoms),
    ("novate_operator_capital_atoms", "Equity of the operator's capital.", lambda f: f.operator_capital_atoms),
    ("novate_haircut_ppm", "Haircut of payouts after uncovered losses.", lambda f: f.haircut_ppm),
    ("novate_waterfall_stage", f"Deepest since the last close: 0 {', '.join(STAGES)}.", lambda f: f.stage),
    ("novate_auctions", "Books on auction.", lambda f: f.auctions),
    ("novate_defaulters", "Accounts in default.", lambda f: f.defaulters),
    ("novate_api_connections", "Open connections to the public interface.", lambda f: f.api.get("connections")),
)
_VAULT_GAUGES: Final[tuple[tuple[str, str, Callable[[VaultFigures], float | None]], ...]] = (
    ("novate_vault_posted_epoch", "The last epoch that the vault holds.", lambda v: v.posted_epoch),
    ("novate_epoch_lag", "Closed epochs that the vault does not hold.", lambda v: v.epoch_lag),
    ("novate_vault_frozen", "Whether the vault is frozen on its chain.", lambda v: v.frozen),
    ("novate_seconds_to_freeze", "Until anyone may freeze the vault.", lambda v: v.seconds_to_freeze),
    ("novate_freeze_deadline_seconds", "The vault's deadline from its last header.", lambda v: v.deadline_seconds),
    ("novate_post_urgency", "How much posting matters, 0 to 1; fees follow it.", lambda v: v.urgency),
    ("novate_missing_attestations", "Signatures that the next header waits for.", lambda v: v.missing_attestations),
    ("novate_pending_transactions", "Transactions on their way.", lambda v: v.pending),
    ("novate_chain_age_seconds", "Since the vault's chain last answered.", lambda v: v.chain_age_seconds),
    ("novate_gas_balance_wei", "The operator's ether on the vault's chain.", lambda v: v.balance_wei),
    ("novate_epoch_cost_wei", "Mean cost of posting an epoch.", lambda v: v.epoch_cost_wei),
    ("novate_gas_epochs_left", "Epochs that the ether pays for.", lambda v: v.epochs_left),
)


def package_version() -> str:
    """The installed package's version; "unknown" in a source tree that is not installed."""
    try:
        return version("novate")
    except PackageNotFoundError:
        return "unknown"


class NovateCollector(Collector):
    """Reads the figures at each scrape. `alerts` gives what stands now."""

    def __init__(self, read: Callable[[], Figures], meter: Meter, alerts: Callable[[], Sequence[Alert]]) -> None:
        self._read, self._meter, self._alerts = read, meter, alerts

    def describe(self) -> Iterator[Metric]:
        """Nothing is read to register."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        figures = self._read()
        yield InfoMetricFamily("novate_build", "What runs.", {"version": package_version()})
        for name, text, figure in _GAUGES:
            value = figure(figures)
            family = GaugeMetricFamily(name, text)
            if value is not None:
                family.add_metric([], float(value))
            yield family
        for name, text, vault_figure in _VAULT_GAUGES:
            family = GaugeMetricFamily(name, text, labels=["vault"])
            for vault in figures.vaults:
                if vault.connected and (value := vault_figure(vault)) is not None:
                    family.add_metric([str(vault.vault)], float(value))
            yield family
        yield from _api(figures)
        yield from _market(figures)
        yield from _counted(self._meter)
        standing = GaugeMetricFamily(
            "novate_alert", "Alerts that stand, 1 each.", labels=["name", "severity", "subject"]
        )
        for alert in self._alerts():
            standing.add_metric([alert.name, alert.severity, alert.subject], 1.0)
        yield standing


def _api(figures: Figures) -> Iterator[Metric]:
    """What the public interface tells of itself, as it names it; names that Prometheus does not take are left out."""
    for name, value in sorted(figures.api.items()):
        if name != "connections" and _API_NAME.fullmatch(name):
            text = f"Of the public interface: {name.replace('_', ' ')}."
            yield GaugeMetricFamily(f"novate_api_{name}", text, value=float(value))


def _market(figures: Figures) -> Iterator[Metric]:
    ages = GaugeMetricFamily("novate_oracle_age_seconds", "Since a publisher's last update.", labels=["publisher"])
    for row in figures.publishers:
        ages.add_metric([str(row.publisher)], inf if row.age_seconds is None else row.age_seconds)
    yield ages
    rows: tuple[tuple[str, str, Callable[[int], float | None]], ...] = (
        ("novate_mark_atoms", "Mark price.", lambda n: figures.instruments[n].mark_atoms),
        ("novate_index_age_seconds", "Since the index moved.", lambda n: figures.instruments[n].index_age_seconds),
        ("novate_open_interest_lots", "Open interest.", lambda n: figures.instruments[n].open_interest_lots),
        ("novate_instrument_halted", "Whether trading is halted.", lambda n: bool(figures.instruments[n].halted)),
        ("novate_breaker_open", "Whether a circuit breaker holds.", lambda n: bool(figures.instruments[n].breaker)),
    )
    for name, text, figure in rows:
        family = GaugeMetricFamily(name, text, labels=["instrument"])
        for number, inst in enumerate(figures.instruments):
            if (value := figure(number)) is not None:
                family.add_metric([inst.symbol], float(value))
        yield family


def _counted(meter: Meter) -> Iterator[Metric]:
    yield _histogram(
        "novate_answer_seconds", "From a command's arrival in the queue to its durable answer.", meter.answers
    )
    yield _histogram("novate_commit_seconds", "A group commit, fsync included.", meter.commits)
    plain = (
        ("novate_committed_entries", "Entries that this process made durable.", meter.entries),
        ("novate_refused_commands", "Commands that never reached the journal.", meter.refused),
        ("novate_rejected_commands", "Journalled commands that the rules rejected.", meter.rejected),
        ("novate_fills", "Fills.", meter.fills),
        ("novate_deleveraged", "Positions closed by ADL.", meter.deleveraged),
    )
    for name, text, value in plain:
        yield CounterMetricFamily(name, text, value=float(value))
    steps = CounterMetricFamily("novate_liquidations", "Liquidation steps.", labels=["step"])
    for step in STEPS:
        steps.add_metric([step], float(meter.liquidations.get(step, 0)))
    yield steps
    drawn = CounterMetricFamily("novate_waterfall_drawn_atoms", "Taken from a tranche.", labels=["tranche"])
    for tranche, label in TRANCHES.items():
        drawn.add_metric([label], float(meter.drawn_atoms.get(tranche, 0)))
    yield drawn


def _histogram(name: str, text: str, found: Histogram) -> HistogramMetricFamily:
    counts, total, rows = list(found.counts), found.total, []
    so_far = 0
    for bound, count in zip((*map(str, found.bounds), "+Inf"), counts, strict=True):
        so_far += count
        rows.append((bound, float(so_far)))
    return HistogramMetricFamily(name, text, buckets=rows, sum_value=total)


def registry(
    read: Callable[[], Figures], meter: Meter, alerts: Callable[[], Sequence[Alert]] = tuple
) -> CollectorRegistry:
    """A registry with the venue's metrics and this process's own (`process_*`), apart from the library's global one."""
    found = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=found)
    found.register(NovateCollector(read, meter, alerts))
    return found
