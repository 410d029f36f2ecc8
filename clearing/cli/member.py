# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands of a member: session keys, accounts, orders, withdrawals."""

import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from clearing.cli.options import (
    NUMBER,
    account_option,
    api_option,
    asset_option,
    json_option,
    key_option,
    parse_amount,
    receipts_option,
    wallet_option,
)
from clearing.cli.output import emit, fail, lanes, moment, note, parse_address, parse_usd, reports_errors, usd
from clearing.model import ids

if TYPE_CHECKING:
    from clearing.client.session import Session
    from clearing.model.commands import MemberCommand, RegisterKey, RevokeKey

_SCOPES = {"trade": ids.SCOPE_TRADE, "withdraw": ids.SCOPE_WITHDRAW, "transfer": ids.SCOPE_TRANSFER}
_DAY_US = 86_400_000_000


def read_seed(path: Path) -> bytes:
    """A 32-byte key from a file of 64 hex digits that only its owner may read."""
    from clearing.service.layout import read_key

    return read_key(path)


def _session(api: str, account: int, key: Path, proofs: bool = False) -> "Session":
    from clearing.client.http import ApiClient
    from clearing.client.session import Session

    client = ApiClient(api)
    deployment = bytes.fromhex(str(client.status()["deployment"])[2:])
    return Session(client, deployment, account, read_seed(key), proofs=proofs)


def submit(api: str, account: int, key: Path, command: "MemberCommand", as_json: bool) -> None:
    """Sign one command with the session key, submit it, show its receipt, and keep it with `--receipts`."""
    folder: Path | None = click.get_current_context().meta.get("receipts")
    receipt = _session(api, account, key, proofs=folder is not None).submit(command)
    if folder is not None:
        from clearing.cli.receipt import keep

        keep(folder, receipt)
    show_receipt(receipt, as_json)


def show_receipt(receipt: dict[str, Any], as_json: bool) -> None:
    """What became of it; a rejection is journalled and ends with its code."""
    lines = [f"seq {receipt['seq']}, entry {receipt['entry_hash'][:18]}…, journal size {receipt['checkpoint']['size']}"]
    lines += [f"  {outcome['type']}: {_fields(outcome)}" for outcome in receipt["outcomes"]]
    emit(receipt, as_json, lines)
    if receipt["rejected"]:
        from clearing.model.errors import REJECTIONS

        code = receipt["rejected"][0]["code"]
        fail(code, REJECTIONS.get(code, "the reducer refused it"))


def _fields(struct: dict[str, Any]) -> str:
    """name=value, with the fields of an inner struct in its place."""
    return ", ".join(
        _fields(value) if isinstance(value, dict) else f"{name}={value}"
        for name, value in struct.items()
        if name != "type"
    )


# --- keys ---


@click.group()
def key() -> None:
    """Create, register and revoke session keys."""


@key.command("new")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--wallet", "is_wallet", is_flag=True, help="A wallet (secp256k1) instead of a session key.")
@json_option
@reports_errors
def new(file: Path, is_wallet: bool, as_json: bool) -> None:
    """Write a fresh key to FILE (mode 0600); an existing file is never overwritten."""
    if is_wallet:
        from clearing.chain.wallet import Wallet

        emit({"file": file, "address": Wallet.create(file).address}, as_json)
        return
    from clearing.model.signature import public_key_of
    from clearing.service.layout import write_key

    seed = secrets.token_bytes(32)
    write_key(file, seed)
    emit({"file": file, "public_key": public_key_of(seed)}, as_json)


@key.command("register")
@api_option
@wallet_option
@key_option
@click.option("--scope", default="trade,withdraw,transfer", show_default=True, help="What the key may do.")
@click.option("--days", default=30, show_default=True, type=click.IntRange(1, 36_500), help="How long it lives.")
@json_option
@reports_errors
def register(api: str, wallet: Path, key: Path, scope: str, days: int, as_json: bool) -> None:
    """Let the session key act for the wallet's accounts; signed by the wallet (EIP-712)."""
    from clearing.model.commands import RegisterKey
    from clearing.model.signature import public_key_of

    unknown = [name for name in scope.split(",") if name not in _SCOPES]
    if unknown:
        raise click.UsageError(f"--scope {scope!r} is not a list out of {','.join(_SCOPES)}")
    bits = sum({_SCOPES[name] for name in scope.split(",")})
    now = time.time_ns() // 1_000
    public = public_key_of(read_seed(key))

    def action(owner: bytes) -> "RegisterKey":
        return RegisterKey(owner, public, bits, now + days * _DAY_US, now, secrets.token_bytes(32))

    _owner_action(api, wallet, action, as_json)


@key.command("revoke")
@api_option
@wallet_option
@click.option("--public", required=True, help="The key's public half, as `account show --owner` lists it.")
@json_option
@reports_errors
def revoke(api: str, wallet: Path, public: str, as_json: bool) -> None:
    """Take a session key's rights away; signed by the wallet."""
    from clearing.model.commands import RevokeKey

    try:
        raw = bytes.fromhex(public.removeprefix("0x"))
    except ValueError:
        raw = b""
    if len(raw) != 33:
        raise click.UsageError(f"--public {public!r} is not a public key: 0x and 66 hex digits")

    def action(owner: bytes) -> "RevokeKey":
        return RevokeKey(owner, raw, time.time_ns() // 1_000)

    _owner_action(api, wallet, action, as_json)


def _owner_action(api: str, wallet: Path, make: Any, as_json: bool) -> None:
    from clearing.chain.wallet import Wallet
    from clearing.client.http import ApiClient
    from clearing.model.signature import sign_owner

    owner = Wallet.load(wallet).address
    with ApiClient(api) as client:
        deployment = bytes.fromhex(str(client.status()["deployment"])[2:])
        show_receipt(client.submit(sign_owner(deployment, make(owner), read_seed(wallet))), as_json)


# --- accounts ---


@click.group()
def account() -> None:
    """Balances, positions and orders of an account."""


@account.command("show")
@click.argument("number", type=NUMBER, required=False, envvar="NOVATE_ACCOUNT")
@click.option("--owner", help="Show an owner (address): accounts, keys, exits.")
@api_option
@json_option
@click.pass_context
@reports_errors
def show(context: click.Context, number: int | None, owner: str | None, api: str, as_json: bool) -> None:
    """Show account NUMBER (NOVATE_ACCOUNT by default), or with --owner the owner's accounts and keys."""
    from clearing.client.http import ApiClient

    if owner is not None and context.get_parameter_source("number") is ParameterSource.ENVIRONMENT:
        number = None
    if (number is None) == (owner is None):
        raise click.UsageError("give an account NUMBER or --owner ADDRESS")
    with ApiClient(api) as client:
        if owner is not None:
            found = client.owner(parse_address(owner, "--owner"))
            emit(found, as_json, _owner_lines(found))
            return
        assert number is not None
        found = client.account(number)
    emit(found, as_json, _account_lines(found))


def _owner_lines(found: dict[str, Any]) -> list[str]:
    exits, acks = (lanes(found[name]) for name in ("exits_atoms", "withdraw_acks_atoms"))
    lines = [f"owner {found['owner']}, exit leaf {found['leaf_index']}"]
    lines.append(f"  last epoch: exit pays {exits}, withdrawals acknowledged {acks}")
    lines += [f"  account {row['account']} (sub {row['sub']})" for row in found["accounts"]]
    for row in found["keys"]:
        scope = ",".join(name for name, bit in _SCOPES.items() if int(row["scope"]) & bit)
        until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(int(row["expiry_us"]) // 1_000_000))
        lines.append(f"  key {row['key']}: " + ("revoked" if row["revoked"] else f"{scope} until {until}"))
    return lines


def _account_lines(found: dict[str, Any]) -> list[str]:
    lines = [f"account {found['account']} of {found['owner']} (sub {found['sub']})"]
    lines.append(f"  margin by {found['mode']}" + (", its book is on auction" if found["auction"] else ""))
    names = ("equity", "margin_initial", "margin_maintenance", "free", "cash")
    lines += [f"  {name:<20}{usd(int(found[name + '_atoms'])):>24}" for name in names]
    if int(found["debt_atoms"]):
        lines.append(f"  {'debt':<20}{usd(int(found['debt_atoms'])):>24}  that collateral covers, at interest")
    if int(found["pledged_atoms"]):
        since = f"to the default fund, the last at {moment(found['pledge_us'])}"
        lines.append(f"  {'pledged':<20}{usd(int(found['pledged_atoms'])):>24}  {since}")
    for position in found["positions"]:
        size, mark = int(position["size_lots"]), int(position["mark_atoms"])
        gain = size * mark - int(position["entry_cost_atoms"])
        lines.append(
            f"  position  instrument {position['instrument']}: {size:+,} lots at mark {usd(mark)}, P&L {usd(gain)}"
            f"  {position['symbol']}"
        )
    for row in found["holdings"]:
        worth = usd(int(row["value_atoms"]))
        what = f"{row['amount_atoms']} atoms of asset {row['asset']} ({row['symbol']})"
        lines.append(f"  holds     {what}, worth {worth} before haircut")
    for row in found["triggers"]:
        what = f"{row['side']} {int(row['size_lots']):,} lots of {row['instrument']} at {row['when']}"
        then = f"{usd(int(row['trigger_atoms']))}, then {row['kind']} at {usd(int(row['price_atoms']))}"
        other = f", or else {row['oco']}" if int(row["oco"]) else ""
        lines.append(f"  trigger   {row['client_order_id']}: {what} {then}{other}")
    for order in found["orders"]:
        price = usd(int(order["price_atoms"]))
        what = f"{order['side']} {int(order['open_lots']):,} lots of {order['instrument']} at {price}"
        lines.append(f"  order     {order['client_order_id']}: {what}")
    return lines


# --- orders ---


@click.group()
def order() -> None:
    """Place and cancel orders."""


@order.command("place")
@click.argument("instrument", type=NUMBER)
@click.argument("side", type=click.Choice(["buy", "sell"]))
@click.argument("lots", type=NUMBER)
@click.argument("price")
@account_option
@key_option
@api_option
@click.option("--client-id", type=NUMBER, help="Your id for the order; the time in microseconds by default.")
@click.option("--type", "kind", type=click.Choice(["limit", "market"]), default="limit", show_default=True)
@click.option("--tif", type=click.Choice(["gtc", "ioc", "fok", "gtt"]), default="gtc", show_default=True)
@click.option("--expires-in", type=click.IntRange(1, 2**31), help="Seconds until a gtt order expires.")
@click.option("--post-only", is_flag=True)
@click.option("--reduce-only", is_flag=True)
@click.option(
    "--stp", type=click.Choice(["off", "taker", "maker", "both"]), default="taker", show_default=True,
    help="Self-trade prevention: whose order is cancelled.",
)  # fmt: skip
@receipts_option
@json_option
@reports_errors
def place(
    instrument: int, side: str, lots: int, price: str, account: int, key: Path, api: str, client_id: int | None,
    kind: str, tif: str, expires_in: int | None, post_only: bool, reduce_only: bool, stp: str, as_json: bool,
) -> None:  # fmt: skip
    """Place an order for LOTS lots at PRICE per lot (for a market order: the worst price)."""
    from clearing.model.commands import PlaceOrder

    if (tif == "gtt") != (expires_in is not None):
        raise click.UsageError("--tif gtt and --expires-in SECONDS go together")
    now = time.time_ns() // 1_000
    command = PlaceOrder(
        instrument=instrument,
        side=ids.BUY if side == "buy" else ids.SELL,
        price_atoms=parse_usd(price, "PRICE"),
        size_lots=lots,
        client_order_id=now if client_id is None else client_id,
        kind=("limit", "market").index(kind),
        tif=("gtc", "ioc", "fok", "gtt").index(tif),
        post_only=post_only,
        reduce_only=reduce_only,
        stp=("off", "taker", "maker", "both").index(stp),
        expiry_us=now + expires_in * 1_000_000 if expires_in else 0,
    )
    submit(api, account, key, command, as_json)


@order.command("trigger")
@click.argument("instrument", type=NUMBER)
@click.argument("side", type=click.Choice(["buy", "sell"]))
@click.argument("lots", type=NUMBER)
@click.argument("price")
@click.option("--above", help="Arrives when the mark price reaches this from below.")
@click.option("--below", help="Arrives when the mark price reaches this from above.")
@account_option
@key_option
@api_option
@click.option("--client-id", type=NUMBER, help="Your id for the order; the time in microseconds by default.")
@click.option("--type", "kind", type=click.Choice(["limit", "market"]), default="market", show_default=True)
@click.option("--reduce-only/--any", default=True, show_default=True)
@click.option("--oco", type=NUMBER, default=0, help="Client id of the order or trigger that this one cancels.")
@receipts_option
@json_option
@reports_errors
def trigger(
    instrument: int, side: str, lots: int, price: str, above: str | None, below: str | None, account: int, key: Path,
    api: str, client_id: int | None, kind: str, reduce_only: bool, oco: int, as_json: bool,
) -> None:  # fmt: skip
    """Stop or take-profit: an order at PRICE (for a market order the worst) that waits for the mark price."""
    from clearing.model.commands import PlaceTrigger

    if (above is None) == (below is None):
        raise click.UsageError("give --above PRICE or --below PRICE")
    command = PlaceTrigger(
        instrument=instrument,
        side=ids.BUY if side == "buy" else ids.SELL,
        trigger_atoms=parse_usd(above or "", "--above") if below is None else parse_usd(below, "--below"),
        above=above is not None,
        price_atoms=parse_usd(price, "PRICE"),
        size_lots=lots,
        client_order_id=time.time_ns() // 1_000 if client_id is None else client_id,
        kind=("limit", "market").index(kind),
        reduce_only=reduce_only,
        oco=oco,
    )
    submit(api, account, key, command, as_json)


@order.command("cancel")
@click.argument("client_id", type=NUMBER, required=False)
@click.option("--all", "every", is_flag=True, help="Cancel every open order of the account.")
@account_option
@key_option
@api_option
@receipts_option
@json_option
@reports_errors
def cancel(client_id: int | None, every: bool, account: int, key: Path, api: str, as_json: bool) -> None:
    """Cancel the order with your CLIENT_ID, or --all."""
    from clearing.model.commands import CancelAll, CancelOrder

    if every == (client_id is not None):
        raise click.UsageError("give a CLIENT_ID or --all")
    command: MemberCommand = CancelAll() if client_id is None else CancelOrder(client_id)
    submit(api, account, key, command, as_json)


@click.command()
@click.argument("amount")
@account_option
@key_option
@api_option
@asset_option
@receipts_option
@json_option
@reports_errors
def withdraw(amount: str, account: int, key: Path, api: str, asset: int, as_json: bool) -> None:
    """Ask the operator to acknowledge a withdrawal of AMOUNT; claim it when its epoch is final."""
    from clearing.model.commands import Withdraw

    submit(api, account, key, Withdraw(0, asset, parse_amount(amount, asset)), as_json)
    note("claimable on-chain once the epoch that carries it is final: novate claim")
