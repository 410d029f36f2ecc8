# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate voucher`: money before the epoch that carries it is final, from the operator's float.

Only `request` asks the operator, for its signature; everything else needs the chain and the voucher's file.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clearing.cli.leaving import open_vault
from clearing.cli.options import (
    NUMBER,
    api_option,
    asset_option,
    json_option,
    parse_amount,
    rpc_option,
    vault_option,
    wallet_option,
)
from clearing.cli.output import emit, fail, note, parse_address, reports_errors

if TYPE_CHECKING:
    from clearing.chain.vault import VaultClient
    from clearing.client.http import ApiClient
    from clearing.exit.assets import Asset
    from clearing.exit.vouchers import SignedVoucher, Standing


@click.group()
def voucher() -> None:
    """Be paid an acknowledged withdrawal at once, from the operator's float."""


@voucher.command("request")
@click.argument("amount")
@click.option(
    "-o", "--output", "file", required=True, type=click.Path(path_type=Path, dir_okay=False),
    help="File for the voucher (mode 0600); an earlier one of this owner and asset is replaced by a higher one.",
)  # fmt: skip
@api_option
@rpc_option
@vault_option
@wallet_option
@asset_option
@click.option("--valid", default=3_600, show_default=True, type=NUMBER, help="Seconds until it expires.")
@json_option
@reports_errors
def request(
    amount: str, file: Path, api: str, rpc: str, vault: str, wallet: Path, asset: int, valid: int, as_json: bool
) -> None:  # fmt: skip
    """Ask the operator to countersign a voucher for AMOUNT beyond what was advanced before.

    It grants no more than it acknowledged as withdrawn: novate withdraw. Then: novate voucher redeem FILE.
    """
    from clearing.client.http import ApiClient
    from clearing.exit import vouchers

    atoms = parse_amount(amount, asset)
    client = open_vault(rpc, vault, wallet)
    known = _asset(client, asset)
    drafted = vouchers.draft(client, client.wallet, asset, atoms, valid)
    vouchers.require_higher(drafted, vouchers.load_last(file))
    asked = drafted.voucher
    with ApiClient(api) as operator:
        number = _number_of(operator, client)
        terms = asset, asked.cumulative, asked.expiry, asked.owner
        answer = operator.voucher(number, *terms, drafted.owner_signature)
    signed = vouchers.countersigned(client, drafted, answer)
    vouchers.save(file, signed)
    standing = vouchers.read_standing(client, asked.owner, asset)
    emit({"file": file} | _row(signed, standing), as_json, vouchers.lines(signed, standing, known))
    note(f"have it paid before it expires: novate voucher redeem {file}")


@voucher.command("redeem")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@rpc_option
@vault_option
@wallet_option
@json_option
@reports_errors
def redeem(file: Path, rpc: str, vault: str, wallet: Path, as_json: bool) -> None:
    """Have the voucher in FILE paid to its owner; any wallet may pay the fee."""
    from clearing.exit import vouchers

    signed = vouchers.load(file)
    client = open_vault(rpc, vault, wallet)
    known = _asset(client, signed.voucher.asset)
    before = vouchers.require_payable(client, signed)
    receipt = client.redeem_voucher(signed.voucher, signed.owner_signature, signed.operator_signature)
    after = vouchers.read_standing(client, signed.voucher.owner, signed.voucher.asset)
    paid = after.total - before.total
    credited = client.credits_in(receipt).get(signed.voucher.asset, 0)
    data = {"paid_atoms": str(paid - credited), "credited_atoms": str(credited), "transaction": receipt.tx_hash}
    lines = [f"paid {known.text(paid - credited)} to 0x{signed.voucher.owner.hex()}, gas {receipt.gas_used:,}"]
    if credited:
        lines.append(f"credited (the token refused the transfer): {known.text(credited)}; later: novate claim")
    emit(data | _row(signed, after), as_json, lines)
    note(f"{known.text(after.outstanding)} will be taken from your next claims, or when you leave")


@voucher.command("show")
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@rpc_option
@vault_option
@click.option("--owner", help="Instead of FILE: whose advances.")
@asset_option
@json_option
@reports_errors
def show(file: Path | None, rpc: str, vault: str, owner: str | None, asset: int, as_json: bool) -> None:
    """What was advanced and repaid, and what the voucher in FILE still pays and until when."""
    from clearing.exit import vouchers
    from clearing.exit.rebuild import require_vault

    if (file is None) == (owner is None):
        raise click.UsageError("give a FILE or --owner ADDRESS")
    signed = vouchers.load(file) if file is not None else None
    who = signed.voucher.owner if signed is not None else parse_address(str(owner), "--owner")
    client = open_vault(rpc, vault, None)
    require_vault(client)
    known = _asset(client, signed.voucher.asset if signed is not None else asset)
    if signed is not None:
        vouchers.require_signed(client, signed)
    standing = vouchers.read_standing(client, who, known.number)
    emit(_row(signed, standing), as_json, vouchers.lines(signed, standing, known))


@voucher.command("float")
@rpc_option
@vault_option
@json_option
@reports_errors
def float_command(rpc: str, vault: str, as_json: bool) -> None:
    """What vouchers can be paid from, by asset, and how much of it per hour."""
    from clearing.exit.assets import read_assets
    from clearing.exit.rebuild import require_vault

    client = open_vault(rpc, vault, None)
    require_vault(client)
    rows, lines = [], []
    for asset in read_assets(client):
        held, cap = client.float_of(asset.number), client.float_cap(asset.number)
        rows.append({"asset": asset.number, "symbol": asset.symbol, "float_atoms": str(held), "cap_atoms": str(cap)})
        limit = "no limit" if cap == 2**96 - 1 else f"at most {asset.text(cap)}"
        lines.append(f"{asset.text(held)} in the float, {limit} per hour")
    emit({"floats": rows, "frozen": client.frozen()}, as_json, lines)


def _asset(client: "VaultClient", number: int) -> "Asset":
    from clearing.exit.assets import read_assets
    from clearing.exit.force import require_asset

    require_asset(client, number)
    return read_assets(client)[number]


def _number_of(operator: "ApiClient", client: "VaultClient") -> int:
    """The vault's number in the operator's deployment."""
    place = client.rpc.chain_id(), "0x" + client.address.hex()
    for row in operator.status().get("vaults", []):
        if (row.get("chain_id"), str(row.get("address")).lower()) == place:
            return int(row["vault"])
    fail("UNKNOWN_VAULT", f"the operator at {operator.url} does not serve vault {place[1]} of chain {place[0]}")


def _row(signed: "SignedVoucher | None", standing: "Standing") -> dict[str, Any]:
    data: dict[str, Any] = {}
    if signed is not None:
        held = signed.voucher
        data = {"owner": held.owner, "asset": held.asset, "cumulative_atoms": str(held.cumulative)}
        data |= {"expiry": held.expiry, "expired": standing.expired(signed)}
    return data | {
        "advanced_atoms": str(standing.total),
        "repaid_atoms": str(standing.repaid),
        "outstanding_atoms": str(standing.outstanding),
        "redeemable_atoms": str(standing.redeemable(signed)),
        "float_atoms": str(standing.float_atoms),
        "frozen": standing.frozen,
    }
