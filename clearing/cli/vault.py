# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate vault deploy|verify|mint|fund-float|post-bond` and `novate deposit`: the chain's side of a deployment."""

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clearing.cli.options import (
    NUMBER,
    asset_option,
    json_option,
    open_endpoint,
    parse_amount,
    rpc_option,
    vault_client,
    vault_option,
    wallet_option,
)
from clearing.cli.output import PROOF_INVALID, emit, fail, note, parse_address, parse_usd, reports_errors, usd
from clearing.cli.sending import hold_outbox, outbox_option, sent_before
from clearing.model.ids import MAX_LANES

if TYPE_CHECKING:
    from clearing.chain.deploy import VaultParams
    from clearing.chain.rpc import Rpc
    from clearing.chain.vault import VaultClient
    from clearing.model.commands import Genesis

WEI = 10**18


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
@click.option(
    "--attestor",
    "attestors",
    multiple=True,
    help="Address of someone who replays the journal and signs headers; repeatable. Without any, nobody has to.",
)
@click.option("--threshold", type=click.IntRange(1, 16), help="Attestors who must sign; more than half by default.")
@click.option("--governor", help="Who alone may change parameters: the timelock that `novate govern deploy` made.")
@click.option("--seconding", type=NUMBER, help="Seconds for which one veto holds a header; the window by default.")
@click.option("--veto-bond", default="0", show_default=True, help="Ether that a veto or a receipt challenge puts up.")
@click.option("--operator-bond", default="0", show_default=True, help="Ether without which no header can be posted.")
@click.option("--post-bond", is_flag=True, help="Put up the operator's bond at once, from the wallet.")
@click.option(
    "--float-cap",
    "float_caps",
    multiple=True,
    help="What vouchers may pay per hour, once for each asset in order: units of the settlement asset, then atoms. "
    "Without it there is no cap.",
)
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
    attestors: tuple[str, ...],
    threshold: int | None,
    governor: str | None,
    seconding: int | None,
    veto_bond: str,
    operator_bond: str,
    post_bond: bool,
    float_caps: tuple[str, ...],
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
    from clearing.chain.governance import checks_of
    from clearing.chain.wallet import Wallet

    identity = _deployment_id(deployment)
    if len(tokens) > MAX_LANES:
        raise click.UsageError(f"a vault holds at most {MAX_LANES} assets, not {len(tokens)}")
    signers, needed = _attestors(attestors, threshold)
    caps = _caps(float_caps, len(tokens) or test_tokens)
    assets = [parse_address(token, "--token") for token in tokens]
    bond = _wei(operator_bond, "--operator-bond")
    named = parse_address(governor, "--governor") if governor else bytes(20)
    endpoint, payer = open_endpoint(rpc), Wallet.load(wallet)
    _look_at_governor(endpoint, named, (deadline, window, window if seconding is None else seconding))
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
        governor=named,
        seconding_s=seconding,
        attestors=signers,
        threshold=needed,
        veto_bond_wei=_wei(veto_bond, "--veto-bond"),
        operator_bond_wei=bond,
        float_caps=caps,
    )
    client = deploy_vault(endpoint, payer, params)
    require_verified(verify_deployment(endpoint, client.address, params))
    require_verified(checks_of(client))
    if post_bond and bond:
        client.post_bond(bond)
    elif bond:
        note(f"no header can be posted before the operator's bond: novate vault post-bond {operator_bond}")
    emit(_deployed(client, params), as_json)


def _look_at_governor(endpoint: "Rpc", governor: bytes, times: tuple[int, int, int] | None = None) -> None:
    """Say so when it is a key; before a deployment with these times (deadline, window, seconding), a contract must be
    a timelock that is slower than leaving. Raises `ChainError` NO_GOVERNANCE, GOVERNANCE_TOO_FAST."""
    from clearing.chain.governance import require_timelock

    if not any(governor):
        return
    if not endpoint.code(governor):
        note(f"the governor 0x{governor.hex()} is no contract: whoever has its key decides alone, without a delay")
    elif times is not None:
        require_timelock(endpoint, governor, *times)


def _attestors(given: tuple[str, ...], threshold: int | None) -> tuple[list[bytes], int]:
    """Addresses, ascending, and how many must sign: more than half unless said otherwise."""
    signers = sorted({parse_address(address, "--attestor") for address in given})
    needed = len(signers) // 2 + 1 if threshold is None and signers else threshold or 0
    if needed > len(signers):
        raise click.UsageError(f"--threshold {needed} is more than there are attestors ({len(signers)})")
    return signers, needed


def _caps(given: tuple[str, ...], assets: int) -> list[int]:
    caps = [parse_amount(text, asset) for asset, text in enumerate(given)]
    if caps and len(caps) != assets:
        raise click.UsageError(f"{len(caps)} --float-cap for {assets} assets; give one for each")
    return caps


def _deployed(client: "VaultClient", params: "VaultParams") -> dict[str, object]:
    """What the deployment is, for people and programs."""
    return {
        "vault": client.address,
        "token": params.tokens[0],
        "tokens": list(params.tokens),
        "deployment": params.deployment_id,
        "chain_id": client.rpc.chain_id(),
        "deadline_seconds": params.deadline_s,
        "window_seconds": params.challenge_window_s,
        "attestors": ["0x" + signer.hex() for signer in params.attestors],
        "threshold": params.threshold,
        "governor": params.governor,
        "operator_bond_wei": client.operator_bond(),
    }


def _wei(text: str, what: str) -> int:
    """Wei from a decimal amount of ether, or a usage error."""
    whole, _, fraction = text.partition(".")
    if not (whole.isdecimal() and whole.isascii() and (fraction or "0").isdecimal() and len(fraction) <= 18):
        raise click.UsageError(f"{what} {text[:40]!r} is not a decimal amount of ether, such as 0.5")
    if len(whole) > 12:
        raise click.UsageError(f"{what} {text[:40]!r} is more ether than there is")
    return int(whole) * WEI + int(fraction.ljust(18, "0"))


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
    """Compare the deployed bytecode with the checked-in artifact, and the vault with a genesis.

    Where a vote decides: also whether its contracts are the published ones, and slower than leaving.
    """
    from clearing.chain.deploy import verify_deployment
    from clearing.chain.governance import checks_of

    client = vault_client(rpc, vault)
    checks = [(check.name, check.ok, check.detail) for check in verify_deployment(client.rpc, client.address)]
    if all(ok for _, ok, _ in checks):
        _look_at_governor(client.rpc, client.governor())
        checks += [(check.name, check.ok, check.detail) for check in checks_of(client)]
        if journal is not None or api is not None:
            from clearing.cli.sources import genesis_of

            checks += _against_genesis(client, genesis_of(journal, api))
    lines = [f"{'ok    ' if ok else 'FAILED'}  {name}: {detail}" for name, ok, detail in checks]
    good = all(ok for _, ok, _ in checks)
    rows = [{"name": name, "ok": ok, "detail": detail} for name, ok, detail in checks]
    emit({"ok": good, "checks": rows}, as_json, lines)
    if not good:
        fail("VAULT_MISMATCH", "do not deposit into this vault", PROOF_INVALID)


def _against_genesis(client: "VaultClient", genesis: "Genesis") -> list[tuple[str, bool, str]]:
    """Whether genesis names this vault, and says of it what the contract does: (name, ok, detail)."""
    place = client.rpc.chain_id(), client.address
    number = next((n for n, told in enumerate(genesis.vaults) if (told.chain_id, told.address) == place), None)
    if number is None:
        listed = ", ".join(f"0x{told.address.hex()} on chain {told.chain_id}" for told in genesis.vaults)
        return [("genesis: vault", False, f"0x{client.address.hex()} on chain {place[0]} is not among {listed}")]
    told = genesis.vaults[number]
    governor = client.governor()
    pairs: tuple[tuple[str, object, object], ...] = (
        ("deployment id", client.deployment_id(), genesis.deployment),
        ("treasury", client.treasury(), genesis.treasury),
        ("tokens", tuple(client.tokens()), told.tokens),
        ("attestors", tuple(client.attestors()), told.attestors),
        ("threshold", client.threshold(), told.threshold),
        ("governor", b"" if governor == bytes(20) else governor, told.governor),
    )
    checks = [("genesis: vault", True, f"number {number} of {len(genesis.vaults)}")]
    return checks + [(f"genesis: {name}", found == wanted, _shown(found)) for name, found, wanted in pairs]


def _shown(value: object) -> str:
    if value in ((), b""):
        return "none"
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


@vault.command("fund-float")
@click.argument("amount")
@rpc_option
@vault_option
@wallet_option
@asset_option
@outbox_option
@json_option
@reports_errors
def fund_float(amount: str, rpc: str, vault: str, wallet: Path, asset: int, outbox: Path | None, as_json: bool) -> None:
    """Add AMOUNT from the wallet to the float that vouchers are paid from. It is the operator's risk: later claims
    repay it, and the operator can take back what is left."""
    atoms = parse_amount(amount, asset)
    client = vault_client(rpc, vault, wallet, hold_outbox(outbox))
    earlier = sent_before(client, outbox, "fundFloat", asset, atoms)
    receipt = earlier or client.fund_float(asset, atoms)
    data = {"asset": asset, "amount_atoms": atoms, "float_atoms": client.float_of(asset)}
    emit(data | {"transaction": receipt.tx_hash, "sent_before": earlier is not None}, as_json)


@vault.command("post-bond")
@click.argument("ether")
@rpc_option
@vault_option
@wallet_option
@outbox_option
@json_option
@reports_errors
def post_bond(ether: str, rpc: str, vault: str, wallet: Path, outbox: Path | None, as_json: bool) -> None:
    """Put up ETHER for the operator: it is lost on a proven fault, and without enough of it no header can be posted."""
    amount = _wei(ether, "ETHER")
    client = vault_client(rpc, vault, wallet, hold_outbox(outbox))
    earlier = sent_before(client, outbox, "postBond", value_wei=amount)
    receipt = earlier or client.post_bond(amount)
    data = {"posted_wei": amount, "bond_wei": client.operator_bond(), "required_wei": client.required_bond_wei()}
    emit(data | {"transaction": receipt.tx_hash, "sent_before": earlier is not None}, as_json)


@click.command()
@click.argument("amount")
@rpc_option
@vault_option
@wallet_option
@click.option("--owner", help="Whom to credit; the wallet itself by default.")
@asset_option
@outbox_option
@json_option
@reports_errors
def deposit(
    amount: str,
    rpc: str,
    vault: str,
    wallet: Path,
    owner: str | None,
    asset: int,
    outbox: Path | None,
    as_json: bool,
) -> None:
    """Deposit AMOUNT (units of the settlement asset, such as 250.50; of another --asset, atoms) from the wallet."""
    atoms = parse_amount(amount, asset)
    client = vault_client(rpc, vault, wallet, hold_outbox(outbox))
    beneficiary = parse_address(owner, "--owner") if owner else client.wallet.address
    earlier = sent_before(client, outbox, "deposit", asset, atoms, beneficiary)
    receipt = earlier or client.deposit(asset, atoms, beneficiary)
    emit(
        {
            "owner": beneficiary,
            "asset": asset,
            "amount": usd(atoms) if asset == 0 else f"{atoms} atoms",
            "amount_atoms": atoms,
            "transaction": receipt.tx_hash,
            "gas": receipt.gas_used,
            "sent_before": earlier is not None,
            "inbox_count": client.inbox_count(),
        },
        as_json,
    )
    note(f"once the operator has seen it: novate account show --owner 0x{beneficiary.hex()}")
