# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate audit explain`: how a balance came to be, entry by entry, to the atom."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clearing.cli.auditing import Progress, log_statuses, source_of
from clearing.cli.options import NUMBER, json_option
from clearing.cli.output import emit, moment, note, reports_errors

if TYPE_CHECKING:
    from clearing.audit.explain import Explanation
    from clearing.audit.source import Source


@click.command("explain")
@click.option("--account", envvar="NOVATE_ACCOUNT", required=True, type=NUMBER, help="Account number.")
@click.option("--epoch", required=True, type=click.IntRange(1), help="Up to this epoch's close.")
@click.option("--journal", help="Data or journal directory, a published log's directory, or its URL.")
@click.option("--api", envvar="NOVATE_API", help="Read the journal from the operator at this URL instead.")
@click.option(
    "--private", type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="File with the key of a private log.",
)  # fmt: skip
@click.option(
    "--proofs", type=click.Path(path_type=Path, file_okay=False),
    help="Write a .tlog-proof and the entry of every event into this folder.",
)  # fmt: skip
@click.option("--no-signatures", is_flag=True, help="Trust the signatures; replay only.")
@json_option
@reports_errors
@log_statuses
def explain_command(
    account: int,
    epoch: int,
    journal: str | None,
    api: str | None,
    private: Path | None,
    proofs: Path | None,
    no_signatures: bool,
    as_json: bool,
) -> None:
    """Show how an account's balance came to be: every deposit, fill, fee, funding payment, liquidation, transfer and
    withdrawal with its entry, and from there to the exit leaf that the epoch committed to.

    The journal is replayed and compared up to that epoch; every sum must come out to the atom, or the command fails.
    With --proofs, each event's entry is written down with its proof, which `novate fill prove` and other tools for
    transparency logs understand: <seq>.entry holds the bytes, <seq>.tlog-proof shows that they are in the log.
    """
    from clearing.audit.explain import explain

    source = source_of(journal, api, private)
    progress, size = Progress(), source.size()
    try:
        found = explain(
            source.entries(), account, epoch, check_signatures=not no_signatures,
            on_progress=lambda count: progress(count, size),
        )  # fmt: skip
    finally:
        progress.done()
    written = _write_proofs(source, found, proofs) if proofs is not None else 0
    emit(_data(found), as_json, _lines(found))
    if proofs is not None:
        note(f"{written:,} entries with their proofs are in {proofs}")


def _write_proofs(source: "Source", found: "Explanation", folder: Path) -> int:
    """Entry and proof of every event, to the checkpoint that the journal came with; how many."""
    from clearing.model.errors import NovateError
    from proofs import checkpoint as notes
    from proofs.tlogproof import build

    text = source.note()
    if not text:
        raise NovateError("NO_CHECKPOINT", "this journal came without a signed checkpoint, to which proofs could lead")
    size = notes.parse(text).checkpoint.size
    wanted = sorted({event.seq for event in found.events} | {found.closing_seq})
    beyond = [seq for seq in wanted if seq >= size]
    if beyond:
        raise NovateError("CHECKPOINT_BEHIND", f"entry {beyond[0]} is not in the signed checkpoint of {size} yet")
    folder.mkdir(parents=True, exist_ok=True)
    for seq in wanted:
        ((_, data),) = source.entries(seq, seq + 1)
        (folder / f"{seq}.entry").write_bytes(data)
        (folder / f"{seq}.tlog-proof").write_text(build(seq, source.inclusion(seq, size), text), encoding="utf-8")
    return len(wanted)


def _data(found: "Explanation") -> dict[str, Any]:
    return {
        "account": found.account,
        "owner": found.owner,
        "epoch": found.epoch,
        "closing_seq": found.closing_seq,
        "state_root": found.state_root,
        "cash_atoms": str(found.cash),
        "claim_atoms": str(found.claim),
        "losses_atoms": str(found.losses),
        "by_kind": {kind: str(amount) for kind, amount in found.by_kind().items()},
        "holdings": {str(lane): str(amount) for lane, amount in found.holdings.items()},
        "positions": [
            {
                "instrument": row.instrument,
                "symbol": row.symbol,
                "lots": str(row.lots),
                "mark_atoms": str(row.mark),
                "value_atoms": str(row.value),
                "funding_atoms": str(row.funding),
            }
            for row in found.positions
        ],
        "balances": [
            {
                "vault": row.vault,
                "leaf": row.leaf,
                "exits_atoms": _texts(row.exits),
                "acks_atoms": _texts(row.acks),
                "own_exits_atoms": _texts(row.own),
                "other_accounts_exits_atoms": _texts(row.others),
                "own_acks_atoms": _texts(row.own_acks),
                "total_atoms": _texts(exits + acks for exits, acks in zip(row.exits, row.acks, strict=True)),
            }
            for row in found.balances
        ],
        "events": [
            {
                "seq": event.seq,
                "time_us": event.time_us,
                "kind": event.kind,
                "text": event.text,
                "cash_atoms": str(event.cash),
                "after_atoms": str(event.after),
                "holdings": {str(lane): str(amount) for lane, amount in event.holdings},
                "acks": {str(lane): str(amount) for lane, amount in event.acks},
            }
            for event in found.events
        ],
    }


def _texts(amounts: Iterable[int]) -> list[str]:
    return [str(amount) for amount in amounts]


def _lines(found: "Explanation") -> list[str]:
    lines = [f"account {found.account} of 0x{found.owner.hex()}, up to epoch {found.epoch} (entry {found.closing_seq})"]
    lines.append(f"{'entry':>9}  {'time':23}  {'change':>20}  {'cash after':>20}  what")
    for event in found.events:
        more = "".join(f"; {amount:+,} atoms of lane {lane}" for lane, amount in event.holdings)
        acks = "".join(f"; claimable: +{amount:,}" for _, amount in event.acks)
        lines.append(
            f"{event.seq:>9,}  {moment(event.time_us):23}  {event.cash:>+20,}  {event.after:>20,}  "
            f"{event.kind.lower()}: {event.text}{more}{acks}"
        )
    lines.append("")
    lines += [f"{kind.lower():>24}  {amount:>+24,}" for kind, amount in found.by_kind().items() if amount]
    lines.append(f"{'cash':>24}  {found.cash:>24,}")
    for row in found.positions:
        lines.append(f"{row.symbol:>24}  {row.value:>+24,}  {row.lots:+,} lots at the mark of {row.mark:,}")
        if row.funding:
            lines.append(f"{'funding not settled':>24}  {row.funding:>+24,}")
    lines.append(f"{'claim':>24}  {found.claim:>24,}")
    if found.losses:
        lines.append(f"{'not paid in cash':>24}  {-found.losses:>+24,}  losses nobody covers, dust, or paid in kind")
    lines += [f"{f'lane {lane} held':>24}  {amount:>24,}" for lane, amount in found.holdings.items()]
    for balance in found.balances:
        for asset, exits in enumerate(balance.exits):
            claimable = balance.acks[asset]
            if not exits and not claimable:
                continue
            lines.append(f"vault {balance.vault}, asset {asset}, leaf {balance.leaf} of the exit tree:")
            lines.append(f"{'exit of this account':>24}  {balance.own[asset]:>24,}")
            if balance.others[asset]:
                lines.append(f"{'of the other accounts':>24}  {balance.others[asset]:>24,}")
            lines.append(f"{'exit in the leaf':>24}  {exits:>24,}")
            lines.append(f"{'acks in the leaf':>24}  {claimable:>24,}  this account's: {balance.own_acks[asset]:,}")
            lines.append(f"{'exit + acks':>24}  {exits + claimable:>24,}")
    return lines
