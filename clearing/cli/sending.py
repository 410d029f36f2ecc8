# SPDX-License-Identifier: GPL-3.0-or-later
"""Payments that a command may be cut off in: `--outbox DIR` remembers what was sent until it is mined.

Rules: the same command run again goes on with what an earlier run sent, and pays nothing twice. A payment that was
mined while nobody waited is told once, by the same command; from then on the command pays again. One command at a time
uses a folder. Without a folder every run pays anew.
"""

import fcntl
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clearing.cli.output import fail, note

if TYPE_CHECKING:
    from clearing.chain.rpc import Receipt
    from clearing.chain.vault import VaultClient

outbox_option = click.option(
    "--outbox",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder that keeps what is sent until it is mined, so that a run that was cut off can be repeated.",
)


def hold_outbox(folder: Path | None) -> Path | None:
    """The folder, made and held until the command ends. Ends with OUTBOX_BUSY when another command holds it."""
    if folder is None:
        return None
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    held = (folder / ".lock").open("a")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held.close()
        fail("OUTBOX_BUSY", f"another command is sending from {folder}; wait until it has ended")
    click.get_current_context().call_on_close(held.close)
    return folder


def sent_before(
    client: "VaultClient", outbox: Path | None, name: str, *values: Any, value_wei: int = 0
) -> "Receipt | None":
    """The receipt of this very call of the vault if an earlier run sent it and did not see its end; waited for.

    Raises as `Sender.send`; a call that was refused is forgotten then, and can be sent anew.
    """
    if outbox is None:
        return None
    sender = client.sender()
    data, found = client.abi.call(name, *values), None
    for item in sender.settle():
        if item.call.to == client.address:
            if found is None and (item.call.data, item.call.value) == (data, value_wei):
                found = item
        elif item.done:
            # An allowance that was given once must not answer for one that is needed now.
            sender.outbox.forget(item)
    if found is None:
        return None
    try:
        receipt = sender.wait(found)
    finally:
        if found.done:
            sender.outbox.forget(found)
    note(f"an earlier run sent this already: 0x{receipt.tx_hash.hex()}; run again to pay once more")
    return receipt
