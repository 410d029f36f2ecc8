# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate operator status`: is the venue well, and for how long?

Exit status: 0 well (or only warnings), 1 something is critical (with --strict: or a warning), 4 nobody answered.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clearing.cli.options import json_option
from clearing.cli.output import COULD_NOT_CHECK, emit, fail, reports_errors, usd

if TYPE_CHECKING:
    from clearing.service.ops.alerts import Alert
    from clearing.service.ops.figures import Figures, PublisherFigures, VaultFigures

_DAY, _HOUR, _MINUTE = 86_400, 3_600, 60


@click.command("status")
@click.argument("directory", required=False, type=click.Path(path_type=Path, file_okay=False))
@click.option("--url", help="The private port's URL; of the operator that runs DIRECTORY by default.")
@click.option("--strict", is_flag=True, help="Exit 1 for warnings, too.")
@json_option
@reports_errors
def status(directory: Path | None, url: str | None, strict: bool, as_json: bool) -> None:
    """Show health, time to freeze, epochs of gas left, posting lag, oracle ages and the insurance fund.

    DIRECTORY is the data directory on the operator's machine. Exits 1 when something is critical.
    """
    answer = _ask(_url(directory, url))
    figures, alerts = answer.figures, answer.alerts
    emit(_as_data(answer), as_json, _lines(answer.health, figures, alerts))
    bad = [alert for alert in alerts if strict or alert.severity == "critical"]
    if bad:
        fail("UNHEALTHY", f"{bad[0].name}: {bad[0].message}" + (f" (and {len(bad) - 1} more)" if bad[1:] else ""))


def _url(directory: Path | None, url: str | None) -> str:
    if url is not None:
        return url.rstrip("/")
    if directory is None:
        raise click.UsageError("give DIRECTORY or --url")
    from clearing.service.config import load
    from clearing.service.ops.private import read_running, url_of

    running = read_running(directory)
    if running is not None:
        return running.private_url
    config = load(directory)
    return url_of(config.private_host, config.private_port)


def _ask(url: str) -> Any:
    import httpx
    import msgspec

    from clearing.service.ops.private import Report

    try:
        response = httpx.get(f"{url}/v1/operator", timeout=10, trust_env=False)
        response.raise_for_status()
        return msgspec.json.decode(response.content, type=Report)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = str(error) or type(error).__name__
        fail("OPERATOR_UNREACHABLE", f"no answer from {url} ({reason}); is the operator up?", COULD_NOT_CHECK)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        fail("BAD_ANSWER", f"{url} is not an operator's private port ({error}); check the URL", COULD_NOT_CHECK)


def _as_data(answer: Any) -> dict[str, Any]:
    import msgspec

    data: dict[str, Any] = msgspec.to_builtins(answer)
    return data


def span(seconds: float | None) -> str:
    """A time as people say it: 6 d 3 h, 2 h 5 min, 40 s."""
    if seconds is None:
        return "unknown"
    left = abs(int(seconds))
    sign = "-" if seconds < 0 else ""
    if left >= _DAY:
        return f"{sign}{left // _DAY} d {left % _DAY // _HOUR} h"
    if left >= _HOUR:
        return f"{sign}{left // _HOUR} h {left % _HOUR // _MINUTE} min"
    if left >= _MINUTE:
        return f"{sign}{left // _MINUTE} min {left % _MINUTE} s"
    return f"{sign}{left} s"


def size(count: int) -> str:
    """Bytes as people say them."""
    value, units = float(count), ("B", "KiB", "MiB", "GiB", "TiB")
    for unit in units[:-1]:
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} {units[-1]}"


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return "10 s or more" if seconds >= 10 else f"{seconds * 1_000:g} ms"


def _lines(health: str, f: "Figures", alerts: "list[Alert]") -> list[str]:
    half, most = _milliseconds(f.answer_p50_seconds), _milliseconds(f.answer_p99_seconds)
    disk = f"{size(f.disk_free_bytes)} free of {size(f.disk_size_bytes)}"
    room = f"{disk}; map {size(f.map_used_bytes)} of {size(f.map_size_bytes)}"
    closed = f"{f.epoch} closed {span(f.epoch_age_seconds)} ago, posted {f.posted_epoch}" if f.epoch else "none yet"
    near = f"near maintenance {f.near_count}, below it {f.failing_count}"
    default = f"{f.stage_name}; {f.auctions} auctions, {f.defaulters} in default"
    return [
        f"health          {health.upper()}, up {span(f.uptime_seconds)}",
        f"journal         {f.entries:,} entries, {f.waiting:,} waiting; answers in {half} (half), {most} (99 %)",
        f"disk            {room}{'' if f.reserve_ready else '; NO RESERVE'}",
        f"epoch           {closed}",
        *map(_vault_line, f.vaults),
        *(_oracle_line(row, f.oracle_max_age_seconds) for row in f.publishers),
        f"market          {f.accounts - 3:,} accounts, {f.open_orders:,} orders; {near}",
        f"insurance fund  {usd(f.insurance_fund_atoms)}; waterfall: {default}",
        *(f"{alert.severity.upper():8}        {alert.name}: {alert.message}" for alert in alerts),
    ]


def _oracle_line(row: "PublisherFigures", limit_s: float) -> str:
    age = "never published" if row.age_seconds is None else f"{row.age_seconds:.1f} s old"
    return f"{f'oracle {row.publisher}'.ljust(16)}{age} (limit {limit_s:g} s)"


def _vault_line(v: "VaultFigures") -> str:
    name = f"vault {v.vault}".ljust(16)
    if not v.connected:
        return f"{name}no endpoint is configured"
    if v.frozen:
        return f"{name}FROZEN on its chain; posted {v.posted_epoch}"
    gas = "epochs of gas unknown" if v.epochs_left is None else f"gas for {v.epochs_left:,} epochs"
    hurry = f", urgency {v.urgency:.2f}" if v.urgency else ""
    return f"{name}freeze in {span(v.seconds_to_freeze)}{hurry}; {gas}; posted {v.posted_epoch}, lag {v.epoch_lag}"
