# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports as tables of text, the same for terminal and page. Money in units of the settlement asset (1e-6 atoms)."""

import re
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from clearing.report.account import AccountReport, GreekRow, ScanRow
from clearing.report.provenance import Provenance
from clearing.report.reverse import ReverseReport
from clearing.report.stress import StressReport
from clearing.report.venue import VenueReport

_LANE_0 = 1_000_000
_SHOWN_EVENTS = 30
_FIGURE = re.compile(r"-?[\d,]+(\.\d+)?")
_TIME = re.compile(r"\b\d{15,17}$")


class Table(NamedTuple):
    """The first column is text and flush left, the others flush right. Without names of columns it is a list of
    pairs, whose values are flush left unless they are figures."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def lines(self) -> Iterator[str]:
        """Aligned text."""
        if not self.rows:
            return
        if self.title:
            yield self.title
        if self.is_pairs:
            yield from self._pairs()
            return
        table = [self.columns, *self.rows]
        widths = [max(len(row[at]) for row in table) for at in range(len(self.columns))]
        for row in table:
            cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
            yield "  " + "  ".join([row[0].ljust(widths[0]), *cells]).rstrip()

    @property
    def is_pairs(self) -> bool:
        return not any(self.columns)

    def _pairs(self) -> Iterator[str]:
        width = max(len(name) for name, _ in self.rows)
        digits = max((len(cell) for _, cell in self.rows if _FIGURE.fullmatch(cell)), default=0)
        for name, cell in self.rows:
            yield f"  {name.ljust(width)}  {cell.rjust(digits) if _FIGURE.fullmatch(cell) else cell}".rstrip()


def money(atoms: int) -> str:
    """1234567890 -> 1,234.567890"""
    whole, fraction = divmod(abs(atoms), _LANE_0)
    return f"{'-' if atoms < 0 else ''}{whole:,}.{fraction:06d}"


def percent(ppm: int | None) -> str:
    """-123456 -> -12.3456 %"""
    return "none" if ppm is None else f"{ppm / 10_000:g} %"


def moment(time_us: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(time_us // 1_000_000)) if time_us > 0 else "-"


def _pairs(title: str, rows: Sequence[tuple[str, str]]) -> Table:
    return Table(title, ("", ""), rows)


def provenance_table(stamp: Provenance) -> Table:
    rows = [
        ("novate", stamp.version),
        ("deployment", stamp.deployment),
        ("entry", f"{stamp.seq}, {moment(stamp.time_us)} UTC"),
        ("journal root", stamp.journal_root),
        ("parameters", f"version {stamp.params_version}, {stamp.params_hash}"),
        ("state root", f"{stamp.state_root}, epoch {stamp.epoch} closed by entry {stamp.epoch_seq}"),
    ]
    rows += [(f"risk array {symbol}", digest) for symbol, digest in stamp.risk_arrays.items()]
    return _pairs("", rows)


def account_tables(report: AccountReport) -> dict[str, Table]:
    """By name; "scan X" per underlying X."""
    summary = [
        ("mode", report.mode),
        ("status", report.status),
        ("equity", money(report.equity_atoms)),
        ("initial margin", money(report.margin_initial_atoms)),
        ("maintenance margin", money(report.margin_maintenance_atoms)),
        ("equity / maintenance", "-" if report.ratio is None else f"{report.ratio:,.6f}"),
        ("free", money(report.headroom_atoms)),
        ("open orders", f"{report.open_orders:,}"),
        ("taken by open orders", money(report.open_orders_atoms)),
        ("claim", money(report.claim_atoms)),
        ("collateral", money(report.collateral_atoms)),
        ("pledged", money(report.pledged_atoms)),
    ]
    if report.auction_start_us:
        summary.append(("on auction since", moment(report.auction_start_us)))
    if report.wait_us > report.provenance.time_us:
        summary.append(("no liquidation step before", moment(report.wait_us)))
    if report.unpriced:
        summary.append(("without Greeks (no surface)", ", ".join(report.unpriced)))
    tables = {
        "summary": _pairs("Margin", summary),
        "requirements": Table(
            "Requirements",
            ("part", "initial", "maintenance"),
            [
                (_part(r.what), money(r.margin_initial_atoms), money(r.margin_maintenance_atoms))
                for r in report.requirements
            ],
        ),
        "positions": Table(
            "Positions",
            ("market", "lots", "mark", "value", "profit", "funding"),
            [
                (r.symbol, f"{r.size_lots:,}", money(r.mark_atoms), money(r.value_atoms), money(r.profit_atoms),
                 money(r.funding_atoms))
                for r in report.positions
            ],
        ),
        "greeks": Table(
            "Greeks (lots; settlement asset per vol point, day, 1 % of rate)",
            ("underlying", "expiry", "delta", "gamma", "vega", "theta", "rho"),
            [_greek(row) for row in report.greeks],
        ),
        "collateral": Table(
            "Collateral",
            ("asset", "amount in atoms", "price of a unit", "value", "haircut", "maintenance", "initial"),
            [
                (_asset(r.lane, r.asset), f"{r.amount_atoms:,}", money(r.price_atoms), money(r.value_atoms),
                 percent(r.haircut_ppm), money(r.maintenance_atoms), money(r.initial_atoms))
                for r in report.collateral
            ],
        ),
        "distances": Table(
            "Distance to liquidation: the nearest move of prices (none: not down to -99 %, not up to +500 %)",
            ("underlying", "down", "up"),
            [
                ("all together" if r.underlying == "*" else r.underlying, percent(r.down_ppm), percent(r.up_ppm))
                for r in report.distances
            ],
        ),
    }  # fmt: skip
    for scan in report.scans:
        tables[f"scan {scan.underlying}"] = _scan_table(scan)
    return tables


def _part(what: str) -> str:
    """A requirement's name; an expiry in it as people write it."""
    return _TIME.sub(lambda found: moment(int(found[0]))[:16], what)


def _asset(lane: int, symbol: str) -> str:
    return "settlement asset" if lane == 0 and symbol == "lane 0" else symbol


def _greek(row: GreekRow) -> tuple[str, ...]:
    when = {0: "perpetual", -1: "total"}.get(row.expiry_us) or moment(row.expiry_us)[:16]
    delta, gamma = f"{row.delta_lots:,.6f}", f"{row.gamma_lots:,.6f}"
    return (row.underlying, when, delta, gamma, money(row.vega_atoms), money(row.theta_atoms), money(row.rho_atoms))


def _scan_table(scan: ScanRow) -> Table:
    worst = "basis" if scan.worst_scenario < 0 else str(scan.worst_scenario)
    bound = "" if scan.binding else ", for information"
    title = f"{scan.underlying}, preset {scan.preset}{bound}: worst {worst}, loss {money(scan.loss_atoms)}"
    rows = [
        (str(r.scenario), f"{r.spot * 100:+.2f} %", r.vol, f"{r.damp:f}", money(r.pnl_atoms)) for r in scan.scenarios
    ]
    rows.append(("basis", "", "", "", money(scan.basis_atoms)))
    return Table(title, ("scenario", "spot", "vol", "damped", "P&L"), rows)


def venue_tables(report: VenueReport) -> dict[str, Table]:
    """By name, in the order of showing."""
    return _standing(report) | _record(report)


def _standing(report: VenueReport) -> dict[str, Table]:
    """What stands behind defaults now, and what it stands against."""
    return {
        "resources": Table(
            "Default resources",
            ("tranche", "held"),
            [
                *((r.name, money(r.held_atoms)) for r in report.resources),
                ("prefunded (first three)", money(report.prefunded_atoms)),
                ("uncovered deficits", money(report.shortfall_atoms)),
            ],
        ),
        "covers": Table(
            "Stress loss over initial margin",
            ("scenario", "owners", "cover-1", "cover-2", "all", "beyond equity"),
            [
                (r.scenario, str(r.owners), money(r.cover_1_atoms), money(r.cover_2_atoms), money(r.total_atoms),
                 money(r.uncovered_atoms))
                for r in report.covers
            ],
        ),
        "concentration": Table(
            "Concentration",
            ("market", "open lots", "notional", "longs", "shorts", "largest long", "largest short"),
            [
                (r.symbol, f"{r.open_interest_lots:,}", money(r.notional_atoms), str(r.long_holders),
                 str(r.short_holders), _largest(r.top_long_ppm), _largest(r.top_short_ppm))
                for r in report.concentration
            ],
        ),
    }  # fmt: skip


def _record(report: VenueReport) -> dict[str, Table]:
    """How data and margins have held so far, and who is near maintenance."""
    return {
        "oracle": Table(
            "Oracle",
            ("underlying", "index", "uptime", "longest gap", "votes"),
            [
                (r.underlying, money(r.index_atoms), percent(r.uptime_ppm), f"{r.longest_gap_us / 1e6:.1f} s",
                 f"{r.accepted:,}")
                for r in report.oracle
            ],
        ),
        "backtest": Table(
            "Backtest: losses above initial margin",
            ("horizon", "books", "breaches", "share", "worst excess"),
            [
                (r.horizon, f"{r.observations:,}", f"{r.breaches:,}", percent(r.breach_ppm),
                 money(r.worst_excess_atoms))
                for r in report.backtest
            ],
        ),
        "defaults": Table(
            "Liquidations and the waterfall so far",
            ("what", "count or amount"),
            [
                *((f"step {step}", f"{count:,}") for step, count in report.liquidations.items()),
                *((f"drawn: {name}", money(amount)) for name, amount in report.drawn_atoms.items()),
                ("gains haircut", money(report.haircut_atoms)),
                ("ADL", f"{report.adl_count:,} closed, {money(report.adl_atoms)}"),
            ],
        ),
        "events": Table(
            f"Last events (at most {_SHOWN_EVENTS})",
            ("when", "entry", "kind", "account", "against", "amount"),
            [
                (moment(e.time_us), str(e.seq), e.kind, str(e.account),
                 str(e.counterparty) if e.counterparty >= 0 else "", money(e.amount_atoms))
                for e in report.events[-_SHOWN_EVENTS:]
            ],
        ),
        "near": Table(
            f"Near maintenance: {report.near_count}",
            ("account", "mode", "equity", "maintenance", "ratio"),
            [
                (str(r.account), r.mode, money(r.equity_atoms), money(r.margin_maintenance_atoms),
                 "-" if r.ratio is None else f"{r.ratio:f}")
                for r in report.near
            ],
        ),
    }  # fmt: skip


def _largest(top: Sequence[tuple[int, int]]) -> str:
    return f"{percent(top[0][1])} (account {top[0][0]})" if top else "-"


def stress_tables(report: StressReport) -> list[Table]:
    """Summary, then tranches."""
    steps = ", ".join(f"{count} {step}" for step, count in report.steps.items())
    refused = ", ".join(f"{count} {code}" for code, count in report.refused_votes.items())
    summary = [
        ("took", f"{report.minutes:g} min, {report.updates} updates"),
        ("accounts liquidated", f"{len(report.liquidated)} ({steps})" if steps else "0"),
        ("closed", money(report.closed_atoms)),
        ("deficits", money(report.deficit_atoms)),
        ("ADL", f"{report.adl_count} closed, {money(report.adl_atoms)}, loss {money(report.adl_loss_atoms)}"),
        ("shortfall at the end", money(report.shortfall_atoms)),
        (
            "left at the end",
            f"{len(report.failing)} failing, {len(report.frozen)} frozen, {len(report.auctions)} on auction",
        ),
        ("money", f"{'conserved' if report.conserved else 'NOT CONSERVED'} after each of {report.checks} entries"),
    ]
    if refused:
        summary.append(("votes refused", refused))
    rows = [
        (r.name, money(r.before_atoms), money(r.drawn_atoms), money(r.after_atoms), "yes" if r.exhausted else "no")
        for r in report.tranches
    ]
    tranches = Table("Waterfall", ("tranche", "before", "paid", "after", "exhausted"), rows)
    return [_pairs("", summary), tranches]


def overview(reports: Sequence[StressReport]) -> Table:
    """One line per run."""
    rows = [
        (r.scenario, str(len(r.liquidated)), money(r.deficit_atoms), _deepest(r), f"{r.adl_count}",
         money(r.shortfall_atoms), "yes" if r.conserved else "NO")
        for r in reports
    ]  # fmt: skip
    return Table("", ("scenario", "liquidated", "deficits", "exhausted up to", "ADL", "shortfall", "conserved"), rows)


def _deepest(report: StressReport) -> str:
    gone = [row.name for row in report.tranches if row.exhausted]
    return gone[-1] if gone else "none"


def reverse_table(report: ReverseReport) -> Table:
    rows = [(r.name, percent(r.down_ppm), percent(r.up_ppm)) for r in report.rows]
    return Table("", ("tranche", "exhausted by a fall of", "by a rise of"), rows)
