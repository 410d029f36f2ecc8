# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate force`: withdrawals and exits past an operator who does not listen, through the vault's inbox."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clearing.cli.leaving import open_vault
from clearing.cli.options import (
    asset_option,
    json_option,
    parse_amount,
    rpc_option,
    vault_option,
    wallet_option,
)
from clearing.cli.output import emit, note, parse_address, reports_errors

if TYPE_CHECKING:
    from clearing.chain.rpc import Receipt
    from clearing.chain.vault import VaultClient
    from clearing.exit.force import Request

_sub = click.option(
    "--sub", default=0, show_default=True, type=click.IntRange(0, 65_535), help="Which of your sub-accounts."
)


@click.group()
def force() -> None:
    """Withdraw or close past the operator; if it does not listen, anyone may freeze the vault."""


@force.command("withdraw")
@rpc_option
@vault_option
@wallet_option
@asset_option
@click.option("--amount", help="Units of the settlement asset, atoms of any other; without it, all that is free.")
@_sub
@json_option
@reports_errors
def withdraw(rpc: str, vault: str, wallet: Path, asset: int, amount: str | None, sub: int, as_json: bool) -> None:
    """Ask the contract for a withdrawal of the wallet's money; the operator must deal with it in time."""
    from clearing.exit.force import require_asset, require_live

    atoms = parse_amount(amount, asset) if amount is not None else 0
    client = open_vault(rpc, vault, wallet)
    require_live(client, client.wallet.address)
    require_asset(client, asset)
    _sent(client, client.force_withdrawal(asset, atoms, sub), as_json)


@force.command("exit")
@rpc_option
@vault_option
@wallet_option
@_sub
@json_option
@reports_errors
def exit_command(rpc: str, vault: str, wallet: Path, sub: int, as_json: bool) -> None:
    """Ask that a sub-account of the wallet's be closed (orders, then positions) and paid out."""
    from clearing.exit.force import require_live

    client = open_vault(rpc, vault, wallet)
    require_live(client, client.wallet.address)
    _sent(client, client.force_exit(sub), as_json)


@force.command("status")
@rpc_option
@vault_option
@click.option(
    "--wallet", envvar="NOVATE_WALLET", type=click.Path(path_type=Path, dir_okay=False), help="Whose requests."
)
@click.option("--owner", help="Whose requests; the wallet's own by default.")
@json_option
@reports_errors
def status(rpc: str, vault: str, wallet: Path | None, owner: str | None, as_json: bool) -> None:
    """Requests of an owner: consumed by which epoch, or from when anyone may freeze the vault."""
    from clearing.exit.assets import read_assets
    from clearing.exit.force import requests

    if wallet is None and owner is None:
        raise click.UsageError("give --owner ADDRESS, or --wallet FILE")
    who = parse_address(owner, "--owner") if owner else None
    client = open_vault(rpc, vault, wallet if who is None else None)
    found = requests(client, who or client.wallet.address)
    assets, now_s = read_assets(client), client.rpc.time_s()
    lines = [line for request in found for line in request.lines(assets, now_s)]
    freeze_at = client.freeze_at_s()
    data = {"requests": [_row(request) for request in found], "frozen": client.frozen(), "freeze_at": freeze_at}
    emit(data | {"chain_time": now_s}, as_json, lines or ["no requests"])


def _sent(client: "VaultClient", receipt: "Receipt", as_json: bool) -> None:
    """Show the request that a transaction sent, and what follows from it."""
    from clearing.exit.assets import read_assets
    from clearing.exit.force import request_of, sent_in

    request = request_of(client, sent_in(client, receipt))
    lines = request.lines(read_assets(client), client.rpc.time_s())
    emit(_row(request) | {"transaction": receipt.tx_hash, "gas": receipt.gas_used}, as_json, lines)
    note("see what becomes of it: novate force status")


def _row(request: "Request") -> dict[str, Any]:
    message = request.message
    return {
        "index": message.index,
        "kind": message.kind,
        "asset": message.asset,
        "amount_atoms": str(message.amount),
        "sub": int.from_bytes(message.data, "big"),
        "sent_at": message.l1_time,
        "state": request.fate.value,
        "epoch": request.epoch,
        "deadline": request.deadline_s,
    }
