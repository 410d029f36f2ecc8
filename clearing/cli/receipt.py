# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate receipt`: proof that the operator took a command, and what to do when that is denied.

A receipt file is a `.tlog-proof` with its entry beside it (`<name>.entry`) or inside it.
"""

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clearing.cli.auditing import log_statuses, source_of
from clearing.cli.logs import read_policy, statuses
from clearing.cli.options import NUMBER, SEVERAL, json_option, rpc_option, vault_client, vault_option
from clearing.cli.output import COULD_NOT_CHECK, DIVERGED, PROOF_INVALID, emit, fail, reports_errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clearing.chain.vault import VaultClient
    from clearing.watch.receipts import Broken, Receipt
    from journal.published import Check, PublishedLog
    from proofs.checkpoint import Checkpoint
    from proofs.policy import Policy
    from proofs.verify import Step

MARKS = {"ok": "ok     ", "failed": "FAILED ", "skipped": "skipped"}

file_argument = click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
entry_option = click.option(
    "--entry", "entry_file", type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="The entry's bytes; default: inside FILE, or <name>.entry beside it.",
)  # fmt: skip
key_option = click.option("--key", help="Verifier key of the operator's log, <origin>+<id>+<base64>.")
policy_option = click.option(
    "--policy", "policy_file", type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Witness policy (C2SP tlog-policy) that the checkpoint must satisfy.",
)  # fmt: skip
from_journal = click.option("--journal", help="Data or journal directory, a published log's directory, or its URL.")
from_api = click.option("--api", envvar="NOVATE_API", help="The operator's URL, without --journal.")
private_option = click.option(
    "--private", type=click.Path(path_type=Path, dir_okay=False), help="File with the key of a private log."
)
log_option = click.option("--log", help="The published log, a directory or its URL: does it keep the receipt?")
wallet_option = click.option(
    "--wallet", envvar="NOVATE_WALLET", type=click.Path(path_type=Path, dir_okay=False),
    help="File with the private key of the wallet that sends.",
)  # fmt: skip


@click.group()
def receipt() -> None:
    """Receipts: export, verify, and dispute what the operator signed and then denies."""


# --- where receipts come from ---


@receipt.command("export")
@click.argument("seq", type=NUMBER)
@from_journal
@from_api
@private_option
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder.")
@json_option
@reports_errors
@log_statuses
def export(seq: int, journal: str | None, api: str | None, private: Path | None, output: Path, as_json: bool) -> None:
    """Write <SEQ>.tlog-proof and <SEQ>.entry: entry SEQ, shown to be in a log that the operator signed."""
    from proofs import tlogproof

    found = fetched(seq, journal, api, private)
    output.mkdir(parents=True, exist_ok=True)
    proof, entry = output / f"{seq}.tlog-proof", output / f"{seq}.entry"
    entry.write_bytes(found.entry)
    proof.write_text(tlogproof.build(seq, found.path, found.note), encoding="utf-8")
    data = {"seq": seq, "size": found.tip.size, "root": found.tip.root, "proof": str(proof), "entry": str(entry)}
    emit(data, as_json, [f"wrote {proof} and {entry.name}: entry {seq} in the log of {found.tip.size:,} entries"])


def fetched(seq: int, journal: str | None, api: str | None, private: Path | None) -> "Receipt":
    """Entry, path and note, from a journal or from the operator. Inclusion is checked."""
    from clearing.audit.source import entry_of
    from clearing.model.errors import NovateError
    from clearing.watch.receipts import Receipt
    from proofs import checkpoint as notes

    if journal is None:
        found = _served(seq, api)
    else:
        source = source_of(journal, None, private)
        text = source.note()
        if not text:
            raise NovateError("NO_CHECKPOINT", "this journal came without a signed checkpoint; publish it first")
        size = notes.parse(text).checkpoint.size
        if seq >= size:
            raise NovateError("CHECKPOINT_BEHIND", f"entry {seq} is not in the signed checkpoint of {size} entries")
        found = Receipt(seq, entry_of(source, seq), tuple(source.inclusion(seq, size)), text)
    _require_shown(found)
    return found


def _served(seq: int, api: str | None) -> "Receipt":
    from clearing.client.http import ApiClient

    if api is None:
        raise click.UsageError("give --journal DIR or --api URL")
    with ApiClient(api) as client:
        return _receipt_in(client.receipt(seq))


def _receipt_in(data: dict[str, Any]) -> "Receipt":
    """What the operator's interface answers with."""
    from clearing.watch.receipts import Receipt

    try:
        entry, path = bytes.fromhex(data["entry"][2:]), tuple(bytes.fromhex(item[2:]) for item in data["proof"])
        return Receipt(int(data["seq"]), entry, path, str(data["checkpoint"]["note"]))
    except (KeyError, TypeError, ValueError):
        fail("API_ANSWER", "the operator's answer is no receipt with a proof", COULD_NOT_CHECK)


def keep(folder: Path, data: dict[str, Any]) -> None:
    """Write the receipt of a submission as <seq>.tlog-proof, its entry inside; ends the command if it shows nothing."""
    found = _receipt_in(data)
    _require_shown(found)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{found.index}.tlog-proof").write_text(found.text(), encoding="utf-8")


def _require_shown(found: "Receipt") -> None:
    from clearing.watch.receipts import steps

    wrong = [step for step in steps(found) if step.status == "failed"]
    if wrong:
        fail("RECEIPT_INVALID", f"what was served does not hold: {wrong[0].name}: {wrong[0].detail}", PROOF_INVALID)


# --- verify ---


@receipt.command("verify")
@file_argument
@entry_option
@key_option
@policy_option
@log_option
@click.option("--rpc", envvar="NOVATE_RPC", help=f"Check the signature that a contract takes; {SEVERAL}.")
@click.option("--vault", envvar="NOVATE_VAULT", help="Your vault, with --rpc.")
@json_option
@reports_errors
@statuses
def verify(
    file: Path,
    entry_file: Path | None,
    key: str | None,
    policy_file: Path | None,
    log: str | None,
    rpc: str | None,
    vault: str | None,
    as_json: bool,
) -> None:
    """Check a receipt step by step: entry, inclusion, the operator's signatures, witnesses, the published log.

    Exit codes: 0 everything that was asked for holds, 3 the receipt is none, 4 something could not be asked,
    5 RECEIPT_VIOLATED: the published log denies what the operator signed; `novate receipt dispute` takes it on.
    Of whom a receipt is, --key says, --rpc with --vault, or a --policy that names logs: without them it is 4.
    """
    found = read_file(file, entry_file)
    client = vault_client(rpc, vault) if rpc and vault else None
    policy = policy_of(policy_file)
    done, broken = checked(found, key, client, policy, log)
    data = {"seq": found.index, "ok": all(s.status != "failed" for s in done), "steps": plain(done)}
    emit(data, as_json, told(done))
    end(done, broken)
    require_signer(key, client, policy)


def read_file(file: Path, entry_file: Path | None) -> "Receipt":
    from clearing.model.errors import NovateError
    from clearing.watch.receipts import read_receipt
    from proofs.errors import ProofError

    beside = file.with_suffix(".entry")
    place = entry_file or (beside if beside.exists() and beside != file else None)
    try:
        return read_receipt(file.read_text(encoding="utf-8"), place.read_bytes() if place is not None else None)
    except UnicodeDecodeError:
        fail("RECEIPT_INVALID", f"{file} is not text", PROOF_INVALID)
    except (ProofError, NovateError) as error:
        fail(error.code, error.message, PROOF_INVALID)


def policy_of(path: Path | None) -> "Policy | None":
    """The policy of the command's option."""
    return read_policy(path) if path is not None else None


def checked(
    found: "Receipt", key: str | None, client: "VaultClient | None", policy: "Policy | None", log: str | None
) -> "tuple[list[Step], Broken | None]":
    from clearing.watch.receipts import Broken, against, steps
    from proofs.errors import ProofError
    from proofs.verify import Step

    done = steps(found, key, client, policy)
    if any(step.status == "failed" for step in done):
        return done, None
    check = _trusted(key, client, policy)
    if log is None or check is None:
        why = "no --log was given" if log is None else "nothing says whose log that is"
        return [*done, Step("published", "skipped", why)], None
    with _published(log, check) as opened:
        try:
            opened.checkpoint()
        except ProofError as error:
            # Anybody can write a log that contradicts a receipt: only one that the operator signed is its doing.
            text = f"{log} is not shown to be this operator's log, and says nothing about the receipt: {error.message}"
            fail("LOG_UNSIGNED", text, COULD_NOT_CHECK)
        result = against(found, opened)
    if isinstance(result, Broken):
        return [*done, Step("published", "failed", result.reason)], result
    return [*done, Step("published", "ok", result)], None


def _trusted(key: str | None, client: "VaultClient | None", policy: "Policy | None") -> "Check | None":
    """What tells the operator's notes from anybody's; None when nothing was given that could."""
    from clearing.watch.receipts import signed_for
    from journal.published import signed_by, unsigned

    if key is not None:
        return signed_by(key)
    if client is not None:
        return signed_for(client)
    if policy is None or not policy.logs:
        return None

    def check(text: str) -> "Checkpoint":
        policy.check(text)
        return unsigned(text)

    return check


def require_signer(key: str | None, client: "VaultClient | None", policy: "Policy | None") -> None:
    """End the command when nothing was given that says who signed."""
    if _trusted(key, client, policy) is None:
        text = "nothing says whose log this is; give --key, --rpc with --vault, or a --policy that names logs"
        fail("SIGNER_UNKNOWN", text, COULD_NOT_CHECK)


@contextmanager
def _published(log: str, check: "Check") -> "Iterator[PublishedLog]":
    """The published log, with a check of its notes."""
    from clearing.client.tlog import LogFetch
    from journal.folder import directory
    from journal.published import PublishedLog

    if "://" not in log:
        if not Path(log).is_dir():
            raise click.UsageError(f"there is no directory {log}; give a published log or its URL")
        yield PublishedLog(directory(log), check)
        return
    with LogFetch(log) as fetch:
        yield PublishedLog(fetch, check)


def told(done: "list[Step]") -> list[str]:
    """A line per step."""
    return [f"{MARKS[step.status]}  {step.name}: {step.detail}" for step in done]


def plain(done: "list[Step]") -> list[dict[str, str]]:
    return [{"name": step.name, "status": step.status, "detail": step.detail} for step in done]


def end(done: "list[Step]", broken: "Broken | None") -> None:
    if broken is not None:
        text = f"{broken.reason}: the operator signed both; take it to the vault with `novate receipt dispute`"
        fail("RECEIPT_VIOLATED", text, DIVERGED)
    wrong = [step for step in done if step.status == "failed"]
    if wrong:
        fail("RECEIPT_INVALID", f"do not rely on it: {wrong[0].name}: {wrong[0].detail}", PROOF_INVALID)


# --- dispute ---


@receipt.command("dispute")
@file_argument
@entry_option
@rpc_option
@vault_option
@wallet_option
@key_option
@log_option
@click.option("--send", is_flag=True, help="Send it; without this it is only shown, with its gas.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the evidence as JSON.")
@json_option
@reports_errors
@statuses
def dispute(
    file: Path,
    entry_file: Path | None,
    rpc: str,
    vault: str,
    wallet: Path | None,
    key: str | None,
    log: str | None,
    send: bool,
    output: Path | None,
    as_json: bool,
) -> None:
    """Take a receipt to the vault.

    With a --log that excludes it: both signed checkpoints prove a fault at once; the vault freezes, and the
    operator's bond is the reporter's. Without one: the vault is asked to have the entry shown in a posted journal,
    for a bond; `novate receipt settle` ends that when the operator was silent.
    """
    from clearing.watch.receipts import challenge, equivocation

    if send and wallet is None:
        raise click.UsageError("--send needs --wallet, which pays the fees")
    client = vault_client(rpc, vault, wallet)
    found = read_file(file, entry_file)
    done, broken = checked(found, key, client, None, log)
    if broken is None:
        end(done, None)
        name, bond = "challengeReceipt", client.veto_bond_wei()
        values: tuple[Any, ...] = challenge(found, client)
    else:
        name, bond, values = "proveEquivocation", 0, equivocation(found, broken, client)
    data: dict[str, Any] = {
        "function": name,
        "vault": client.address,
        "bond_wei": str(bond),
        "arguments": _words(values),
    }
    if output is not None:
        shown = {**data, "vault": "0x" + client.address.hex()}
        output.write_text(json.dumps(shown, indent=2) + "\n", encoding="utf-8")
    data["gas"] = client.estimate(name, *values, value_wei=bond)
    lines = [f"{name}: {broken.reason if broken is not None else 'asks for entry ' + str(found.index)}"]
    lines.append(f"bond {bond} wei, {data['gas']:,} gas" + ("" if send else "; run again with --send"))
    if send:
        sent = client.send(name, *values, value_wei=bond)
        data |= {"tx_hash": sent.tx_hash, "gas": sent.gas_used}
        lines[-1] = f"sent in 0x{sent.tx_hash.hex()}, {sent.gas_used:,} gas"
        if broken is None:
            data["challenge"] = client.challenge_in(sent)
            lines.append(
                f"challenge {data['challenge']}: novate receipt settle {data['challenge']}, after the deadline"
            )
    emit(data, as_json, lines)


def _words(value: Any) -> Any:
    """Arguments for JSON: bytes as hex, structures as lists, numbers as strings."""
    if isinstance(value, bytes):
        return "0x" + value.hex()
    return [_words(item) for item in value] if isinstance(value, (tuple, list)) else str(value)


@receipt.command("settle")
@click.argument("challenge_id", metavar="CHALLENGE", type=NUMBER)
@rpc_option
@vault_option
@wallet_option
@json_option
@reports_errors
def settle(challenge_id: int, rpc: str, vault: str, wallet: Path | None, as_json: bool) -> None:
    """End a CHALLENGE that was not answered in time: the operator's fault, and the bond comes back."""
    if wallet is None:
        raise click.UsageError("give --wallet, which pays the fees")
    client = vault_client(rpc, vault, wallet)
    sent = client.prove_unanswered(challenge_id)
    data = {"tx_hash": sent.tx_hash, "gas": sent.gas_used, "fault": client.fault_proven(), "frozen": client.frozen()}
    emit(
        data,
        as_json,
        [f"0x{sent.tx_hash.hex()}: the vault is {'frozen for a fault' if data['fault'] else 'as before'}"],
    )
