# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate claim` and `novate exit`: money out, from chain data alone.

Nothing here asks the operator: an RPC endpoint and the vault's address are enough.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from clearing.cli.options import json_option, rpc_option, vault_client, vault_option
from clearing.cli.output import ERROR, emit, fail, lanes, note, parse_address, reports_errors

if TYPE_CHECKING:
    from clearing.chain.vault import VaultClient
    from clearing.exit.plan import Estimate, Status
    from clearing.exit.run import Event

_wallet = click.option(
    "--wallet",
    envvar="NOVATE_WALLET",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Wallet that pays the gas (hex key file, mode 0600); anyone's will do.",
)
_owner = click.option("--owner", help="Whose money; the wallet's own by default. Payment goes to the owner only.")
_dry = click.option("--dry-run", is_flag=True, help="Show what would be sent and its gas; send nothing.")


@click.command("claim")
@rpc_option
@vault_option
@_wallet
@_owner
@_dry
@json_option
@reports_errors
def claim(rpc: str, vault: str, wallet: Path | None, owner: str | None, dry_run: bool, as_json: bool) -> None:
    """Collect acknowledged withdrawals whose epoch is final."""
    _require_wallet(wallet, owner, dry_run)
    _leave(vault_client(rpc, vault, wallet), owner, False, dry_run, as_json)


@click.command("exit")
@rpc_option
@vault_option
@_wallet
@_owner
@click.option("--all", "everyone", is_flag=True, help="Serve every owner, not just one.")
@_dry
@json_option
@reports_errors
def leave(
    rpc: str, vault: str, wallet: Path | None, owner: str | None, everyone: bool, dry_run: bool, as_json: bool
) -> None:
    """Leave with everything owed: freeze when the deadline has passed, escape, refund, claim.

    Rebuilds the exit tree from what was posted on-chain. Safe to run again: what is done is skipped.
    """
    if everyone and owner is not None:
        raise click.UsageError("give --owner or --all, not both")
    if everyone and dry_run:
        raise click.UsageError("--dry-run shows one owner; give --owner")
    _require_wallet(wallet, owner, dry_run)
    _leave(vault_client(rpc, vault, wallet), owner, everyone, dry_run, as_json)


def _require_wallet(wallet: Path | None, owner: str | None, dry_run: bool) -> None:
    if wallet is None and not (dry_run and owner is not None):
        raise click.UsageError("give --wallet FILE, which pays the gas; or --dry-run with --owner ADDRESS")


def _leave(client: "VaultClient", owner: str | None, everyone: bool, dry_run: bool, as_json: bool) -> None:
    from clearing.exit.plan import dry_run as estimate
    from clearing.exit.plan import plan, read_vault, status
    from clearing.exit.rebuild import rebuild
    from clearing.exit.run import exit_all, run

    note("rebuilding the exit tree from chain data ...")
    rebuilt = rebuild(client)
    state = read_vault(client, rebuilt)
    if rebuilt is None:
        note("no epoch is final yet: only deposits can be refunded, after a freeze")
    else:
        note(f"epoch {rebuilt.epoch}: {len(rebuilt.leaves)} leaves, root and sums equal the posted header")
    if everyone:
        report = exit_all(client, _listen)
        _finish(report.paid, report.credited, report.gas_used, len(report.done), len(report.failed), as_json)
        return
    who = parse_address(owner, "--owner") if owner else client.wallet.address
    now = status(client, rebuilt, who, state)
    for line in [*_status_lines(now), *_window_lines(client, now)]:
        note(line)
    steps = plan(client, rebuilt, who, state)
    if dry_run:
        _dry_run(estimate(client, steps), now, as_json)
        return
    if not steps:
        _finish([0] * state.lanes, [0] * state.lanes, 0, 0, 0, as_json)
        return
    report = run(client, who, _listen)
    _finish(report.paid, report.credited, report.gas_used, len(report.done), len(report.failed), as_json)


def _listen(event: "Event") -> None:
    if event.state != "start":
        gas = f", gas {event.gas:,}" if event.gas else ""
        why = f" ({event.message})" if event.message else ""
        note(f"  [{event.number}/{event.total}] {event.step.text()}: {event.state}{gas}{why}")


def _status_lines(now: "Status") -> list[str]:
    lines = [f"owner 0x{now.owner.hex()}: owed {lanes(now.owed)} at epoch {now.epoch}"]
    if any(now.refundable):
        lines.append(f"  deposits in no final epoch yet: {lanes(now.refundable)}")
    if any(now.credit):
        lines.append(f"  credit waiting in the vault: {lanes(now.credit)}")
    if now.frozen:
        lines.append("  the vault is frozen" + ("; this owner has escaped" if now.escaped else ""))
    elif now.seconds_to_freeze:
        lines.append(f"  the operator is alive: claimable now {lanes(now.claimable)};")
        lines.append(f"  without another epoch anyone may freeze in {_duration(now.seconds_to_freeze)}")
    else:
        lines.append("  the deadline has passed: the vault can be frozen now")
    return lines


def _window_lines(client: "VaultClient", now: "Status") -> list[str]:
    """When what is posted, but not yet final, can be claimed."""
    if now.frozen or now.latest_epoch <= now.epoch:
        return []
    left = client.header_time_s(now.latest_epoch) + client.challenge_window_s() - now.chain_time_s
    return [f"  epoch {now.latest_epoch} is posted and final in {_duration(max(0, left))}"]


def _duration(seconds: int) -> str:
    hours, rest = divmod(seconds, 3600)
    return f"{hours} h {rest // 60} min {rest % 60} s"


def _dry_run(estimates: "list[Estimate]", now: "Status", as_json: bool) -> None:
    rows = [{"step": e.step.text(), "gas": e.gas, "note": e.reason} for e in estimates]
    lines = [f"{r['step']}: gas {r['gas'] if r['gas'] is not None else '-'} {r['note']}" for r in rows]
    emit({"owed": [str(x) for x in now.owed], "steps": rows}, as_json, lines or ["nothing to do now"])


def _finish(paid: list[int], credited: list[int], gas: int, done: int, failed: int, as_json: bool) -> None:
    data = {
        "paid_atoms": [str(amount) for amount in paid],
        "credited_atoms": [str(amount) for amount in credited],
        "transactions": done,
        "failed": failed,
        "gas": gas,
    }
    lines = [f"paid {lanes(paid)} in {done} transactions, gas {gas:,}"]
    if any(credited):
        lines.append(f"credited (the token refused the transfer): {lanes(credited)}")
    if not done and not failed:
        lines = ["nothing can be paid now"]
    emit(data, as_json, lines)
    if failed:
        fail("EXIT_INCOMPLETE", f"{failed} steps failed; run the same command again", ERROR)
