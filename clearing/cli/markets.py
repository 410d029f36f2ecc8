# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate market`: what is listed; listing, delisting, halting and resuming by the operator."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clearing.cli.member import show_receipt
from clearing.cli.options import NUMBER, api_option, json_option
from clearing.cli.output import emit, fail, moment, parse_usd, reports_errors, usd
from clearing.model import ids

if TYPE_CHECKING:
    from clearing.client.http import ApiClient
    from clearing.model.commands import OperatorCommand
    from clearing.model.params import Instrument

_KINDS = ("perpetual", "future", "option")
_data = click.option(
    "--data", "directory", required=True, envvar="NOVATE_DATA",
    type=click.Path(path_type=Path, file_okay=False), help="The operator's data directory, which holds its keys.",
)  # fmt: skip


@click.group()
def market() -> None:
    """Markets: show, list, delist, halt and resume."""


@market.command("show")
@click.argument("instrument", type=NUMBER, required=False)
@api_option
@json_option
@reports_errors
def show(instrument: int | None, api: str, as_json: bool) -> None:
    """Show all markets, or one INSTRUMENT with its book."""
    from clearing.client.http import ApiClient

    with ApiClient(api) as client:
        found = client.instruments()
        if instrument is None:
            emit({"instruments": found}, as_json, [_line(row) for row in found])
            return
        book = client.book(instrument)
    row = next(item for item in found if item["id"] == instrument)
    lines = [_line(row)]
    for name, side in (("ask", reversed(book["asks"][:5])), ("bid", book["bids"][:5])):
        rows = [(usd(int(level["price_atoms"])), int(level["size_lots"])) for level in side]
        lines += [f"  {name} {price:>18} {lots:>12,} lots" for price, lots in rows]
    emit(row | {"book": book}, as_json, lines)


def _line(row: dict[str, Any]) -> str:
    mark = usd(int(row["mark_atoms"])) if int(row["mark_atoms"]) else "no price yet"
    halted = f"  HALTED: {row['halted']}" if row["halted"] else ""
    until = time.strftime("  until %Y-%m-%d %H:%M UTC", time.gmtime(int(row["expiry_us"]) // 1_000_000))
    ends = until if int(row["expiry_us"]) else ""
    return f"{row['id']:>6} {row['symbol']:<28} {_KINDS[row['kind']]:<10} mark {mark}{ends}{halted}"


def _send(directory: Path, api: str, command: "OperatorCommand", as_json: bool) -> None:
    from clearing.cli.signing import submit_as_operator
    from clearing.client.http import ApiClient

    with ApiClient(api) as client:
        show_receipt(submit_as_operator(directory, client, command), as_json)


@market.command("list")
@click.argument("instrument", type=NUMBER)
@click.argument("symbol")
@click.option("--underlying", required=True, help="Symbol of the underlying, such as BTC.")
@click.option("--kind", type=click.Choice(_KINDS), default="perpetual", show_default=True)
@click.option("--expiry", type=click.DateTime(["%Y-%m-%dT%H:%M", "%Y-%m-%d"]), metavar="YYYY-MM-DD[THH:MM]",
              help="UTC; for futures and options.")  # fmt: skip
@click.option("--strike", help="Price per lot; for options.")
@click.option("--call/--put", "is_call", default=None, help="For options.")
@click.option("--tick", default="0.001", show_default=True, help="Price step per lot.")
@click.option("--max-lots", default=1_000_000, show_default=True, type=NUMBER, help="Largest order.")
@click.option("--imf-ppm", default=50_000, show_default=True, type=NUMBER, help="Initial margin fraction.")
@click.option("--mmf-ppm", default=30_000, show_default=True, type=NUMBER, help="Maintenance margin fraction.")
@_data
@api_option
@json_option
@reports_errors
def list_(
    instrument: int, symbol: str, underlying: str, kind: str, expiry: Any, strike: str | None, is_call: bool | None,
    tick: str, max_lots: int, imf_ppm: int, mmf_ppm: int, directory: Path, api: str, as_json: bool,
) -> None:  # fmt: skip
    """List SYMBOL under the number INSTRUMENT by a journalled command of the operator."""
    from datetime import UTC

    from clearing.client.http import ApiClient
    from clearing.model.commands import ListInstrument
    from clearing.model.params import Instrument

    given = (expiry is not None, strike is not None, is_call is not None)
    if given != (kind != "perpetual", kind == "option", kind == "option"):
        raise click.UsageError(
            "a perpetual has neither expiry nor strike; a future needs --expiry; "
            "an option needs --expiry, --strike and --call or --put"
        )
    spec = Instrument(
        instrument,
        symbol,
        underlying,
        parse_usd(tick, "--tick"),
        max_lots,
        imf_ppm,
        mmf_ppm,
        kind=_KINDS.index(kind),
        expiry_us=int(expiry.replace(tzinfo=UTC).timestamp()) * 1_000_000 if expiry else 0,
        strike_atoms=parse_usd(strike, "--strike") if strike else 0,
        is_call=bool(is_call),
    )
    with ApiClient(api) as client:
        _check(client, spec)
    _send(directory, api, ListInstrument(spec), as_json)


def _check(client: "ApiClient", spec: "Instrument") -> None:
    """What the reducer will refuse as INVALID_INSTRUMENT, with the reason."""
    from clearing.cli.params import in_force
    from clearing.model.bounds import check_instrument
    from clearing.model.errors import NovateError
    from clearing.model.params import underlyings_of

    try:
        check_instrument(spec)
    except NovateError as error:
        fail("INVALID_INSTRUMENT", error.message.removesuffix("; mend the parameters"))
    known = [under.symbol for under in underlyings_of(*in_force(client))]
    if spec.underlying not in known:
        fail("INVALID_INSTRUMENT", f"no underlying {spec.underlying!r}; there are {', '.join(known)}")
    if spec.kind != ids.PERPETUAL and spec.expiry_us <= time.time_ns() // 1_000:
        fail("INVALID_INSTRUMENT", f"--expiry {moment(spec.expiry_us)} has passed")


@market.command("delist")
@click.argument("instrument", type=NUMBER)
@_data
@api_option
@json_option
@reports_errors
def delist(instrument: int, directory: Path, api: str, as_json: bool) -> None:
    """Delist INSTRUMENT, which must have neither positions nor open orders."""
    from clearing.model.commands import DelistInstrument

    _send(directory, api, DelistInstrument(instrument), as_json)


@market.command("halt")
@click.argument("instrument", type=NUMBER)
@click.option("--reason", required=True, help="Shown to users.")
@_data
@api_option
@json_option
@reports_errors
def halt(instrument: int, reason: str, directory: Path, api: str, as_json: bool) -> None:
    """Halt INSTRUMENT: orders can be cancelled, none can be placed."""
    from clearing.model.commands import HaltMarket

    _send(directory, api, HaltMarket(instrument, True, reason), as_json)


@market.command("resume")
@click.argument("instrument", type=NUMBER)
@click.option("--reason", default="resumed by the operator", show_default=True, help="Journalled with it.")
@_data
@api_option
@json_option
@reports_errors
def resume(instrument: int, reason: str, directory: Path, api: str, as_json: bool) -> None:
    """Resume a halted INSTRUMENT."""
    from clearing.model.commands import HaltMarket

    _send(directory, api, HaltMarket(instrument, False, reason), as_json)
