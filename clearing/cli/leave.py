# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate claim` and `novate exit`: money out, from chain data alone.

Nothing here asks the operator: an RPC endpoint and the vault's address are enough, or less: `exit use` needs
no logs, but a file of proofs that anyone made with `exit export`.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from clearing.cli.leaving import Wanted, finish, from_chain, from_file, leave_vault, named, open_vault, targets
from clearing.cli.options import SEVERAL, json_option, rpc_option, vault_option
from clearing.cli.output import could_not_check, emit, note, parse_address, reports_errors

_wallet = click.option(
    "--wallet",
    envvar="NOVATE_WALLET",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Wallet that pays the gas (hex key file, mode 0600); anyone's will do.",
)
_owner = click.option("--owner", help="Whose money; the wallet's own by default. Payment goes to the owner only.")
_everyone = click.option("--all", "everyone", is_flag=True, help="Serve every owner, not just one.")
_dry = click.option("--dry-run", is_flag=True, help="Show what would be sent, gas and fees; send nothing.")
_blobs = click.option("--blobs", help="Archive of blobs: a folder, a URL, or a beacon node as beacon+http://...")
_max_fee = click.option(
    "--max-fee", type=click.FloatRange(min=0, min_open=True), help="Most gwei per gas to pay; 300 by default."
)
_fallback = click.option(
    "--fallback-fee",
    type=click.FloatRange(min=0, min_open=True),
    help="Gwei per gas to reckon with in a dry run when the endpoint does not tell.",
)
_rpcs = click.option(
    "--rpc", "rpcs", envvar="NOVATE_RPC", multiple=True, help=f"Endpoint; once, or once per vault; {SEVERAL}."
)
_vaults = click.option("--vault", "vaults", envvar="NOVATE_VAULT", multiple=True, help="Vault; repeatable.")


@click.command("claim")
@rpc_option
@vault_option
@_wallet
@_owner
@_dry
@_blobs
@_max_fee
@_fallback
@json_option
@reports_errors
def claim(
    rpc: str, vault: str, wallet: Path | None, owner: str | None, dry_run: bool, blobs: str | None,
    max_fee: float | None, fallback_fee: float | None, as_json: bool,
) -> None:  # fmt: skip
    """Collect acknowledged withdrawals whose epoch is final."""
    _require_wallet(wallet, owner, dry_run)
    wanted = Wanted(_address(owner), False, dry_run, False, fallback_fee)
    _leave(targets([rpc], [vault]), wallet, wanted, blobs, max_fee, as_json)


@click.group("exit", invoke_without_command=True)
@_rpcs
@_vaults
@_wallet
@_owner
@_everyone
@_dry
@_blobs
@_max_fee
@_fallback
@json_option
@click.pass_context
@reports_errors
def leave(
    context: click.Context, rpcs: tuple[str, ...], vaults: tuple[str, ...], wallet: Path | None, owner: str | None,
    everyone: bool, dry_run: bool, blobs: str | None, max_fee: float | None, fallback_fee: float | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Leave with everything owed: freeze when the deadline has passed, escape, refund, claim.

    Rebuilds the exit tree from what was posted on-chain. Safe to run again: what is done is skipped. Several vaults
    are left in one go; one whose chain does not answer stops no other.
    """
    if context.invoked_subcommand is not None:
        return
    _require_one(owner, everyone, dry_run)
    pairs = targets(rpcs, vaults)
    _require_wallet(wallet, owner, dry_run)
    wanted = Wanted(_address(owner), everyone, dry_run, True, fallback_fee)
    _leave(pairs, wallet, wanted, blobs, max_fee, as_json)


@leave.command("use")
@click.argument("file", type=click.Path(path_type=Path, exists=True))
@rpc_option
@vault_option
@_wallet
@_owner
@_everyone
@_dry
@_max_fee
@_fallback
@json_option
@reports_errors
def use(
    file: Path, rpc: str, vault: str, wallet: Path | None, owner: str | None, everyone: bool, dry_run: bool,
    max_fee: float | None, fallback_fee: float | None, as_json: bool,
) -> None:  # fmt: skip
    """Leave with the proofs in FILE (or a folder of them), which `novate exit export` wrote, without any log.

    The file is checked against the vault's own header hash, so it does not matter whose it is.
    """
    _require_one(owner, everyone, dry_run)
    _require_wallet(wallet, owner, dry_run)
    client = open_vault(rpc, vault, wallet, max_fee)
    wanted = Wanted(_address(owner), everyone, dry_run, True, fallback_fee, _address_in(wallet))
    who = None if everyone else wanted.owner or client.wallet.address
    finish([leave_vault(client, from_file(client, file, who), wanted)], as_json)


leave.add_command(use, "import")


@leave.command("export")
@rpc_option
@vault_option
@click.option(
    "-o", "--output", "place", required=True, type=click.Path(path_type=Path),
    help="A file when it ends in .json; else a new folder with one file per first byte of the owners' addresses.",
)  # fmt: skip
@click.option("--epoch", type=click.IntRange(min=1), help="The epoch; by default the one that pays.")
@_blobs
@json_option
@reports_errors
def export(rpc: str, vault: str, place: Path, epoch: int | None, blobs: str | None, as_json: bool) -> None:
    """Write proofs of all owners, with all that claims, escapes and refunds need, for `novate exit use`."""
    from clearing.exit.archive import open_archive
    from clearing.exit.export import write_file, write_folder
    from clearing.exit.plan import read_vault
    from clearing.exit.rebuild import rebuild

    archive = open_archive(blobs) if blobs else None
    client = open_vault(rpc, vault, None)
    rebuilt = rebuild(client, epoch, note, archive)
    state = read_vault(client, rebuilt)
    write = write_file if place.suffix == ".json" else write_folder
    made = write(client, rebuilt, state, place)
    data = {
        "place": made.place,
        "sha256": made.sha256.hex(),
        "epoch": rebuilt.epoch if rebuilt is not None else 0,
        "owners": made.owners,
        "files": made.files,
        "bytes": made.size,
    }
    emit(data, as_json)
    what = made.place if made.files == 1 else made.place / "index.json"
    note(f"{what} has this SHA-256; owners leave with: novate exit use {made.place}")


def _leave(
    pairs: list[tuple[str, bytes]],
    wallet: Path | None,
    wanted: Wanted,
    blobs: str | None,
    max_fee: float | None,
    as_json: bool,
) -> None:
    from clearing.exit.archive import open_archive

    wanted = replace(wanted, payer=_address_in(wallet))  # the key's fault is told once, and not for every vault
    archive = open_archive(blobs) if blobs else None
    results: list[dict[str, Any]] = []
    seen: set[tuple[int, bytes]] = set()

    def one(url: str, address: bytes) -> dict[str, Any]:
        client = open_vault(url, address, wallet, max_fee)
        place = client.rpc.chain_id(), address
        if place in seen:
            from clearing.exit.errors import ExitError

            raise ExitError("VAULT_TWICE", "this vault is named twice; give every --vault its own --rpc")
        seen.add(place)
        if len(pairs) > 1:
            note(named({"vault": address, "chain_id": place[0]}) + ":")
        return leave_vault(client, from_chain(client, archive), wanted)

    for url, address in pairs:
        try:
            results.append(one(url, address))
        except Exception as error:  # one vault's trouble must not keep the others' money
            code = getattr(error, "code", None)
            if len(pairs) == 1 or not isinstance(code, str):
                raise
            message = str(getattr(error, "message", error))
            row = {"vault": address, "code": code, "message": message, "unchecked": could_not_check(code)}
            note(f"  {code}: {message}")
            results.append(row)
    finish(results, as_json)


def _address_in(wallet: Path | None) -> bytes | None:
    from clearing.chain.wallet import Wallet

    return Wallet.load(wallet).address if wallet is not None else None


def _address(owner: str | None) -> bytes | None:
    return parse_address(owner, "--owner") if owner else None


def _require_one(owner: str | None, everyone: bool, dry_run: bool) -> None:
    if everyone and owner is not None:
        raise click.UsageError("give --owner or --all, not both")
    if everyone and dry_run:
        raise click.UsageError("--dry-run shows one owner; give --owner")


def _require_wallet(wallet: Path | None, owner: str | None, dry_run: bool) -> None:
    if wallet is None and not (dry_run and owner is not None):
        raise click.UsageError("give --wallet FILE, which pays the gas; or --dry-run with --owner ADDRESS")
