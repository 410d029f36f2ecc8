# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate audit replay` and `novate journal fsck`: is the journal what it says, and whole?"""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clearing.cli.options import SEVERAL, json_option, vault_client
from clearing.cli.output import DIVERGED, ERROR, emit, fail, reports_errors

if TYPE_CHECKING:
    from clearing.audit.replay import ReplayReport
    from clearing.chain.vault import VaultClient

EPOCHS_SHOWN = 10


@click.group()
def audit() -> None:
    """Replay the journal against itself and the chain."""


@audit.command("replay")
@click.option(
    "--journal",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Journal or data directory.",
)
@click.option("--api", envvar="NOVATE_API", help="Read the journal from the operator at this URL instead.")
@click.option(
    "--rpc",
    "rpcs",
    envvar="NOVATE_RPC",
    multiple=True,
    help=f"Compare every posted header with the chain at this URL; once per vault; {SEVERAL}.",
)
@click.option("--vault", "vaults", envvar="NOVATE_VAULT", multiple=True, help="A vault's address, one for each --rpc.")
@click.option("--no-signatures", is_flag=True, help="Trust the signatures; replay only.")
@json_option
@reports_errors
def replay_command(
    journal: Path | None,
    api: str | None,
    rpcs: tuple[str, ...],
    vaults: tuple[str, ...],
    no_signatures: bool,
    as_json: bool,
) -> None:
    """Apply every command again, compare every outcome, rebuild every root.

    Exits 5 at the first difference, and says which entry and which field.
    """
    from clearing.audit.replay import replay
    from clearing.cli.sources import entries

    if len(rpcs) != len(vaults):
        raise click.UsageError("--rpc and --vault go together, as many of one as of the other")
    clients = [vault_client(rpc, vault) for rpc, vault in zip(rpcs, vaults, strict=True)]
    # The chains first: every epoch that they hold now is closed in the journal that is read after.
    posted = [client.epoch_count() for client in clients]
    started = time.perf_counter()
    show = sys.stderr.isatty()

    def progress(count: int) -> None:
        if show:
            rate = count / (time.perf_counter() - started)
            click.echo(f"\rreplayed {count:,} entries, {rate:,.0f}/s ", err=True, nl=False)

    report = replay(entries(journal, api), check_signatures=not no_signatures, on_progress=progress)
    if show:
        click.echo("", err=True)
    seconds = time.perf_counter() - started
    findings = _against_chains(report, clients, posted)
    _tell(report, findings, len(clients), not no_signatures, seconds, as_json)
    if report.divergence is not None:
        fail("REPLAY_DIVERGED", f"the journal is not what its commands give: {report.divergence}", DIVERGED)
    if findings:
        fail("CHAIN_DIFFERS", f"disagreements with the chain: {len(findings)}; the first is {findings[0]}", DIVERGED)


def _against_chains(report: "ReplayReport", clients: "list[VaultClient]", posted: list[int]) -> list[str]:
    if not clients or report.divergence is not None:
        return []
    from clearing.audit.chain import compare_with_chain

    pairs = zip(clients, posted, strict=True)
    return [str(finding) for client, count in pairs for finding in compare_with_chain(report, client, count)]


def _tell(
    report: "ReplayReport", findings: list[str], chains: int, signatures: bool, seconds: float, as_json: bool
) -> None:
    vaults = len(report.state.genesis.vaults) if report.state is not None else 0
    data: dict[str, Any] = {
        "ok": report.divergence is None and not findings,
        "entries": report.entries,
        "root": report.root,
        "epochs": len(report.epochs),
        "signatures_checked": signatures,
        "chain_compared": chains > 0 and report.divergence is None,
        "vaults": vaults,
        "vaults_compared": chains if report.divergence is None else 0,
        "divergence": str(report.divergence) if report.divergence else None,
        "findings": findings,
        "seconds": round(seconds, 3),
    }
    lines = [f"replayed {report.entries:,} entries in {seconds:.1f} s, root 0x{report.root.hex()}"]
    if len(report.epochs) > EPOCHS_SHOWN:
        lines.append(f"{len(report.epochs):,} epochs; the last {EPOCHS_SHOWN}:")
    for epoch in report.epochs[-EPOCHS_SHOWN:]:
        for number, part in enumerate(epoch.outcome.vaults):
            name = f"epoch {epoch.outcome.epoch}" + (f", vault {number}" if vaults > 1 else "")
            told = f"exit root {part.exit_root.hex()[:16]}…, sum {part.exit_sums[0]:,} atoms" if part.live else "frozen"
            lines.append(f"{name}: {told}")
    if report.divergence is not None:
        lines.append(f"DIVERGED at {report.divergence}")
    lines += [f"CHAIN DIFFERS: {finding}" for finding in findings]
    if data["ok"]:
        compared = f" (of {chains} of {vaults} vaults)" if chains < vaults else ""
        roots = f" and every posted root is the journal's{compared}" if chains else ""
        lines.append("every outcome recomputed" + roots)
    emit(data, as_json, lines)


@click.group()
def journal() -> None:
    """Check the journal's files."""


@journal.command("fsck")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@json_option
@reports_errors
def fsck_command(directory: Path, as_json: bool) -> None:
    """Re-derive every block hash, tile and the head from the bytes in DIRECTORY."""
    from clearing.cli.sources import journal_path
    from journal.fsck import fsck

    report = fsck(journal_path(directory))
    problems = [{"code": p.code, "reason": p.reason, "seq": p.seq} for p in report.problems]
    data = {
        "ok": report.ok,
        "entries": report.entries,
        "blocks": report.blocks,
        "root": report.root,
        "first_bad_seq": report.first_bad_seq,
        "problems": problems,
        "warnings": list(report.warnings),
    }
    emit(data, as_json, list(report.lines()))
    if not report.ok:
        fail("JOURNAL_CORRUPT", "restore the data directory from a backup or a mirror", ERROR)
