# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate fill`: one trade, proven to anybody who has the file."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from clearing.cli.auditing import log_statuses, source_of
from clearing.cli.options import NUMBER, SEVERAL, json_option, vault_client
from clearing.cli.output import emit, fail, moment, reports_errors, usd
from clearing.cli.receipt import (
    checked,
    end,
    fetched,
    file_argument,
    from_api,
    from_journal,
    key_option,
    plain,
    policy_of,
    policy_option,
    private_option,
    read_file,
    require_signer,
    told,
)

if TYPE_CHECKING:
    from clearing.watch.receipts import Receipt


@click.group()
def fill() -> None:
    """Prove a single trade to anybody, and check such a proof."""


@fill.command("prove")
@click.argument("seq", type=NUMBER)
@from_journal
@from_api
@private_option
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="File; <SEQ>.fill by default.")
@json_option
@reports_errors
@log_statuses
def prove(
    seq: int, journal: str | None, api: str | None, private: Path | None, output: Path | None, as_json: bool
) -> None:
    """Write one file that proves the trades of entry SEQ to anybody, offline.

    It holds the entry, its path in the log and the signed checkpoint.
    It shows the whole entry: both sides of each trade, fees, and the margins that it changed.
    """
    found = fetched(seq, journal, api, private)
    rows = _fills(found, _markets(journal, api, private))
    path = output or Path(f"{seq}.fill")
    path.write_text(found.text(), encoding="utf-8")
    emit({"seq": seq, "file": str(path), "fills": rows}, as_json, [*map(_line, rows), f"wrote {path}"])


@fill.command("verify")
@file_argument
@key_option
@policy_option
@click.option("--rpc", envvar="NOVATE_RPC", help=f"Check the signature that a contract takes; {SEVERAL}.")
@click.option("--vault", envvar="NOVATE_VAULT", help="The vault, with --rpc.")
@json_option
@reports_errors
def verify_fill(
    file: Path, key: str | None, policy_file: Path | None, rpc: str | None, vault: str | None, as_json: bool
) -> None:
    """Check a file of `fill prove` and show its trades. Exit codes: 0 proven, 3 not, 4 the chain could not be asked."""
    found = read_file(file, None)
    client = vault_client(rpc, vault) if rpc and vault else None
    policy = policy_of(policy_file)
    done, _ = checked(found, key, client, policy, None)
    done = [step for step in done if step.name != "published"]
    rows = _fills(found, {}) if all(step.status != "failed" for step in done) else []
    emit({"seq": found.index, "steps": plain(done), "fills": rows}, as_json, [*told(done), *map(_line, rows)])
    end(done, None)
    require_signer(key, client, policy)


def _markets(journal: str | None, api: str | None, private: Path | None) -> dict[int, str]:
    """Symbols by instrument, as the operator's interface or the log's genesis has them. For the eye: the file that
    is proven holds numbers."""
    if journal is None:
        from clearing.client.http import ApiClient

        with ApiClient(str(api)) as client:
            return {int(row["id"]): str(row["symbol"]) for row in client.instruments()}
    from clearing.audit.source import genesis_in

    return {spec.id: spec.symbol for spec in genesis_in(source_of(journal, None, private)).instruments}


def _fills(found: "Receipt", markets: dict[int, str]) -> list[dict[str, str]]:
    """The trades of an entry, as text. Ends the command with NO_FILL when there is none.

    Sides are of orders that arrived with the entry, as a taker's does unless it was replaced: else they are "".
    """
    from clearing.model import ids
    from clearing.model.outcomes import OrderPlaced, TradeNovated

    time_us, outcomes = found.outcomes()
    trades = [outcome for outcome in outcomes if isinstance(outcome, TradeNovated)]
    if not trades:
        kinds = ", ".join(dict.fromkeys(type(outcome).__name__ for outcome in outcomes)) or "nothing"
        fail("NO_FILL", f"entry {found.index} made no trade, but: {kinds}; `novate receipt export` proves any entry")
    sides = {outcome.order_id: outcome.side for outcome in outcomes if isinstance(outcome, OrderPlaced)}
    rows = []
    for trade in trades:
        row = {"time": moment(time_us), "market": markets.get(trade.instrument, f"instrument {trade.instrument}")}
        side = sides.get(trade.taker_order_id)
        row["taker_side"] = "" if side is None else "buy" if side == ids.BUY else "sell"
        rows.append(row | {name: str(getattr(trade, name)) for name in trade.__struct_fields__})
    return rows


_VERBS = {"buy": ("bought", "sold"), "sell": ("sold", "bought"), "": ("traded", "traded")}


def _line(row: dict[str, str]) -> str:
    """A trade in units of the settlement asset; a negative fee was paid to the account."""
    price, lots = int(row["price_atoms"]), int(row["size_lots"])
    taker, maker = _VERBS[row["taker_side"]]
    return (
        f"{row['time']}: taker account {row['taker_account']} {taker} {lots:,} lots of {row['market']} at {usd(price)} "
        f"a lot, {usd(price * lots)} in all, fee {usd(int(row['taker_fee_atoms']))} (order {row['taker_order_id']}); "
        f"maker account {row['maker_account']} {maker} them, fee {usd(int(row['maker_fee_atoms']))} "
        f"(order {row['maker_order_id']})"
    )
