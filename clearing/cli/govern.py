# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate govern`: the holders' vote on parameters and on the house's money, through the vault's timelock."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clearing.cli.options import (
    NUMBER,
    api_option,
    json_option,
    open_endpoint,
    rpc_option,
    vault_client,
    vault_option,
    wallet_option,
)
from clearing.cli.output import emit, fail, moment, note, parse_address, reports_errors

if TYPE_CHECKING:
    from clearing.chain.governance import GovernanceClient, Proposal, Standing
    from clearing.model.commands import ProposeParams, ReleaseHouse

_COMMAND = "novate-command: 0x"
_proposal = click.argument("proposal", type=click.IntRange(0, 2**256 - 1))


@click.group()
def govern() -> None:
    """The holders' vote on parameters and on the house's money."""


def _holder(text: str) -> tuple[bytes, int]:
    address, _, shares = text.partition("=")
    digits = shares.replace("_", "")
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 40 and int(digits)):
        raise click.UsageError(f"--holder {text!r} is not ADDRESS=SHARES, such as 0x1234...=1_000")
    return parse_address(address, "--holder"), int(digits)


@govern.command("deploy")
@rpc_option
@wallet_option
@click.option("--holder", "holders", multiple=True, required=True, metavar="ADDRESS=SHARES", help="Repeatable.")
@click.option("--quorum", type=NUMBER, help="Shares that must take part; by default a fifth of all.")
@click.option("--threshold", type=NUMBER, help="Shares a proposer needs; by default a hundredth of all.")
@click.option("--voting-delay", default=86_400, show_default=True, type=NUMBER, help="Seconds before a vote.")
@click.option("--voting-period", default=259_200, show_default=True, type=NUMBER, help="Seconds of a vote.")
@click.option("--delay", type=NUMBER, help="Timelock in seconds; by default a day more than leaving takes.")
@click.option("--deadline", default=604_800, show_default=True, type=NUMBER, help="The vault's, in seconds.")
@click.option("--window", default=3_600, show_default=True, type=NUMBER, help="The vault's, in seconds.")
@click.option("--seconding", type=NUMBER, help="The vault's, in seconds; as long as its window by default.")
@json_option
@reports_errors
def deploy_command(
    rpc: str,
    wallet: Path,
    holders: tuple[str, ...],
    quorum: int | None,
    threshold: int | None,
    voting_delay: int,
    voting_period: int,
    delay: int | None,
    deadline: int,
    window: int,
    seconding: int | None,
    as_json: bool,
) -> None:
    """Deploy shares, governor and timelock, before the vault that they will govern.

    A delay that is not longer than deadline, window and seconding together is refused: a vote must not outrun
    those who want to leave.
    """
    from clearing.chain.governance import GovernanceParams, deploy_governance, way_out_s
    from clearing.chain.wallet import Wallet

    shared = [_holder(text) for text in holders]
    total, held = sum(shares for _, shares in shared), window if seconding is None else seconding
    params = GovernanceParams(
        shared,
        voting_delay,
        voting_period,
        max(1, total // 5) if quorum is None else quorum,
        max(1, total // 100) if threshold is None else threshold,
        way_out_s(deadline, window, held) + 86_400 if delay is None else delay,
    )
    made = deploy_governance(open_endpoint(rpc), Wallet.load(wallet), params, deadline, window, held)
    stated = {"quorum": params.quorum, "threshold": params.threshold, "delay_seconds": params.timelock_delay_s}
    emit({**made._asdict(), "total_shares": total, **stated}, as_json)
    note(f"next: novate vault deploy --governor 0x{made.timelock.hex()} with the same deadline and window")


@govern.command("propose-params")
@click.option("--set", "changes", multiple=True, required=True, metavar="PATH=NUMBER", help="Repeatable.")
@click.option("--reason", default="", help="One sentence for the voters.")
@rpc_option
@vault_option
@wallet_option
@api_option
@json_option
@reports_errors
def propose_params(
    changes: tuple[str, ...], reason: str, rpc: str, vault: str, wallet: Path, api: str, as_json: bool
) -> None:
    """Propose changes of the parameters in force, within the hard bounds, to a vote."""
    from clearing.cli.params import _changed
    from clearing.client.http import ApiClient
    from clearing.model.commands import ProposeParams

    with ApiClient(api) as client:
        new, _ = _changed(client, changes)
    title = f"Parameters, version {new.version}: {', '.join(changes)}"
    _propose(_client(rpc, vault, wallet), ProposeParams(new, 0), title, reason, as_json)


@govern.command("propose-release")
@click.option("--account", required=True, type=NUMBER, help="House account: 1 insurance fund, 2 operator's capital.")
@click.option("--vault-number", default=0, show_default=True, type=NUMBER, help="Vault that pays, by its number.")
@click.option("--asset", default=0, show_default=True, type=click.IntRange(0, 3), help="Asset of that vault.")
@click.option("--atoms", required=True, type=NUMBER, help="Amount in atoms.")
@click.option("--reason", default="", help="One sentence for the voters.")
@rpc_option
@vault_option
@wallet_option
@json_option
@reports_errors
def propose_release(
    account: int,
    vault_number: int,
    asset: int,
    atoms: int,
    reason: str,
    rpc: str,
    vault: str,
    wallet: Path,
    as_json: bool,
) -> None:
    """Propose to pay house money out to the treasury."""
    from clearing.model.commands import ReleaseHouse

    command = ReleaseHouse(account, vault_number, asset, atoms)
    title = f"Release {atoms} atoms of asset {asset}, vault {vault_number}, from house account {account}"
    _propose(_client(rpc, vault, wallet), command, title, reason, as_json)


def _client(rpc: str, vault: str, wallet: Path | None = None) -> "GovernanceClient":
    from clearing.chain.governance import GovernanceClient

    return GovernanceClient(vault_client(rpc, vault, wallet))


def _propose(
    client: "GovernanceClient", command: "ProposeParams | ReleaseHouse", title: str, reason: str, as_json: bool
) -> None:
    from clearing.model.actions import action_hash
    from clearing.model.codec import encode

    action, raw = action_hash(command), encode(command)
    # The command stands beside its hash, so that whoever votes can read it and whoever executes can submit it.
    lines = [title, reason.strip(), _COMMAND + raw.hex()]
    number = client.propose(action, "\n".join(line for line in lines if line))
    found = client.proposal(number)
    times = {"vote_start": moment(found.vote_start_s * 1_000_000), "vote_end": moment(found.vote_end_s * 1_000_000)}
    emit({"proposal": str(number), "action": action, **times, "command": raw}, as_json)
    note(f"next: novate govern vote {number} for")


@govern.command("vote")
@_proposal
@click.argument("side", type=click.Choice(["for", "against", "abstain"]))
@click.option("--reason", default="", help="Kept on the chain beside the vote.")
@rpc_option
@vault_option
@wallet_option
@json_option
@reports_errors
def vote(proposal: int, side: str, reason: str, rpc: str, vault: str, wallet: Path, as_json: bool) -> None:
    """Vote on PROPOSAL with all shares the wallet held when voting began."""
    from clearing.chain import governance

    client = _client(rpc, vault, wallet)
    sides = {"for": governance.FOR, "against": governance.AGAINST, "abstain": governance.ABSTAIN}
    receipt = client.vote(proposal, sides[side], reason)
    emit({"transaction": receipt.tx_hash, **_shown(client.standing(proposal))}, as_json)


@govern.command("queue")
@_proposal
@rpc_option
@vault_option
@wallet_option
@json_option
@reports_errors
def queue(proposal: int, rpc: str, vault: str, wallet: Path, as_json: bool) -> None:
    """Hand PROPOSAL, which passed, to the timelock. Anyone may."""
    client = _client(rpc, vault, wallet)
    receipt = client.queue(proposal)
    emit({"transaction": receipt.tx_hash, **_shown(client.standing(proposal))}, as_json)


@govern.command("execute")
@_proposal
@rpc_option
@vault_option
@wallet_option
@json_option
@reports_errors
def execute(proposal: int, rpc: str, vault: str, wallet: Path, as_json: bool) -> None:
    """Send PROPOSAL's action to the vault's inbox, once its delay is over. Anyone may."""
    client = _client(rpc, vault, wallet)
    receipt = client.execute(proposal)
    count = client.vault.inbox_count()
    emit({"transaction": receipt.tx_hash, **_shown(client.standing(proposal)), "inbox_count": count}, as_json)


@govern.command("status")
@click.argument("proposal", type=click.IntRange(0, 2**256 - 1), required=False)
@rpc_option
@vault_option
@json_option
@reports_errors
def status(proposal: int | None, rpc: str, vault: str, as_json: bool) -> None:
    """Show the rules and every proposal, or PROPOSAL with the command it stands for.

    The command that a proposal's text carries is hashed and compared with what the vault would be sent.
    """
    client = _client(rpc, vault)
    if proposal is None:
        _show_all(client, as_json)
        return
    found = client.proposal(proposal)
    told = _told(found)
    data = {
        "proposal": str(found.id),
        "proposer": found.proposer,
        "title": found.description.split("\n", 1)[0],
        **_shown(client.standing(found.id)),
        "action": found.action,
        "command": told or "none",
        "command_matches": bool(told),
    }
    emit(data, as_json)
    if not told:
        fail("PROPOSAL_UNCLEAR", "the text does not hold the command that the vault would be sent; vote against it")


def _show_all(client: "GovernanceClient", as_json: bool) -> None:
    rules, checks = client.rules(), client.checks()
    rows = [
        {"proposal": str(found.id), "state": client.standing(found.id).state, "title": found.description.split("\n")[0]}
        for found in client.proposals()
    ]
    lines = [f"{'ok    ' if check.ok else 'FAILED'}  {check.name}: {check.detail}" for check in checks]
    lines += [f"{name.replace('_', ' ')}: {value:,}" for name, value in rules.items()]
    lines += [f"{row['proposal']}  {row['state']}  {row['title']}" for row in rows] or ["no proposals"]
    named = [check._asdict() for check in checks]
    emit({"rules": rules, "delay_s": client.delay_s(), "checks": named, "proposals": rows}, as_json, lines)
    if not all(check.ok for check in checks):
        fail("GOVERNANCE_MISMATCH", "this vault's governor is not what it should be; leave with: novate exit")


def _shown(standing: "Standing") -> dict[str, Any]:
    due = moment(standing.due_s * 1_000_000) if standing.due_s else "not queued"
    return {**standing._asdict(), "due": due}


def _told(proposal: "Proposal") -> bytes:
    """The command in a proposal's text, if it is the one whose hash the vault would get; else empty."""
    import msgspec

    from clearing.model.actions import action_hash
    from clearing.model.codec import encode
    from clearing.model.commands import ProposeParams, ReleaseHouse

    _, found, rest = proposal.description.rpartition(_COMMAND)
    try:
        raw = bytes.fromhex(rest.split("\n", 1)[0]) if found else b""
        command = msgspec.msgpack.decode(raw, type=ProposeParams | ReleaseHouse)
    except (ValueError, msgspec.MsgspecError, OverflowError, RecursionError):
        return b""
    return raw if encode(command) == raw and action_hash(command) == proposal.action else b""
