# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that many commands share, with their environment variables."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from clearing.cli.output import parse_address, parse_usd
from clearing.model.ids import MAX_AMOUNT_ATOMS

if TYPE_CHECKING:
    from clearing.chain.rpc import Rpc
    from clearing.chain.vault import VaultClient

F = TypeVar("F", bound=Callable[..., Any])


class Number(click.IntRange):
    """A whole number, and called so in usage errors."""

    name = "number"


# Numbers that the journal's encoding holds; what they may be beyond that is the reducer's to say.
NUMBER = Number(0, 2**63 - 1)

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
api_option = click.option(
    "--api",
    envvar="NOVATE_API",
    default="http://127.0.0.1:8640",
    show_default=True,
    help="The operator's URL.",
)
# Said wherever an endpoint is asked for.
SEVERAL = "several of one chain, separated by commas, are cross-checked"
rpc_option = click.option(
    "--rpc", envvar="NOVATE_RPC", required=True, help=f"URL of an Ethereum JSON-RPC endpoint; {SEVERAL}."
)
vault_option = click.option("--vault", envvar="NOVATE_VAULT", required=True, help="Address of the vault.")
wallet_option = click.option(
    "--wallet",
    envvar="NOVATE_WALLET",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with the wallet's private key (hex, mode 0600).",
)
key_option = click.option(
    "--key",
    envvar="NOVATE_KEY",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with the session key (hex, mode 0600).",
)


def _receipts(ctx: click.Context, _param: click.Parameter, value: Path | None) -> None:
    ctx.meta["receipts"] = value


# For commands that `clearing.cli.member.submit` signs; it looks in the context.
receipts_option = click.option(
    "--receipts", envvar="NOVATE_RECEIPTS", type=click.Path(path_type=Path, file_okay=False), expose_value=False,
    callback=_receipts, help="Folder to keep the receipt in, as <seq>.tlog-proof.",
)  # fmt: skip
asset_option = click.option(
    "--asset", default=0, show_default=True, type=click.IntRange(0, 3),
    help="Lane of the vault's asset; other than the settlement asset (0), AMOUNT is in the token's atoms.",
)  # fmt: skip
account_option = click.option("--account", envvar="NOVATE_ACCOUNT", required=True, type=NUMBER, help="Account number.")


def open_endpoint(rpc: str) -> "Rpc":
    """The endpoint, or several of one chain that must agree, until the command ends."""
    from clearing.chain.pool import connect

    found = connect(rpc)
    context = click.get_current_context(silent=True)
    if context is not None:
        context.call_on_close(found.close)
    return found


def vault_client(rpc: str, vault: str, wallet: Path | None = None, outbox: Path | None = None) -> "VaultClient":
    """A client of the vault at `rpc`, which must have code there; with a wallet it can send, and with an outbox it
    keeps there what is not mined yet (see clearing.cli.sending)."""
    from clearing.chain.vault import VaultClient
    from clearing.chain.wallet import Wallet

    address = parse_address(vault, "--vault")
    signer = Wallet.load(wallet) if wallet is not None else None
    client = VaultClient(open_endpoint(rpc), address, signer, folder=outbox)
    client.require_code()
    return client


def parse_amount(text: str, asset: int) -> int:
    """Atoms of an amount: units of the settlement asset, whole atoms of any other. Raises `click.UsageError`."""
    if asset == 0:
        return parse_usd(text)
    if not (text.isascii() and text.isdecimal() and len(text) <= 19 and int(text) <= MAX_AMOUNT_ATOMS):
        raise click.UsageError(
            f"amount {text[:40]!r} is not a whole number of atoms below 2^63, as --asset {asset} needs"
        )
    return int(text)
