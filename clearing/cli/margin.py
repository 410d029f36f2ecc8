# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate margin`: how an account is margined, its pledge to the default fund, bids in auctions."""

from pathlib import Path

import click

from clearing.cli.member import submit
from clearing.cli.options import NUMBER, account_option, api_option, json_option, key_option, receipts_option
from clearing.cli.output import emit, moment, parse_usd, reports_errors, usd
from clearing.model import ids


@click.group()
def margin() -> None:
    """Margin mode, default-fund pledges, auctions."""


@margin.command("mode")
@click.argument("mode", type=click.Choice(["standard", "portfolio"]))
@account_option
@key_option
@api_option
@receipts_option
@json_option
@reports_errors
def mode(mode: str, account: int, key: Path, api: str, as_json: bool) -> None:
    """Margin the account by position (standard) or over scenarios (portfolio)."""
    from clearing.model.commands import SetMarginMode

    chosen = ids.PORTFOLIO if mode == "portfolio" else ids.STANDARD
    submit(api, account, key, SetMarginMode(chosen), as_json)


@margin.command("pledge")
@click.argument("amount")
@click.option("--release", is_flag=True, help="Take AMOUNT out instead; only after the lock has passed.")
@account_option
@key_option
@api_option
@receipts_option
@json_option
@reports_errors
def pledge(amount: str, release: bool, account: int, key: Path, api: str, as_json: bool) -> None:
    """Pledge AMOUNT of free cash to the default fund; it stays the member's until a default draws it."""
    from clearing.model.commands import PledgeDefaultFund

    atoms = parse_usd(amount)
    submit(api, account, key, PledgeDefaultFund(-atoms if release else atoms), as_json)


@margin.command("auctions")
@api_option
@json_option
@reports_errors
def auctions(api: str, as_json: bool) -> None:
    """Show the books on offer, and what a bid for all of each would pay now; that falls with time."""
    from clearing.client.http import ApiClient

    with ApiClient(api) as client:
        found = client.auctions()
    lines = []
    for row in found:
        pay = int(row["pay_atoms"])
        now = f"all of it pays its bidder {usd(-pay)} now" if pay < 0 else f"all of it costs {usd(pay)} now"
        since = moment(row["start_us"])
        lines.append(
            f"account {row['account']}: {now}, on offer since {since}, marked at {usd(int(row['value_atoms']))}"
        )
        held = ((p["instrument"], int(p["size_lots"]), p["symbol"]) for p in row["positions"])
        lines += [f"  instrument {number}: {lots:+,} lots  {symbol}" for number, lots, symbol in held]
    emit({"auctions": found}, as_json, lines or ["no book is on offer"])


@margin.command("bid")
@click.argument("debtor", type=NUMBER)
@click.option("--share", default=100, show_default=True, type=click.IntRange(1, 100), help="Percent of the book.")
@click.option("--max-pay", required=True, help="At most this much; negative: be paid at least that.")
@account_option
@key_option
@api_option
@receipts_option
@json_option
@reports_errors
def bid(debtor: int, share: int, max_pay: str, account: int, key: Path, api: str, as_json: bool) -> None:
    """Take a share of account DEBTOR's book at the auction's price."""
    from clearing.model.commands import BidAuction

    size = parse_usd(max_pay.removeprefix("-"), "--max-pay")
    atoms = -size if max_pay.startswith("-") else size
    submit(api, account, key, BidAuction(debtor, share * 10_000, atoms), as_json)
