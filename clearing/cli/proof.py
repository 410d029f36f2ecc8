# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate proof get` and `novate verify`: a balance, checked by its owner."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from clearing.cli.options import SEVERAL, api_option, json_option
from clearing.cli.output import (
    COULD_NOT_CHECK,
    PROOF_INVALID,
    emit,
    fail,
    note,
    parse_address,
    reports_errors,
)

if TYPE_CHECKING:
    from proofs.bundle import Bundle


@click.group()
def proof() -> None:
    """Fetch proof bundles."""


@proof.command("get")
@click.argument("owner")
@api_option
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="File; stdout by default.")
@reports_errors
def get(owner: str, api: str, output: Path | None) -> None:
    """Fetch the offline bundle of OWNER (an address) for the latest posted epoch."""
    from clearing.client.http import ApiClient

    with ApiClient(api) as client:
        data = client.bundle(parse_address(owner, "OWNER"))
    if output is None:
        click.echo(data.decode(), nl=False)
        return
    output.write_bytes(data)
    note(f"wrote {output} ({len(data):,} bytes); check it with: novate verify {output} --rpc URL")


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--rpc", envvar="NOVATE_RPC", help=f"Compare the header with the vault's, at this endpoint; {SEVERAL}.")
@click.option("--vault", envvar="NOVATE_VAULT", help="The vault you deposited into; the bundle must be of it.")
@click.option("--operator-key", help="Ed25519 key that you trust to sign checkpoints (hex, 32 bytes).")
@json_option
@reports_errors
def verify(bundle: Path, rpc: str | None, vault: str | None, operator_key: str | None, as_json: bool) -> None:
    """Verify BUNDLE step by step: offline, and against the chain with --rpc.

    Exits 3 when the proof is invalid and 4 when the chain could not be asked.
    """
    from proofs.bundle import decode
    from proofs.errors import ProofError
    from proofs.verify import verify as run

    try:
        read = decode(bundle.read_bytes())
    except ProofError as error:
        fail(error.code, error.message, PROOF_INVALID)
    if vault is not None and parse_address(vault, "--vault").hex() != read.vault:
        fail("WRONG_VAULT", f"the bundle is of vault 0x{read.vault}, not of {vault}", PROOF_INVALID)
    trusted = _key(operator_key) if operator_key else None
    posted, trouble = _posted_hash(read, rpc) if rpc else (None, None)
    verdict = run(read, header_hash=posted, operator_key=trusted)
    marks = {"ok": "ok     ", "failed": "FAILED ", "skipped": "skipped"}
    lines = [f"{marks[step.status]}  {step.name}: {step.detail}" for step in verdict.steps]
    steps = [{"name": s.name, "status": s.status, "detail": s.detail} for s in verdict.steps]
    emit({"ok": verdict.ok, "complete": verdict.complete, "steps": steps}, as_json, lines)
    if not verdict.ok:
        fail(
            "PROOF_INVALID",
            "do not rely on this bundle; fetch another and keep this one as evidence",
            PROOF_INVALID,
        )
    if trouble is not None:
        fail(trouble[0], f"the proof holds, but not against the chain: {trouble[1]}", COULD_NOT_CHECK)


def _key(text: str) -> bytes:
    try:
        key = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        key = b""
    if len(key) != 32:
        raise click.UsageError(f"--operator-key {text!r} is not 32 bytes of hex")
    return key


def _posted_hash(read: "Bundle", rpc: str) -> tuple[bytes | None, tuple[str, str] | None]:
    """(the vault's header hash for the bundle's epoch, or why it could not be read)."""
    from clearing.chain.errors import ChainError
    from clearing.cli.options import vault_client
    from proofs.bundle import unhex
    from proofs.errors import ProofError
    from proofs.header import Header

    try:
        header = Header.decode(unhex(read.header, "header"))
        client = vault_client(rpc, "0x" + read.vault)
        if client.rpc.chain_id() != read.chain_id:
            return None, (
                "WRONG_CHAIN",
                f"{rpc} is chain {client.rpc.chain_id()}, the bundle is of {read.chain_id}",
            )
        return client.header_hash(header.epoch), None
    except ProofError:
        return None, None  # the verdict will say so
    except ChainError as error:
        return None, (error.code, error.message)
