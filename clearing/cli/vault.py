# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate vault deploy|verify` and `novate deposit`: the chain's side of a deployment."""

import secrets
from pathlib import Path

import click

from clearing.cli.options import (
    NUMBER,
    asset_option,
    json_option,
    parse_amount,
    rpc_option,
    vault_client,
    vault_option,
    wallet_option,
)
from clearing.cli.output import PROOF_INVALID, emit, fail, note, parse_address, parse_usd, reports_errors, usd
from clearing.model.ids import MAX_LANES


@click.group()
def vault() -> None:
    """Deploy the vault, or check one against the artifacts."""


@vault.command("deploy")
@rpc_option
@wallet_option
@click.option("--operator", required=True, help="Address that signs headers.")
@click.option("--treasury", required=True, help="Owner of the house's leaf.")
@click.option(
    "--token",
    "tokens",
    multiple=True,
    help="Address of an asset, repeatable to four; the first is the settlement asset. Without it a test token is made.",
)
@click.option(
    "--test-tokens",
    default=1,
    show_default=True,
    type=click.IntRange(1, MAX_LANES),
    help="Without --token: how many worthless test tokens to make.",
)
@click.option("--deployment", help="Deployment id, 32 bytes hex; without it a random one is chosen.")
@click.option("--deadline", default=604_800, show_default=True, type=NUMBER, help="Seconds until anyone may freeze.")
@click.option("--window", default=3_600, show_default=True, type=NUMBER, help="Challenge window in seconds.")
@click.option("--min-deposit", default="10", show_default=True, help="Smallest first deposit, in units.")
@json_option
@reports_errors
def deploy(
    rpc: str,
    wallet: Path,
    operator: str,
    treasury: str,
    tokens: tuple[str, ...],
    test_tokens: int,
    deployment: str | None,
    deadline: int,
    window: int,
    min_deposit: str,
    as_json: bool,
) -> None:
    """Deploy a vault for a settlement asset and up to three collateral assets, and verify what was deployed."""
    from clearing.chain.deploy import (
        VaultParams,
        deploy_token,
        deploy_vault,
        require_verified,
        verify_deployment,
    )
    from clearing.chain.rpc import Rpc
    from clearing.chain.wallet import Wallet

    endpoint, payer = Rpc(rpc), Wallet.load(wallet)
    identity = _deployment_id(deployment)
    if len(tokens) > MAX_LANES:
        raise click.UsageError(f"a vault holds at most {MAX_LANES} assets, not {len(tokens)}")
    assets = [parse_address(token, "--token") for token in tokens]
    if not assets:
        note(f"no --token: deploying {'a worthless test token' if test_tokens == 1 else 'worthless test tokens'}")
        assets = [deploy_token(endpoint, payer)]
        assets += [deploy_token(endpoint, payer, f"Test Token {n}", f"TT{n}") for n in range(1, test_tokens)]
    params = VaultParams(
        identity,
        parse_address(operator, "--operator"),
        parse_address(treasury, "--treasury"),
        assets,
        deadline,
        window,
        parse_usd(min_deposit),
    )
    client = deploy_vault(endpoint, payer, params)
    require_verified(verify_deployment(endpoint, client.address, params))
    emit(
        {
            "vault": client.address,
            "token": assets[0],
            "tokens": assets,
            "deployment": identity,
            "chain_id": endpoint.chain_id(),
            "deadline_seconds": deadline,
            "window_seconds": window,
        },
        as_json,
    )


def _deployment_id(text: str | None) -> bytes:
    if text is None:
        return secrets.token_bytes(32)
    try:
        value = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        value = b""
    if len(value) != 32:
        raise click.UsageError(f"--deployment {text!r} is not 32 bytes of hex")
    return value


@vault.command("verify")
@rpc_option
@vault_option
@click.option(
    "--journal", type=click.Path(path_type=Path, file_okay=False), help="Compare with this journal's genesis."
)
@click.option("--api", help="Compare with the genesis that the operator at this URL serves.")
@json_option
@reports_errors
def verify_vault(rpc: str, vault: str, journal: Path | None, api: str | None, as_json: bool) -> None:
    """Compare the deployed bytecode with the checked-in artifact, and the vault with a genesis."""
    from clearing.chain.deploy import verify_deployment

    client = vault_client(rpc, vault)
    checks = [(check.name, check.ok, check.detail) for check in verify_deployment(client.rpc, client.address)]
    if (journal is not None or api is not None) and all(ok for _, ok, _ in checks):
        from clearing.cli.sources import genesis_of

        genesis = genesis_of(journal, api)
        told = genesis.vaults[0]
        for name, found, wanted in (
            ("genesis: chain id", client.rpc.chain_id(), told.chain_id),
            ("genesis: address", client.address, told.address),
            ("genesis: deployment id", client.deployment_id(), genesis.deployment),
            ("genesis: treasury", client.treasury(), genesis.treasury),
            ("genesis: tokens", tuple(client.tokens()), told.tokens),
        ):
            checks.append((name, found == wanted, _shown(found)))
    lines = [f"{'ok    ' if ok else 'FAILED'}  {name}: {detail}" for name, ok, detail in checks]
    good = all(ok for _, ok, _ in checks)
    rows = [{"name": name, "ok": ok, "detail": detail} for name, ok, detail in checks]
    emit({"ok": good, "checks": rows}, as_json, lines)
    if not good:
        fail("VAULT_MISMATCH", "do not deposit into this vault", PROOF_INVALID)


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(_shown(item) for item in value)
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)


@vault.command("mint")
@click.argument("amount")
@rpc_option
@vault_option
@wallet_option
@click.option("--to", help="Who receives; the wallet itself by default.")
@asset_option
@json_option
@reports_errors
def mint_command(amount: str, rpc: str, vault: str, wallet: Path, to: str | None, asset: int, as_json: bool) -> None:
    """Mint AMOUNT of a worthless test token that `vault deploy` made, to try things out."""
    from clearing.chain.deploy import mint

    atoms = parse_amount(amount, asset)
    client = vault_client(rpc, vault, wallet)
    receiver = parse_address(to, "--to") if to else client.wallet.address
    tokens = client.tokens()
    if asset >= len(tokens):
        fail("UNKNOWN_ASSET", f"the vault has assets 0 to {len(tokens) - 1}, not {asset}")
    token = tokens[asset]
    receipt = mint(client.rpc, client.wallet, token, receiver, atoms)
    emit({"token": token, "to": receiver, "amount": amount, "transaction": receipt.tx_hash}, as_json)


@click.command()
@click.argument("amount")
@rpc_option
@vault_option
@wallet_option
@click.option("--owner", help="Whom to credit; the wallet itself by default.")
@asset_option
@json_option
@reports_errors
def deposit(amount: str, rpc: str, vault: str, wallet: Path, owner: str | None, asset: int, as_json: bool) -> None:
    """Deposit AMOUNT (units of the settlement asset, such as 250.50; of another --asset, atoms) from the wallet."""
    atoms = parse_amount(amount, asset)
    client = vault_client(rpc, vault, wallet)
    beneficiary = parse_address(owner, "--owner") if owner else client.wallet.address
    receipt = client.deposit(asset, atoms, beneficiary)
    emit(
        {
            "owner": beneficiary,
            "asset": asset,
            "amount": usd(atoms) if asset == 0 else f"{atoms} atoms",
            "amount_atoms": atoms,
            "transaction": receipt.tx_hash,
            "gas": receipt.gas_used,
            "inbox_count": client.inbox_count(),
        },
        as_json,
    )
    note(f"once the operator has seen it: novate account show --owner 0x{beneficiary.hex()}")
