# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate oracle publish`: one publisher's signed prices, by hand or from a script."""

import time
from pathlib import Path

import click

from clearing.cli.member import read_seed, show_receipt
from clearing.cli.options import api_option, json_option
from clearing.cli.output import fail, parse_usd, reports_errors
from clearing.model.commands import Price


@click.group()
def oracle() -> None:
    """Publish signed prices."""


@oracle.command("publish")
@click.argument("prices", nargs=-1, required=True, metavar="INSTRUMENT=PRICE...")
@click.option(
    "--publisher-key",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The publisher's key file, such as DATA/keys/publisher-0.ed25519.",
)
@api_option
@json_option
@reports_errors
def publish(prices: tuple[str, ...], publisher_key: Path, api: str, as_json: bool) -> None:
    """Sign and submit prices per lot, such as 1=60.00; each update names the hash of the last one."""
    from clearing.client.http import ApiClient
    from clearing.model.commands import OracleUpdate
    from clearing.model.signature import public_key_of, sign

    quoted = tuple(_price(text) for text in prices)
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
        body = OracleUpdate(deployment, index, head, time.time_ns() // 1_000, quoted)
        show_receipt(client.submit(sign(body, seed)), as_json)


def _price(text: str) -> Price:
    instrument, _, price = text.partition("=")
    if not (instrument.isascii() and instrument.isdecimal() and price):
        raise click.UsageError(f"{text!r} is not INSTRUMENT=PRICE, such as 1=60.00")
    atoms = parse_usd(price)
    return Price(int(instrument), atoms, max(1, atoms // 10_000))
