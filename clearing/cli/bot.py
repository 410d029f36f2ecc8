# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate bot`: the example bots of clearing.bots, for a member's account."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from clearing.cli.options import Number, account_option, api_option, json_option, key_option
from clearing.cli.output import emit, note, reports_errors, usd

if TYPE_CHECKING:
    from clearing.bots.trader import Trader

F = TypeVar("F", bound=Callable[..., Any])
_POSITIVE = Number(1, 2**53 - 1)
_PPM = Number(0, 999_999)


@click.group()
def bot() -> None:
    """Example bots: a market maker and a taker, over the stream.

    A bot's account and session key are its own: nothing else should trade with them. It ends at SIGINT or SIGTERM, with
    all its orders in the market cancelled; if it is killed, the operator cancels them."""


def _shared(command: F) -> F:
    """The options of every bot, in the order in which help shows them."""
    options = (
        click.option("--instrument", default=1, show_default=True, type=Number(0, 2**32 - 1), help="Market to trade."),
        account_option,
        key_option,
        api_option,
        click.option("--max-position", required=True, type=_POSITIVE, help="Lots, long or short, never exceeded."),
        click.option("--size", default=10, show_default=True, type=_POSITIVE, help="Lots of an order, at most."),
        click.option("--seconds", type=click.FloatRange(0, min_open=True), help="How long to trade."),
        click.option(
            "--switch", default=30.0, show_default=True, type=click.FloatRange(3, 3_600),
            help="Seconds without a sign of the bot after which the venue cancels its orders.",
        ),
        click.option(
            "--max-mark-age", default=30.0, show_default=True, type=click.FloatRange(0, min_open=True),
            help="Seconds after which the oracle's price is too old to trade on.",
        ),
        click.option(
            "--every", default=5.0, show_default=True, type=click.FloatRange(0.1),
            help="Seconds between two lines about what it did, on standard error.",
        ),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@bot.command("maker")
@_shared
@click.option("--levels", default=3, show_default=True, type=_POSITIVE, help="Price levels a side.")
@click.option("--spread-ppm", default=1_000, show_default=True, type=_PPM, help="Between best bid and best ask.")
@click.option("--step-ppm", default=500, show_default=True, type=_PPM, help="Between two levels.")
@click.option("--skew-ppm", default=1_000, show_default=True, type=_PPM, help="Shift against a full position.")
@click.option("--threshold-ppm", default=200, show_default=True, type=_PPM, help="Move of the mark that it follows.")
@click.option("--max-age", default=30.0, show_default=True, type=click.FloatRange(0.1), help="Seconds a quote lives.")
@json_option
@reports_errors
def maker(
    size: int, max_position: int, levels: int, spread_ppm: int, step_ppm: int, skew_ppm: int, threshold_ppm: int,
    max_age: float, **shared: Any,
) -> None:  # fmt: skip
    """Quote both sides around the mark price, leaning against the position; post-only."""
    from clearing.bots.maker import Quoting
    from clearing.bots.run import make

    quoting = Quoting(
        max_position_lots=max_position,
        size_lots=size,
        levels=levels,
        spread_ppm=spread_ppm,
        step_ppm=step_ppm,
        skew_ppm=skew_ppm,
        threshold_ppm=threshold_ppm,
        max_age_us=round(max_age * 1_000_000),
    )
    _run("maker", lambda trader, stop: make(trader, quoting, stop), **shared)


@bot.command("taker")
@_shared
@click.option("--per-second", default=1.0, show_default=True, type=float, help="Orders on average.")
@click.option("--orders", type=_POSITIVE, help="End after this many orders.")
@click.option("--slippage-ppm", default=5_000, show_default=True, type=_PPM, help="Beyond the mark price, at most.")
@click.option("--seed", default=1, show_default=True, help="Of times, sides and sizes: the same draws every time.")
@json_option
@reports_errors
def taker(
    size: int, max_position: int, per_second: float, orders: int | None, slippage_ppm: int, seed: int, **shared: Any
) -> None:
    """Send immediate-or-cancel orders at random times, of random sides and sizes."""
    import random

    from clearing.bots.run import take
    from clearing.bots.taker import Taking

    taking = Taking(max_position, size, per_second, slippage_ppm)
    rng = random.Random(seed)
    _run("taker", lambda trader, stop: take(trader, taking, rng, stop, orders), **shared)


def _run(
    name: str, work: Any, *, instrument: int, account: int, key: Path, api: str, seconds: float | None, switch: float,
    max_mark_age: float, every: float, as_json: bool,
) -> None:  # fmt: skip
    import asyncio

    from clearing.bots.run import run
    from clearing.bots.trader import trading
    from clearing.cli.member import read_seed

    opening = trading(
        api, account, read_seed(key), instrument, switch_s=switch, max_mark_age_s=max_mark_age
    )  # fmt: skip
    trader = asyncio.run(run(opening, work, seconds=seconds, every_s=every, tell=note))
    found = _summary(name, account, trader)
    emit(found, as_json, _lines(found))


def _summary(name: str, account: int, trader: "Trader") -> dict[str, Any]:
    """Amounts and sizes as decimal strings, as the operator's interface has them."""
    done, view = trader.done, trader.view()
    return {
        "bot": name,
        "account": account,
        "instrument": trader.market.number,
        "batches": done.batches,
        "orders": done.orders,
        "fills": done.fills,
        "filled_lots": str(done.lots),
        "fees_atoms": str(done.fees_atoms),
        "position_lots": str(view.position_lots),
        "open_orders": len(view.orders),
        "rejected": dict(sorted(done.rejected.items())),
        "unanswered": done.unanswered,
    }


def _lines(found: dict[str, Any]) -> list[str]:
    lines = [f"{found['bot']} of account {found['account']} in instrument {found['instrument']} ended"]
    lines.append(f"  sent      {found['orders']:,} orders in {found['batches']:,} batches")
    lines.append(f"  filled    {found['fills']:,} times, {int(found['filled_lots']):,} lots")
    lines.append(f"  fees      {usd(int(found['fees_atoms']))}")
    lines.append(f"  position  {int(found['position_lots']):+,} lots, {found['open_orders']} orders open")
    lines += [f"  rejected  {count:,} {code}" for code, count in found["rejected"].items()]
    lines += [f"  unanswered batches: {found['unanswered']}"] if found["unanswered"] else []
    return lines
