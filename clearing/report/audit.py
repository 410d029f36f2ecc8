# SPDX-License-Identifier: GPL-3.0-or-later
"""An audit as one self-contained page: the verdict first, then what it rests on, then every epoch.

Rule: the page is made from the audit's JSON (`clearing.audit.summary`) and nothing else, so both say the same.
"""

import time
from typing import Any

from clearing.report.html import Section, document
from clearing.report.tables import Table

# A page of more rows is no page; the JSON has them all.
_EPOCHS_SHOWN = 2_000
_SHORT = 18


def audit_page(found: dict[str, Any]) -> str:
    """The document of an audit's summary."""
    sections = [_verdict(found), *_divergence(found), *_findings(found), _basis(found)]
    sections += [*_money(found), *_epochs(found), *_times(found), _limits()]
    lead = f"{found['origin']}, deployment {found['deployment']}" if found["deployment"] else "no genesis"
    return document(f"Audit: {verdict(found)}", lead, sections, found["reproduce"])


def verdict(found: dict[str, Any]) -> str:
    """In a few words."""
    if found["divergence"]:
        return f"diverges at entry {found['divergence_detail']['seq']}"
    if found["findings"]:
        count = len(found["findings"])
        return f"{count} disagreement{'s' * (count > 1)}"
    if not found["replayed"]:
        return "no verdict: the entries could not be read"
    if found["behind"]:
        return "no verdict: entries that were posted are missing"
    return "everything that was checked agrees"


def _pairs(rows: list[tuple[str, str]]) -> Table:
    return Table("", (), tuple(rows))


def _verdict(found: dict[str, Any]) -> Section:
    first = f"{found['first']:,}" if found["first"] else "genesis"
    signatures = "checked" if found["signatures_checked"] else "not checked"
    rows = [
        ("verdict", verdict(found)),
        ("entries replayed", f"{found['entries']:,} from {first} on" if found["replayed"] else "none"),
        ("epochs", f"{found['epochs']:,}"),
        ("signatures of commands and oracle", signatures),
        ("vaults compared", f"{found['vaults_compared']} of {found['vaults'] or 'an unknown number'}"),
        ("log", f"{found['size']:,} entries, root {found['root']}"),
    ]
    note = found["checkpoint"]
    if note is not None:
        rows.append(("signed checkpoint", f"{note['size']:,} entries, {_held(note)}"))
        none = "none that satisfy the policy" if note["policy"] else "none asked for"
        rows.append(("witnesses", ", ".join(note["witnesses"]) or none))
    unchecked = Table("Not checked", ("what",), tuple((text,) for text in found["unchecked"]))
    return Section("Verdict", "", (_pairs(rows), unchecked))


def _held(note: dict[str, Any]) -> str:
    if not note["compared"]:
        return "not compared"
    if note["ok"]:
        return "holds"
    return "its root is the log's; whose key signed it was not checked" if not note["signed"] else "does not hold"


def _divergence(found: dict[str, Any]) -> list[Section]:
    detail = found["divergence_detail"]
    if detail is None:
        return []
    text = (
        f"Entry {detail['seq']} is the first that its command does not give ({detail['what']}). "
        "What follows it proves nothing."
    )
    rows = [("the journal says", detail["journal"]), ("replay gives", detail["replay"])]
    fields = Table("Fields that differ", ("field",), tuple((field,) for field in detail["fields"]))
    return [Section("First divergence", text, (_pairs(rows), fields))]


def _findings(found: dict[str, Any]) -> list[Section]:
    if not found["findings_detail"]:
        return []
    rows = tuple(
        (row["code"], str(row["epoch"] or ""), str(row["vault"]) if row["vault"] >= 0 else "", row["message"])
        for row in found["findings_detail"]
    )
    return [Section("Disagreements", "", (Table("", ("code", "epoch", "vault", "what"), rows),))]


def _basis(found: dict[str, Any]) -> Section:
    rows = [
        ("version", str(found["version"])),
        ("rules", str(found["rules_version"])),
        ("deployment", found["deployment"] or "unknown"),
    ]
    rows += [
        (f"vault {row['vault']}", f"{row['address']} on chain {row['chain_id']}, read at block {row['head_block']:,}")
        for row in found["vault_table"]
    ]
    params = tuple((str(row["epoch"] or "genesis"), row["hash"]) for row in found["parameters"])
    notes = Table("Notes", ("what",), tuple((text,) for text in found["notes"]))
    return Section(
        "What this rests on", "", (_pairs(rows), Table("Parameters, from epoch", ("epoch", "hash"), params), notes)
    )


def _money(found: dict[str, Any]) -> list[Section]:
    if not found["money"]:
        return []
    names = ("deposited", "waiting", "paid_out", "holdings", "float", "tokens", "promised")
    rows = tuple(
        (f"{row['vault']}/{row['asset']}", *(f"{int(row[name + '_atoms']):,}" for name in names), _yes(row["ok"]))
        for row in found["money"]
    )
    heads = (
        "vault/asset",
        "deposited",
        "not consumed",
        "paid out",
        "holdings",
        "float",
        "tokens",
        "promised",
        "adds up",
    )
    text = (
        "Atoms. Deposited less paid out is what the vault holds; the tokens are there; promised is what the leaves of "
        "the last posted epoch say, paid out or not."
    )
    return [Section("Money now", text, (Table("", heads, rows),)), *_balances(found)]


def _balances(found: dict[str, Any]) -> list[Section]:
    names = ("consumed", "promised", "paid_out", "held")
    kept = [row for row in found["balances"] if not row["ok"]] + found["balances"][-_EPOCHS_SHOWN:]
    rows = tuple(
        (
            str(row["epoch"]),
            f"{row['vault']}/{row['asset']}",
            *(f"{int(row[name + '_atoms']):,}" for name in names),
            _yes(row["ok"]),
        )
        for row in kept
    )
    heads = ("epoch", "vault/asset", "deposits consumed", "promised", "paid out by then", "held then", "covered")
    text = (
        "Atoms, at the block that posted each epoch. No epoch may promise more than the deposits it consumed, nor owe "
        "more, beyond what was paid out, than the vault held."
    )
    if len(found["balances"]) > _EPOCHS_SHOWN:
        text += " The last rows, and those that are not covered; the JSON report has them all."
    return [Section("Money at every epoch", text, (Table("", heads, rows),))] if rows else []


def _epochs(found: dict[str, Any]) -> list[Section]:
    table = found["epoch_table"]
    rows = tuple(_epoch_row(epoch, part) for epoch in table[-_EPOCHS_SHOWN:] for part in epoch["vaults"])
    heads = (
        "epoch", "entries", "closed", "vault", "as posted", "exit sums", "exit root", "state root", "journal root",
        "parameters",
    )  # fmt: skip
    text = "Every figure is the replay's. As posted: whether the vault's header is this one, byte for byte."
    if len(table) > _EPOCHS_SHOWN:
        text += f" The last {_EPOCHS_SHOWN:,} of {len(table):,}; the JSON report has them all."
    return [Section("Epochs", text, (Table("", heads, rows),))] if rows else []


def _epoch_row(epoch: dict[str, Any], part: dict[str, Any]) -> tuple[str, ...]:
    return (
        str(epoch["epoch"]),
        f"{epoch['size']:,}",
        _moment(epoch["close_us"] // 1_000_000),
        str(part["vault"]),
        _yes(part["posted"]) if part["live"] else "frozen",
        " ".join(f"{int(amount):,}" for amount in part["exit_sums"]),
        _short(part["exit_root"]),
        _short(epoch["state_root"]),
        _short(epoch["journal_root"]),
        _short(epoch["params_hash"]),
    )


def _times(found: dict[str, Any]) -> list[Section]:
    rows = tuple(
        (
            str(row["epoch"]),
            str(row["vault"]),
            _moment(row["close_us"] // 1_000_000),
            f"{row['named_block']:,}",
            _moment(row["named_s"]) if row["named_s"] else "not on the chain",
            f"{row['posted_block']:,}",
            _moment(row["posted_s"]),
        )
        for row in found["times"][-_EPOCHS_SHOWN:]
    )
    heads = ("epoch", "vault", "closed", "names block", "of", "posted in block", "of")
    text = "Every entry of an epoch lies between the block that the close before it names and the block that posted it."
    return [Section("Times", text, (Table("", heads, rows),))] if rows else []


def _limits() -> Section:
    text = (
        "An audit shows that the journal is what its signed commands give under the published rules, and that the "
        "chain holds its roots. It cannot show what was never journalled: an order that the operator refused to take, "
        "or took late, leaves no trace here; receipts and forced requests are for that. Nor does it show that there "
        "is no second journal: witnesses and the vault's evidence are for that."
    )
    return Section("What an audit cannot show", text)


def _yes(value: bool | None) -> str:
    return "not posted" if value is None else "yes" if value else "NO"


def _short(text: str) -> str:
    return text[:_SHORT] + "…"


def _moment(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))
