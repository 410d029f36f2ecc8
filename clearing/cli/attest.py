# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate attest run|status|evidence`: replay a venue live, sign true headers, object to false ones."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clearing.cli.options import SEVERAL, api_option, json_option, open_endpoint
from clearing.cli.output import COULD_NOT_CHECK, ERROR, could_not_check, emit, fail, reports_errors

if TYPE_CHECKING:
    from clearing.chain.vault import VaultClient
    from clearing.chain.wallet import Wallet


@click.group()
def attest() -> None:
    """Watch a venue: replay it live, sign true epochs, veto false ones."""


@attest.command("run")
@api_option
@click.option("--vault", "vaults", envvar="NOVATE_VAULT", multiple=True, required=True, help="A vault's address.")
@click.option(
    "--rpc", "rpcs", envvar="NOVATE_RPC", multiple=True, required=True,
    help=f"Endpoint of that vault's chain, one --rpc for each --vault; {SEVERAL}.",
)  # fmt: skip
@click.option(
    "--wallet", type=click.Path(path_type=Path, dir_okay=False), help="The attestor's key file; without it: only watch."
)
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Own directory: copy, log, evidence.",
)
@click.option("--watch-only", is_flag=True, help="Sign and veto nothing; alert.")
@click.option(
    "--grace", default=600.0, show_default=True, type=click.FloatRange(0),
    help="Seconds that the journal behind a posted header may stay out before it is vetoed as withheld; "
    "well below the vaults' challenge window.",
)  # fmt: skip
@click.option("--alarm", default=86_400, show_default=True, type=click.IntRange(0), help="Seconds before a deadline.")
@click.option("--alert-command", default="", help="Run with every alert as JSON on its standard input.")
@click.option("--interval", default=0.5, show_default=True, type=click.FloatRange(0.01), help="Seconds between looks.")
@click.option("--once", is_flag=True, help="Look once, act and end; an alert is an error.")
@reports_errors
def run(
    api: str, vaults: tuple[str, ...], rpcs: tuple[str, ...], wallet: Path | None, data: Path, watch_only: bool,
    grace: float, alarm: int, alert_command: str, interval: float, once: bool,
) -> None:  # fmt: skip
    """Follow journal and chains until SIGTERM or SIGINT; logs JSON lines to stderr."""

    from clearing.chain.rpc import parse_address
    from clearing.chain.vault import VaultClient
    from clearing.chain.wallet import Wallet
    from clearing.client.http import ApiClient
    from clearing.service.doorbell import Doorbell
    from clearing.service.node import configure_logging
    from clearing.watch.attestor import Attestor, Settings

    if len(rpcs) != len(vaults):
        raise click.UsageError("--rpc and --vault go together, as many of one as of the other")
    try:
        hook = tuple(shlex.split(alert_command))
    except ValueError as error:
        raise click.UsageError(f"--alert-command {alert_command!r} is no command line: {error}") from None
    key = Wallet.load(wallet) if wallet is not None else None
    places = [
        VaultClient(open_endpoint(rpc), parse_address(vault), key) for rpc, vault in zip(rpcs, vaults, strict=True)
    ]
    settings = Settings(watch_only or key is None, grace, alarm, hook)
    if key is not None and not watch_only:
        _require_attestor(places, key)
    log = configure_logging()
    with ApiClient(api) as client:
        attestor = Attestor(data, client, places, key, settings, log)
        try:
            if once:
                attestor.turn()
                _end(attestor.alerts)
                return
            stop = Doorbell()
            stop.answer_signals()
            log.info("watching", signs=not settings.watch_only, vaults=len(places))
            attestor.run(stop, interval)
            log.info("stopped")
        finally:
            attestor.close()


def _require_attestor(places: "list[VaultClient]", key: "Wallet") -> None:
    """End when the key attests none of the vaults. An endpoint that is down now is left to the loop."""
    from clearing.chain.errors import ChainError

    try:
        named = [key.address in place.attestors() for place in places]
    except ChainError as error:
        if not could_not_check(error.code):
            raise
        return
    if not any(named):
        message = f"0x{key.address.hex()} is no attestor of these vaults; give an attestor's --wallet, or --watch-only"
        fail("NOT_ATTESTOR", message)


def _end(alerts: list[dict[str, Any]]) -> None:
    """End with the gravest of the alerts, if there is one: an accusation before a fault."""
    from clearing.watch.evidence import REASONS

    if alerts:
        worst = next((alert for alert in alerts if alert["code"] in REASONS), alerts[0])
        code, message = str(worst["code"]), str(worst["message"])
        fail(code, message, COULD_NOT_CHECK if could_not_check(code) else ERROR)


@attest.command("status")
@click.option("--data", required=True, type=click.Path(path_type=Path, file_okay=False, exists=True))
@json_option
@reports_errors
def status(data: Path, as_json: bool) -> None:
    """What the attestor of this directory knows: entries, epochs signed, objections, alerts."""
    try:
        found = json.loads((data / "status.json").read_text())
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        fail("NO_STATUS", f"no attestor has run on {data} yet; start one with: novate attest run --data {data}")
    emit(found, as_json)


@attest.command("evidence")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@json_option
@reports_errors
def show_evidence(file: Path, as_json: bool) -> None:
    """Check an evidence file and show what it says; its hash is what the veto's event names."""
    from clearing.watch.evidence import load

    digest, content = load(file)
    emit({"hash": "0x" + digest.hex()} | content, as_json)
