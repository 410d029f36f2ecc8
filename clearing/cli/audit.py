# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate audit run|replay|explain` and `novate journal fsck`: is the journal what it says, and whole?"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clearing.cli.auditing import Progress, log_statuses, snapshots_of, source_of, tell
from clearing.cli.explain import explain_command
from clearing.cli.options import SEVERAL, json_option, vault_client
from clearing.cli.output import ERROR, emit, fail, reports_errors

if TYPE_CHECKING:
    from clearing.audit.pieces.ranges import Plan
    from clearing.audit.replay import ReplayedEpoch
    from clearing.audit.verdict import Audit, Request
    from clearing.core.reducer import Reducer


@click.group()
def audit() -> None:
    """Replay the journal against itself and the chain."""


audit.add_command(explain_command)

_journal_option = click.option(
    "--journal", help="Data or journal directory, a published log's directory, or its URL."
)  # fmt: skip
_rpc_option = click.option(
    "--rpc", "rpcs", envvar="NOVATE_RPC", multiple=True,
    help=f"Compare with the chain at this URL; once per vault; {SEVERAL}.",
)  # fmt: skip
_vault_option = click.option(
    "--vault", "vaults", envvar="NOVATE_VAULT", multiple=True, help="A vault's address, one for each --rpc."
)
_signatures_option = click.option("--no-signatures", is_flag=True, help="Trust the signatures; replay only.")
_jobs_option = click.option(
    "--jobs", type=click.IntRange(1, 256), help="Processes at once; default: one per core. The verdict is the same."
)  # fmt: skip
_from_option = click.option(
    "--from", "epoch", type=click.IntRange(0), default=0, help="Begin at this epoch's close, from a snapshot."
)
_snapshots_option = click.option(
    "--snapshots", type=click.Path(path_type=Path, file_okay=False),
    help="Folder with state snapshots; default: the one in the data directory.",
)  # fmt: skip
_keep_option = click.option(
    "--keep", "keep_every", type=click.IntRange(1),
    help="Leave a snapshot in --snapshots at epochs that are this many entries apart; one process replays then.",
)  # fmt: skip
_report_option = click.option(
    "--report", "reports", multiple=True, type=click.Path(path_type=Path, dir_okay=False),
    help="Write a report: .html, one self-contained page, or .json; may be repeated.",
)  # fmt: skip
_private_option = click.option(
    "--private", type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="File with the key of a private log.",
)  # fmt: skip


@audit.command("run")
@_journal_option
@click.option("--api", envvar="NOVATE_API", help="Read the journal from the operator at this URL instead.")
@_rpc_option
@_vault_option
@click.option(
    "--policy", type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Witness policy (C2SP tlog-policy) that the checkpoint must satisfy.",
)  # fmt: skip
@_from_option
@_snapshots_option
@_keep_option
@_private_option
@click.option(
    "--time-tolerance", "tolerance_s", type=click.IntRange(0), default=900, show_default=True,
    help="Seconds that entry times may differ from the chain's.",
)  # fmt: skip
@_jobs_option
@_signatures_option
@_report_option
@json_option
@reports_errors
@log_statuses
def run_command(
    journal: str | None,
    api: str | None,
    rpcs: tuple[str, ...],
    vaults: tuple[str, ...],
    policy: Path | None,
    epoch: int,
    snapshots: Path | None,
    keep_every: int | None,
    private: Path | None,
    tolerance_s: int,
    jobs: int | None,
    no_signatures: bool,
    reports: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Audit a venue: journal, chains, money, times, checkpoint and witnesses, in one command.

    Every signature of commands and oracle is verified, every command applied again, every outcome compared byte by
    byte, and every root that a vault holds with the replay's. Deposits less payouts must be what each vault holds,
    and no less than it promises. Entry times must lie between the blocks that bound them.

    \b
    novate audit run --rpc URL --vault ADDR --journal DIR --report audit.html

    Exit codes: 0 everything that was checked agrees (the last lines say what was not checked), 3 the published log's
    bytes do not hold, 4 something could not be read, 5 a difference: the first entry, its fields, both sides.

    Of a private log without its key, or of tiles alone, the posted journal roots, the posted sums against the money
    and the times are checked, and nothing else; that is said, and the exit code is 4.
    """
    if not rpcs or not vaults:
        raise click.UsageError("give --rpc and --vault, once per vault; `audit replay` looks at the journal alone")
    from clearing.audit.verdict import Request

    plan = _plan(jobs, no_signatures, snapshots_of(journal, snapshots), _hook(snapshots, keep_every))
    source = source_of(journal, api, private)
    request = Request(
        source,
        [vault_client(rpc, vault) for rpc, vault in _pairs(rpcs, vaults)],
        plan,
        policy.read_text(encoding="utf-8") if policy is not None else None,
        epoch,
        True,
        tolerance_s,
    )
    tell(_audited(request), as_json, reports)


@audit.command("replay")
@_journal_option
@click.option("--api", envvar="NOVATE_API", help="Read the journal from the operator at this URL instead.")
@_rpc_option
@_vault_option
@_from_option
@_snapshots_option
@_keep_option
@_private_option
@_jobs_option
@_signatures_option
@_report_option
@json_option
@reports_errors
@log_statuses
def replay_command(
    journal: str | None,
    api: str | None,
    rpcs: tuple[str, ...],
    vaults: tuple[str, ...],
    epoch: int,
    snapshots: Path | None,
    keep_every: int | None,
    private: Path | None,
    jobs: int | None,
    no_signatures: bool,
    reports: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Apply every command again, compare every outcome, rebuild every root.

    The local form of `audit run`: it needs no chain, and compares with one where --rpc and --vault say so. Exits 5 at
    the first difference, and says which entry and which field.
    """
    from clearing.audit.verdict import Request

    pairs = _pairs(rpcs, vaults)
    source = source_of(journal, api, private)
    plan = _plan(jobs, no_signatures, snapshots_of(journal, snapshots), _hook(snapshots, keep_every))
    clients = [vault_client(rpc, vault) for rpc, vault in pairs]
    tell(_audited(Request(source, clients, plan, epoch=epoch, times=False)), as_json, reports)


def _pairs(rpcs: tuple[str, ...], vaults: tuple[str, ...]) -> list[tuple[str, str]]:
    if len(rpcs) != len(vaults):
        raise click.UsageError("--rpc and --vault go together, as many of one as of the other")
    return list(zip(rpcs, vaults, strict=True))


def _hook(snapshots: Path | None, keep_every: int | None) -> "Callable[[Reducer, ReplayedEpoch], None] | None":
    if keep_every is None:
        return None
    if snapshots is None:
        raise click.UsageError("--keep needs --snapshots, the folder to keep them in")
    from clearing.audit.pieces.starts import keeper

    return keeper(snapshots, keep_every)


def _plan(
    jobs: int | None,
    no_signatures: bool,
    snapshots: Path | None,
    hook: "Callable[[Reducer, ReplayedEpoch], None] | None",
) -> "Plan":
    import os

    from clearing.audit.pieces.ranges import Plan

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Plan(jobs or cores, not no_signatures, snapshots, on_epoch=hook)


def _audited(request: "Request") -> "Audit":
    from clearing.audit.run import audit as run

    progress = Progress()
    try:
        return run(request, progress)
    finally:
        progress.done()


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
