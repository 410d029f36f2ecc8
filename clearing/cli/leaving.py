# SPDX-License-Identifier: GPL-3.0-or-later
"""How `novate exit`, `claim` and `exit use` speak: one vault's exit from reading to advice, for the command line.

What is decided is decided in `clearing.exit`; here it is read, carried out and put into words.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clearing.cli.options import open_endpoint
from clearing.cli.output import COULD_NOT_CHECK, ERROR, emit, fail, note, parse_address

if TYPE_CHECKING:
    from clearing.chain.vault import VaultClient
    from clearing.exit.archive import BlobSource
    from clearing.exit.assets import Asset
    from clearing.exit.outlook import Advice
    from clearing.exit.plan import Deposits, Proofs, Status, VaultState
    from clearing.exit.run import Event, Report


@dataclass(frozen=True)
class Wanted:
    """What was asked for. `owner` None: the wallet's own, or everyone's with `everyone`; `payer`: the wallet's."""

    owner: bytes | None
    everyone: bool = False
    dry_run: bool = False
    may_freeze: bool = True
    fallback_gwei: float | None = None
    payer: bytes | None = None


@dataclass
class Book:
    """Where one vault's proofs come from: read once, and again when a freeze fixed another header."""

    read: "Callable[[], Proofs | None]"
    deposits: "Deposits | None" = None
    proofs: "Proofs | None" = field(default=None, init=False)
    _fresh: bool = field(default=False, init=False)

    def load(self) -> "Proofs | None":
        """Read now; the next `again` gives the same."""
        self.proofs, self._fresh = self.read(), True
        return self.proofs

    def again(self) -> "Proofs | None":
        """What `load` read, once; after that what can be read then."""
        if not self._fresh:
            self.proofs = self.read()
        self._fresh = False
        return self.proofs


def open_vault(rpc: str, vault: str | bytes, wallet: Path | None, max_fee_gwei: float | None = None) -> "VaultClient":
    """A client of the vault at the endpoint (or endpoints, with commas between them), until the command ends."""
    from clearing.chain.fees import GWEI, SendPolicy
    from clearing.chain.vault import VaultClient
    from clearing.chain.wallet import Wallet

    address = parse_address(vault, "--vault") if isinstance(vault, str) else vault
    signer = Wallet.load(wallet) if wallet is not None else None
    policy = SendPolicy()
    if max_fee_gwei is not None:
        most = int(max_fee_gwei * GWEI)
        policy = SendPolicy(max_fee_wei=most, urgent_max_fee_wei=max(most, policy.urgent_max_fee_wei))
    return VaultClient(open_endpoint(rpc), address, signer, policy=policy)


def from_chain(client: "VaultClient", blobs: "BlobSource | None") -> Book:
    """Proofs rebuilt from what was posted on the chain."""
    from clearing.exit.rebuild import rebuild

    def read() -> "Proofs | None":
        note("rebuilding the exit tree from chain data ...")
        found = rebuild(client, blobs=blobs)
        if found is None:
            note("no epoch is final yet: only deposits can be refunded, after a freeze")
        else:
            note(f"epoch {found.epoch}: {len(found.leaves)} leaves, root and sums equal the posted header")
        return found

    return Book(read)


def from_file(client: "VaultClient", path: Path, owner: bytes | None) -> Book:
    """Proofs from somebody's file, each checked against the chain."""
    from clearing.exit.proof_file import open_proofs

    def read() -> "Proofs":
        found = open_proofs(client, path, owner).require_usable()
        note(f"{path}: proofs of epoch {found.epoch}; its header is the one that the vault holds")
        return found

    first = open_proofs(client, path, owner)
    later = client.inbox_count() - first.inbox_count
    if later > 0:
        note(f"{later} inbox messages came after the file was made; for deposits among them run: novate exit")
    return Book(read, first.deposits(owner))


def leave_vault(client: "VaultClient", book: Book, wanted: Wanted) -> dict[str, Any]:
    """One vault's exit; what to print as JSON. Raises `NovateError`."""
    from clearing.exit.assets import read_assets
    from clearing.exit.plan import read_vault, status
    from clearing.exit.rebuild import require_vault

    require_vault(client)
    proofs = book.load()
    state = read_vault(client, proofs, book.deposits)
    assets = read_assets(client)
    if wanted.everyone:
        return _leave_all(client, book, state, assets)
    owner = wanted.owner or client.wallet.address
    now = status(client, proofs, owner, state)
    for line in _status_lines(now, assets):
        note(line)
    head = _head(client, now, assets)
    if wanted.dry_run:
        return head | _dry_run(client, book, state, now, assets, wanted)
    from clearing.exit.run import run

    report = run(client, owner, _listener(assets), book.again, book.deposits, wanted.may_freeze)
    state = read_vault(client, book.proofs, book.deposits)
    after = status(client, book.proofs, owner, state)
    advice = _advise(client, state, after, assets, len(report.failed))
    return head | _result(report, advice, assets, show_outlook=not report.done)


def _leave_all(client: "VaultClient", book: Book, state: "VaultState", assets: "Sequence[Asset]") -> dict[str, Any]:
    from clearing.exit.outlook import Advice, moment, read_outlook
    from clearing.exit.run import exit_all

    report = exit_all(client, _listener(assets), book.again, book.deposits)
    for line in read_outlook(client, state).lines():
        note("  " + line)
    if report.failed:
        advice = Advice(f"{len(report.failed)} steps were refused; run the same command again later")
    elif client.frozen():
        advice = Advice("everyone was paid what could be paid; run the same command again for tokens that refused")
    else:
        at = state.freeze_at_s
        advice = Advice(f"what is acknowledged is paid; if the operator is silent, come back after {moment(at)}", at)
    data = {"vault": client.address, "chain_id": client.rpc.chain_id(), "owner": "everyone"}
    return data | _result(report, advice, assets)


def _head(client: "VaultClient", now: "Status", assets: "Sequence[Asset]") -> dict[str, Any]:
    rows = [{"token": "0x" + a.token.hex(), "symbol": a.symbol, "decimals": a.decimals} for a in assets]
    return {
        "vault": client.address,
        "chain_id": client.rpc.chain_id(),
        "owner": now.owner,
        "epoch": now.epoch,
        "assets": rows,
        "owed": [str(amount) for amount in now.owed],
        "refundable": [str(amount) for amount in now.refundable],
        "advanced": [str(amount) for amount in now.advanced],
    }


def _advise(
    client: "VaultClient", state: "VaultState", now: "Status", assets: "Sequence[Asset]", failed: int = 0
) -> "tuple[list[str], Advice]":
    """The vault's state in words, and what to do next."""
    from clearing.exit.outlook import advise, read_outlook

    outlook = read_outlook(client, state)
    return outlook.lines(), advise(now, outlook, assets, failed)


def _dry_run(
    client: "VaultClient", book: Book, state: "VaultState", now: "Status", assets: "Sequence[Asset]", wanted: Wanted
) -> dict[str, Any]:
    from clearing.exit.estimate import cost, dry_run, ether, price
    from clearing.exit.plan import plan

    steps = plan(client, book.proofs, now.owner, state, wanted.may_freeze)
    estimates = dry_run(client, steps)
    rows = [{"step": e.step.text(), "gas": e.gas, "gas_used": e.used, "note": e.reason} for e in estimates]
    lines = [
        f"{e.step.text(assets)}: gas limit {f'{e.gas:,}' if e.gas is not None else '-'}, "
        f"about {e.used:,} used{f' ({e.reason})' if e.reason else ''}"
        for e in estimates
    ]
    data: dict[str, Any] = {"steps": rows}
    if estimates:
        at = price(client, wanted.fallback_gwei)
        fee = cost(estimates, at)
        data |= {"gas_used": fee.used, "fee_wei": str(fee.likely_wei), "most_fee_wei": str(fee.most_wei)}
        assumed = "" if at.known else " at the price you gave"
        if wanted.payer is not None:
            held = client.rpc.balance(wanted.payer)
            data["wallet_wei"] = str(held)
            note(f"  the wallet holds {ether(held)}" + ("" if held >= fee.most_wei else ", which may not be enough"))
        lines.append(f"fees about {ether(fee.likely_wei)}{assumed}; have {ether(fee.most_wei)} at hand to be safe")
    told, advice = _advise(client, state, now, assets)
    for line in told:
        note("  " + line)
    note(f"next: {advice.text}")
    lines = lines or ["nothing to do now"]
    return data | {"next": advice.text, "come_back_at": advice.at_s, "lines": lines}


def _listener(assets: "Sequence[Asset]") -> "Callable[[Event], None]":
    def listen(event: "Event") -> None:
        if event.state != "start":
            gas = f", gas {event.gas:,}" if event.gas else ""
            why = f" ({event.message})" if event.message else ""
            note(f"  [{event.number}/{event.total}] {event.step.text(assets)}: {event.state}{gas}{why}")

    return listen


def _status_lines(now: "Status", assets: "Sequence[Asset]") -> list[str]:
    from clearing.exit.assets import shown

    lines = [f"owner 0x{now.owner.hex()}: owed {shown(assets, now.owed)} at epoch {now.epoch}"]
    if any(now.advanced):
        back = now.net(now.owed)[1]
        lines.append(f"  vouchers advanced {shown(assets, now.advanced)}: {shown(assets, back)} of it is deducted")
    if any(now.refundable):
        lines.append(f"  deposits in no final epoch yet: {shown(assets, now.refundable)}")
    if any(now.credit):
        lines.append(f"  credit waiting in the vault: {shown(assets, now.credit)}")
    if now.escaped:
        lines.append("  this owner has escaped")
    elif not now.frozen and not (any(now.owed) and now.chain_time_s >= now.freeze_at_s):
        lines.append(f"  claimable now {shown(assets, now.net(now.claimable)[0])}")
    return lines


def _result(
    report: "Report",
    advice: "tuple[list[str], Advice] | Advice",
    assets: "Sequence[Asset]",
    show_outlook: bool = False,
) -> dict[str, Any]:
    """JSON of what was done; the lines for people under `lines`."""
    from clearing.exit.assets import shown

    told, what = advice if isinstance(advice, tuple) else ([], advice)
    for line in told if show_outlook else ():
        note("  " + line)
    note(f"next: {what.text}")
    done, failed = len(report.done), len(report.failed)
    lines = [f"paid {shown(assets, report.paid)} in {done} transactions, gas {report.gas_used:,}"]
    if any(report.repaid):
        lines.append(f"repaid to the float that advanced it: {shown(assets, report.repaid)}")
    if any(report.credited):
        lines.append(f"credited (the token refused the transfer): {shown(assets, report.credited)}")
    if not done and not failed:
        lines = ["nothing can be paid now"]
    return {
        "paid_atoms": [str(amount) for amount in report.paid],
        "credited_atoms": [str(amount) for amount in report.credited],
        "repaid_atoms": [str(amount) for amount in report.repaid],
        "transactions": done,
        "failed": failed,
        "gas": report.gas_used,
        "next": what.text,
        "come_back_at": what.at_s,
        "lines": lines,
    }


def finish(results: list[dict[str, Any]], as_json: bool) -> None:
    """Print what became of each vault; end with an error when one is not done."""
    several = len(results) > 1
    lines: list[str] = []
    for row in results:
        lines += [f"{named(row)}: {line}" if several else line for line in row.pop("lines", [])]
    wrong = [row for row in results if "code" in row]
    unchecked = [row for row in wrong if row.pop("unchecked")]
    emit({"vaults": results} if several else results[0], as_json, lines)
    if wrong:
        status = COULD_NOT_CHECK if len(unchecked) == len(wrong) else ERROR
        told = "; ".join(f"{named(row)}: {row['code']}: {row['message']}" for row in wrong)
        fail("EXIT_INCOMPLETE", f"{len(wrong)} of {len(results)} vaults are not done: {told}", status)
    failed = sum(row.get("failed", 0) for row in results)
    if failed:
        fail("EXIT_INCOMPLETE", f"{failed} steps failed; run the same command again", ERROR)


def named(row: dict[str, Any]) -> str:
    """A vault for people."""
    address = row["vault"].hex()
    chain = f" on chain {row['chain_id']}" if "chain_id" in row else ""
    return f"vault 0x{address[:6]}..{address[-4:]}{chain}"


def targets(rpcs: Sequence[str], vaults: Sequence[str]) -> list[tuple[str, bytes]]:
    """(endpoint, vault) of each pair; one endpoint serves all vaults. A usage error when they do not pair up."""
    if not rpcs or not vaults:
        raise click.UsageError("give --rpc URL and --vault ADDRESS, once for each vault")
    if len(rpcs) not in (1, len(vaults)):
        raise click.UsageError(f"{len(rpcs)} --rpc for {len(vaults)} --vault; give one for each, in the same order")
    endpoints = list(rpcs) * len(vaults) if len(rpcs) == 1 else list(rpcs)
    return [(url, parse_address(vault, "--vault")) for url, vault in zip(endpoints, vaults, strict=True)]
