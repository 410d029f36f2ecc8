# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate init`: from nothing to a venue that can run, in one command.

Rules: nothing is overwritten, and what was interrupted is finished by the same command again: keys that exist are
kept, and a vault that was deployed is on record (`vault.json`) before anything else happens, so that it is not paid
for twice.
"""

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from clearing.cli.options import NUMBER, SEVERAL, json_option, open_endpoint, wallet_option
from clearing.cli.output import emit, fail, note, parse_address, parse_usd, reports_errors

if TYPE_CHECKING:
    from clearing.chain.rpc import Rpc
    from clearing.chain.wallet import Wallet

RECORD: Final = "vault.json"
_WEI: Final = 10**18


@click.command("init")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--rpc", envvar="NOVATE_RPC", required=True, help=f"URL of an Ethereum JSON-RPC endpoint; {SEVERAL}.")
@wallet_option
@click.option("--treasury", help="Owner of the house's leaf; the wallet's address by default.")
@click.option("--token", help="Address of the settlement asset; a worthless test token is made without it.")
@click.option("--gas", default="0", show_default=True, help="Ether to send from the wallet to the operator's address.")
@click.option("--deadline", default=604_800, show_default=True, type=NUMBER, help="Seconds until anyone may freeze.")
@click.option("--window", default=3_600, show_default=True, type=NUMBER, help="Challenge window in seconds.")
@click.option("--min-deposit", default="10", show_default=True, help="Smallest first deposit, in units.")
@click.option("--confirmations", default="12", show_default=True, help='Blocks until final, or "finalized".')
@click.option("--origin", default="novate.local", show_default=True, help="Domain name in the journal's origin.")
@click.option("--publishers", default=1, show_default=True, type=click.IntRange(1, 64), help="Oracle publishers.")
@click.option("--instruments", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="JSON list.")
@click.option(
    "--params", "params_file", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="JSON, or a part."
)
@json_option
@reports_errors
def init(directory: Path, as_json: bool, **given: Any) -> None:
    """Set a venue up in DIRECTORY: make its keys, deploy its vault from the wallet, write configuration and genesis.

    Nothing is overwritten; interrupted, it goes on where it was. For a vault with attestors, a governor or several
    chains: novate operator keys, vault deploy, operator init.
    """
    from clearing.chain.wallet import Wallet
    from clearing.cli.operator import found_venue
    from clearing.service.config import FILE_NAME
    from clearing.service.layout import Layout, create_keys

    if Layout(directory).journal.exists() or (directory / FILE_NAME).exists():
        fail("DATA_DIR_NOT_EMPTY", f"{directory} holds a deployment; choose another directory")
    rpc, payer = open_endpoint(given["rpc"]), Wallet.load(given["wallet"])
    gas_wei = _ether(given["gas"])
    made = create_keys(directory, given["publishers"])
    operator = Wallet(made.operator_secp256k1).address
    vault = _recorded(directory) or _deploy(directory, rpc, payer, operator, given)
    found = found_venue(
        directory, (given["rpc"],), ("0x" + vault.hex(),), given["confirmations"], given["origin"],
        given["publishers"], given["instruments"], given["params_file"],
    )  # fmt: skip
    if gas_wei:
        _top_up(rpc, payer, operator, gas_wei)
    emit(found | {"operator_address": operator, "operator_wei": rpc.balance(operator)}, as_json)
    if not rpc.balance(operator):
        note(f"send some ether for gas to the operator's address 0x{operator.hex()}")
    note(f"next: novate doctor {directory}, then: novate operator run {directory}")


def _deploy(directory: Path, rpc: "Rpc", payer: "Wallet", operator: bytes, given: dict[str, Any]) -> bytes:
    """A new vault, on record before it is used."""
    import msgspec

    from clearing.chain.deploy import VaultParams, deploy_token, deploy_vault
    from clearing.service.epochs import write_durably

    treasury = parse_address(given["treasury"], "--treasury") if given["treasury"] else payer.address
    least = parse_usd(given["min_deposit"], "--min-deposit")
    if given["token"]:
        token = parse_address(given["token"], "--token")
    else:
        note("no --token: deploying a worthless test token")
        token = deploy_token(rpc, payer)
    params = VaultParams(
        secrets.token_bytes(32), operator, treasury, [token], given["deadline"], given["window"], least
    )
    note("deploying the vault")
    vault = deploy_vault(rpc, payer, params).address
    record = {"vault": "0x" + vault.hex(), "token": "0x" + token.hex(), "chain_id": rpc.chain_id()}
    write_durably(directory / RECORD, msgspec.json.encode(record) + b"\n")
    return vault


def _recorded(directory: Path) -> bytes | None:
    """The vault that an interrupted `init` deployed."""
    import msgspec

    try:
        record = msgspec.json.decode((directory / RECORD).read_bytes(), type=dict[str, Any])
    except FileNotFoundError:
        return None
    note(f"going on with the vault of {directory / RECORD}")
    return parse_address(str(record.get("vault")), f"vault in {directory / RECORD}")


def _top_up(rpc: "Rpc", payer: "Wallet", operator: bytes, wei: int) -> None:
    """Bring the operator's address up to `wei`, so that a repeated command pays once."""
    from clearing.chain.transact import Sender

    missing = wei - rpc.balance(operator)
    if missing > 0:
        Sender(rpc, payer).send(operator, b"", missing)


def _ether(text: str) -> int:
    """Wei from a decimal amount of ether, or a usage error."""
    whole, _, fraction = text.partition(".")
    if not (whole.isdecimal() and whole.isascii() and (fraction or "0").isdecimal() and len(fraction) <= 18):
        raise click.UsageError(f"--gas {text[:40]!r} is not a decimal amount of ether, such as 0.5")
    return int(whole[:12]) * _WEI + int(fraction.ljust(18, "0"))
