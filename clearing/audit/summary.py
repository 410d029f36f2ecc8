# SPDX-License-Identifier: GPL-3.0-or-later
"""An audit as JSON data: amounts as decimal strings, since JSON numbers lose digits; hashes as 0x-hex; times in
microseconds (`_us`) or seconds (`_s`) UTC."""

from collections.abc import Sequence
from typing import Any

from clearing.audit.divergence import Divergence
from clearing.audit.replay import ReplayedEpoch
from clearing.audit.verdict import Audit


def hexed(value: bytes) -> str:
    return "0x" + value.hex()


def version() -> str:
    """The installed version, or that there is none."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("novate")
    except PackageNotFoundError:
        return "from source"


def summary(audit: Audit, command: Sequence[str]) -> dict[str, Any]:
    """The whole verdict. `command`: the arguments that make it again."""
    report, genesis = audit.report, audit.genesis
    return {
        "ok": audit.ok,
        "verdict": audit.verdict,
        "version": version(),
        "rules_version": genesis.rules_version if genesis is not None else None,
        "deployment": hexed(genesis.deployment) if genesis is not None else None,
        "origin": genesis.origin if genesis is not None else None,
        "reproduce": " ".join(command),
        "first": report.first,
        "from_epoch": report.first_epoch,
        "entries": report.entries,
        "size": audit.size,
        "root": hexed(audit.root),
        "replayed": audit.replayed,
        "epochs": len(report.epochs),
        "signatures_checked": audit.signatures,
        "chain_compared": bool(audit.vaults) and report.ok,
        "vaults": len(genesis.vaults) if genesis is not None else 0,
        "vaults_compared": len(audit.vaults),
        "vault_table": [
            {
                "vault": vault.number,
                "chain_id": vault.chain_id,
                "address": hexed(vault.address),
                "head_block": vault.head,
                "epochs": len(vault.posted),
            }
            for vault in audit.vaults
        ],
        "parameters": [{"epoch": epoch, "hash": hexed(digest)} for epoch, digest in audit.parameters()],
        "divergence": str(report.divergence) if report.divergence is not None else None,
        "divergence_detail": _divergence(report.divergence),
        "findings": [str(finding) for finding in audit.findings],
        "findings_detail": [
            {"code": f.code, "epoch": f.epoch, "vault": f.vault, "message": f.message} for f in audit.findings
        ],
        "checkpoint": _checkpoint(audit),
        "money": _money(audit),
        "balances": _balances(audit),
        "times": _times(audit),
        "unchecked": audit.unchecked,
        "behind": audit.behind,
        "notes": report.notes,
        "seconds": round(audit.seconds, 3),
        "epoch_table": [_epoch(audit, epoch) for epoch in report.epochs],
    }


def _divergence(found: Divergence | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "seq": found.seq,
        "what": found.what,
        "replay": found.expected,
        "journal": found.found,
        "fields": list(found.fields),
    }


def _checkpoint(audit: Audit) -> dict[str, Any] | None:
    found = audit.checkpoint
    if found is None:
        return None
    return {
        "origin": found.origin,
        "size": found.size,
        "root": hexed(found.root),
        "policy": found.policy,
        "witnesses": list(found.witnesses),
        "compared": found.compared,
        "signed": found.signed,
        "ok": found.ok,
    }


def _money(audit: Audit) -> list[dict[str, Any]]:
    return [
        {
            "vault": vault.number,
            "asset": row.asset,
            "deposited_atoms": str(row.deposited),
            "waiting_atoms": str(row.waiting),
            "paid_out_atoms": str(row.paid_out),
            "holdings_atoms": str(row.holdings),
            "float_atoms": str(row.float_atoms),
            "tokens_atoms": str(row.tokens),
            "promised_atoms": str(row.promised),
            "ok": row.adds_up and row.covered,
        }
        for vault in audit.vaults
        for row in vault.money
    ]


def _balances(audit: Audit) -> list[dict[str, Any]]:
    return [
        {
            "vault": vault.number,
            "epoch": row.epoch,
            "asset": row.asset,
            "consumed_atoms": str(row.consumed),
            "promised_atoms": str(row.promised),
            "paid_out_atoms": str(row.paid_out),
            "held_atoms": str(row.held),
            "ok": row.ok,
        }
        for vault in audit.vaults
        for row in vault.balances
    ]


def _times(audit: Audit) -> list[dict[str, Any]]:
    return [
        {
            "vault": vault.number,
            "epoch": row.epoch,
            "close_us": row.close_us,
            "named_block": row.named_block,
            "named_s": row.named_s,
            "posted_block": row.posted_block,
            "posted_s": row.posted_s,
        }
        for vault in audit.vaults
        for row in vault.times
    ]


def _epoch(audit: Audit, epoch: ReplayedEpoch) -> dict[str, Any]:
    """One epoch: what replay gave, and per vault whether that is what was posted (None: not posted, or not asked)."""
    known = {vault.number: vault for vault in audit.vaults}
    known_start = not audit.report.first_epoch or bool(known)  # headers name those before them
    rows = []
    for number, part in enumerate(epoch.outcome.vaults):
        header = epoch.headers[number]
        posted = known[number].posted.get(epoch.outcome.epoch) if number in known else None
        rows.append(
            {
                "vault": number,
                "live": part.live,
                "exit_root": hexed(part.exit_root),
                "exit_sums": [str(amount) for amount in part.exit_sums],
                "inbox_count": part.inbox_count,
                "header_hash": hexed(header.hash()) if header is not None and known_start else None,
                "posted": posted == header.hash() if posted is not None and header is not None else None,
            }
        )
    return {
        "epoch": epoch.outcome.epoch,
        "size": epoch.journal_size,
        "close_us": epoch.close_time_us,
        "journal_root": hexed(epoch.journal_root),
        "state_root": hexed(epoch.outcome.state_root),
        "params_hash": hexed(epoch.outcome.params_hash),
        "shortfall_atoms": str(epoch.outcome.shortfall_atoms),
        "failing_accounts": epoch.outcome.failing_accounts,
        "vaults": rows,
    }
