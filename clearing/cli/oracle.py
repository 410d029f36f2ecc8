# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate oracle publish`: one publisher's signed prices, by hand or from a script."""

import time
from decimal import Decimal
from pathlib import Path

import click
import msgspec

from clearing.cli.member import read_seed, show_receipt
from clearing.cli.options import api_option, json_option
from clearing.cli.output import fail, note, parse_usd, reports_errors
from clearing.model import ids
from clearing.model.commands import Price, Surface


@click.group()
def oracle() -> None:
    """Publish signed prices."""


@oracle.command("publish")
@click.argument("prices", nargs=-1, metavar="UNDERLYING=PRICE...")
@click.option(
    "--surface",
    "surfaces",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help='JSON file of one expiry: {"underlying": 1, "expiry_us": …, "forward": "60.5", "vols": {"60": "0.6", …}}, '
    "and rate and confidence if they are not 0 and 1; repeatable.",
)
@click.option(
    "--publisher-key",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The publisher's key file, such as DATA/keys/publisher-0.ed25519.",
)
@api_option
@json_option
@reports_errors
def publish(prices: tuple[str, ...], surfaces: tuple[Path, ...], publisher_key: Path, api: str, as_json: bool) -> None:
    """Sign and submit prices per lot, such as 1=60.00; each update names the hash of the last one."""
    from clearing.client.http import ApiClient
    from clearing.model.commands import OracleUpdate
    from clearing.model.signature import public_key_of, sign

    if not prices and not surfaces:
        raise click.UsageError("give UNDERLYING=PRICE or --surface FILE")
    quoted = tuple(_price(text) for text in prices)
    voted = tuple(_surface(path) for path in surfaces)
    seed = read_seed(publisher_key)
    own = "0x" + public_key_of(seed).hex()
    with ApiClient(api) as client:
        status = client.status()
        mine = [(index, row) for index, row in enumerate(status["publishers"]) if row["key"] == own]
        if not mine:
            fail("UNKNOWN_PUBLISHER", f"{publisher_key} is not the key of a publisher of this venue")
        index, row = mine[0]
        deployment = bytes.fromhex(str(status["deployment"])[2:])
        head = bytes.fromhex(str(row["head"])[2:])
        body = OracleUpdate(deployment, index, head, time.time_ns() // 1_000, quoted, voted)
        receipt = client.submit(sign(body, seed))
        show_receipt(receipt, as_json)
        if not receipt["outcomes"]:
            note("a vote; nothing moves before a quorum of publishers has voted within the permitted age")


def _price(text: str) -> Price:
    underlying, _, price = text.partition("=")
    if not (underlying.isascii() and underlying.isdecimal() and price):
        raise click.UsageError(f"{text!r} is not UNDERLYING=PRICE, such as 1=60.00")
    atoms = parse_usd(price, f"price of {underlying}")
    return Price(int(underlying), atoms, max(1, atoms // 10_000))


class _SurfaceFile(msgspec.Struct, forbid_unknown_fields=True):
    """Prices per lot; vols and rate as plain numbers, 0.65 is 65 % a year. Strings or numbers, read to the digit."""

    underlying: int
    expiry_us: int
    forward: Decimal
    vols: dict[str, Decimal]
    rate: Decimal = Decimal(0)
    confidence: Decimal = Decimal(1)


def _surface(path: Path) -> Surface:
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_SurfaceFile)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{path} is not a surface: {error}") from None
    at = f"{path}: "
    points = sorted((parse_usd(strike, f"{at}strike"), _unit(vol, f"{at}vol")) for strike, vol in found.vols.items())
    forward = parse_usd(format(found.forward, "f"), f"{at}forward")
    confidence, rate = _unit(found.confidence, f"{at}confidence"), _unit(found.rate, f"{at}rate")
    strikes, vols = tuple(strike for strike, _ in points), tuple(vol for _, vol in points)
    spread = max(1, forward // 10_000)
    return Surface(found.underlying, found.expiry_us, forward, spread, rate, confidence, confidence, strikes, vols)


def _unit(value: Decimal, what: str) -> int:
    if not value.is_finite() or abs(value) > 1_000:
        raise click.UsageError(f"{what} {value} is out of range; 0.65 is 65 %")
    return int(value * ids.UNIT)
