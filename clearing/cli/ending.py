# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate operator wind-down`: halt for good, close every position at the mark, pay everyone out.

Rules:
- The command only starts it and watches: the steps are the running operator's, which goes on with them
  after a restart whether anybody watches or not. Running the command again watches on.
- Halting cannot be taken back, so it is asked about first.
- It is over when the final epoch is posted on every live vault: from the end of its challenge window on
  everyone claims.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clearing.cli.options import api_option, json_option
from clearing.cli.output import emit, fail, note, reports_errors

if TYPE_CHECKING:
    from clearing.client.http import ApiClient

_POLL_S = 0.5


@click.command("wind-down")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@api_option
@click.option("--reason", default="the operator ends this venue", show_default=True, help="Journalled, and shown.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--no-wait", is_flag=True, help="Only start it.")
@click.option("--timeout", type=click.FloatRange(0), default=0.0, help="Seconds to watch at most; 0: until it is over.")
@json_option
@reports_errors
def wind_down(directory: Path, api: str, reason: str, yes: bool, no_wait: bool, timeout: float, as_json: bool) -> None:
    """Halt the venue for good: orders end, positions close at the mark, everyone is paid out by a final epoch.

    Signed with the operator's key in DIRECTORY and carried out by the operator that runs at --api. It is safe to
    run again: what has begun goes on.
    """
    from clearing.client.http import ApiClient

    with ApiClient(api) as client:
        begun = client.status()["wind_down"] is not None
        if begun:
            note("the wind-down has begun already")
        else:
            _start(directory, client, reason, yes)
        status = client.status()
        if not no_wait:
            status = _watch(client, time.monotonic() + timeout if timeout else None)
    found = _summary(status)
    emit(found, as_json)
    if found["over"]:
        note("everyone can claim once the final epoch's challenge window is over: novate claim")


def _start(directory: Path, client: "ApiClient", reason: str, yes: bool) -> None:
    """Ask, sign and submit. Raises `NovateError`, `ApiError`."""
    from clearing.cli.signing import submit_as_operator
    from clearing.model.commands import StartWindDown

    if not yes:
        text = "This ends the venue for good: orders are cancelled, positions closed at the mark. Go on?"
        try:
            agreed = click.confirm(text, err=True)
        except click.Abort:  # nobody is there to answer
            agreed = False
            note("")
        if not agreed:
            fail("NOT_CONFIRMED", "nothing was done; answer y, or pass --yes")
    receipt = submit_as_operator(directory, client, StartWindDown(reason))
    if receipt["rejected"]:
        fail(str(receipt["rejected"][0]["code"]), "the wind-down was refused; the venue goes on as before")
    note(f"started with entry {receipt['seq']}")


def _watch(client: "ApiClient", until: float | None) -> dict[str, Any]:
    """Tell each change until the final epoch is posted everywhere; the last status. Raises `ApiError`."""
    told = ""
    while True:
        status = client.status()
        line = _progress(status)
        if line != told:
            told = line
            note(line)
        if _summary(status)["over"]:
            return status
        if until is not None and time.monotonic() > until:
            fail("WIND_DOWN_UNFINISHED", f"still under way ({told}); run the same command again to watch on")
        time.sleep(_POLL_S)


def _summary(status: dict[str, Any]) -> dict[str, Any]:
    """How far it is: `over` once every live vault holds the final epoch."""
    found = status["wind_down"] or {}
    final = found.get("final_epoch")
    live = [row for row in status["posting"] if not row["frozen_on_chain"]]
    over = final is not None and all(int(row["posted_epoch"]) >= int(final) for row in live)
    return {
        "over": over,
        "reason": found.get("reason"),
        "done": bool(found.get("done")),
        "final_epoch": final,
        "vaults": [{"vault": row["vault"], "posted_epoch": row["posted_epoch"]} for row in status["posting"]],
        "open_orders": status["open_orders"],
    }


def _progress(status: dict[str, Any]) -> str:
    found = _summary(status)
    faults = "".join(f"; {part}: {code}" for part, code in sorted(status["faults"].items()))
    if not found["done"]:
        orders, lots = status["open_orders"], int(status["open_interest_lots"])
        return f"closing: {orders} open orders, {lots} lots of open interest{faults}"
    if found["final_epoch"] is None:
        return f"everything is acknowledged; the final epoch closes next{faults}"
    heads = ", ".join(f"vault {row['vault']} at epoch {row['posted_epoch']}" for row in found["vaults"])
    return f"final epoch {found['final_epoch']}: {heads}{faults}"
