# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate keeper run`: watch a venue, propose liquidations, bid in auctions, close epochs in stress."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from clearing.cli.options import SEVERAL, account_option, api_option, key_option
from clearing.cli.output import fail, parse_usd, reports_errors

if TYPE_CHECKING:
    from clearing.client.http import ApiClient


@click.group()
def keeper() -> None:
    """Watch a venue: propose liquidations, bid in auctions."""


@keeper.command("run")
@account_option
@key_option
@api_option
@click.option(
    "--journal", type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Follow this journal or data directory; by default the blocks that --api serves.",
)  # fmt: skip
@click.option("--bid", is_flag=True, help="Bid for books on auction with the account's own margin.")
@click.option(
    "--min-discount", default=5.0, show_default=True, type=click.FloatRange(0, 100), help="Percent that makes a bid."
)
@click.option(
    "--operator-data", type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Data directory with the operator's keys: lets the keeper close an epoch in stress.",
)  # fmt: skip
@click.option(
    "--rpc", "rpcs", multiple=True,
    help=f"Endpoint of a vault's chain for such an epoch, in genesis's order; {SEVERAL}; by default as in config.toml.",
)  # fmt: skip
@click.option(
    "--stress-share", default=0.0, show_default=True, type=click.FloatRange(0, 100),
    help="Stress: this percent of the accounts with positions is below maintenance; 0: off.",
)  # fmt: skip
@click.option("--fund-floor", default="0", show_default=True, help="Stress: the insurance fund holds less; 0: off.")
@click.option("--emergency-seconds", default=300, show_default=True, type=click.IntRange(1), help="Time between two.")
@click.option("--interval", default=0.5, show_default=True, type=click.FloatRange(0.01), help="Seconds between looks.")
@click.option("--once", is_flag=True, help="Look once, act and end.")
@reports_errors
def run(
    account: int, key: Path, api: str, journal: Path | None, bid: bool, min_discount: float, operator_data: Path | None,
    rpcs: tuple[str, ...], stress_share: float, fund_floor: str, emergency_seconds: int, interval: float, once: bool,
) -> None:  # fmt: skip
    """Replay the venue's journal as it grows and act on it until SIGTERM or SIGINT; logs JSON lines to stderr."""

    from clearing.cli.member import read_seed
    from clearing.client.http import ApiClient
    from clearing.client.session import Session
    from clearing.service.doorbell import Doorbell
    from clearing.service.keeper import EmergencyEpochs, Follower, Keeper, Settings, from_api, from_directory
    from clearing.service.node import configure_logging

    settings = Settings(
        bid=bid,
        min_discount_ppm=round(min_discount * 10_000),
        stress_ppm=round(stress_share * 10_000),
        fund_floor_atoms=parse_usd(fund_floor, "--fund-floor"),
        emergency_seconds=emergency_seconds,
    )
    log = configure_logging()
    with ApiClient(api) as client:
        deployment = bytes.fromhex(str(client.status()["deployment"])[2:])
        _require_key(client, account, key)
        session = Session(client, deployment, account, read_seed(key))
        source = from_directory(journal) if journal is not None else from_api(client)
        emergency = EmergencyEpochs(operator_data, client, rpcs) if operator_data is not None else None
        watch = Keeper(Follower(source), session, settings, log, emergency)
        if once:
            log.info("done", submitted=watch.turn())
            return
        stop = Doorbell()
        stop.answer_signals()
        log.info("watching", account=account)
        watch.run(stop, interval)
        log.info("stopped")


def _require_key(client: "ApiClient", account: int, key: Path) -> None:
    """A keeper that could not sign would not be noticed before it is needed. Raises `NovateError`."""
    from clearing.cli.member import read_seed
    from clearing.model.signature import public_key_of

    public = "0x" + public_key_of(read_seed(key)).hex()
    owner = client.owner(bytes.fromhex(str(client.account(account)["owner"])[2:]))
    if not any(row["key"] == public and not row["revoked"] for row in owner["keys"]):
        fail("UNKNOWN_KEY", f"{key} is not a key of account {account}; register it with: novate key register")
