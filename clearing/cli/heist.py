# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo's theft: a forged root, signed with stolen keys, and the attestors who void it.

Rules: nothing is played. The thief holds the operator's key and enough attestors' keys, builds a header that
the contract has every reason to accept (solvent, published, in order, signed) and posts it. That the attestors
are held up for a moment only keeps the demo from depending on who is faster.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from clearing.chain.vault import VaultClient
from clearing.chain.wallet import Wallet, attestation_digest, post_epoch_digest
from clearing.cli.stage import Member, StageError
from clearing.exit.rebuild import rebuild
from proofs.diff import DiffRow, diff_hash, encode_chunks
from proofs.hashing import sha256
from proofs.header import Header


class Attestor:
    """An attestor's process, with a wallet and a data directory of its own."""

    def __init__(self, member: Member, folder: Path, arguments: Sequence[str]) -> None:
        self.member = member
        self.data = folder / member.name
        self.log = folder / f"{member.name}.log"
        command = [sys.executable, "-m", "clearing.cli", "attest", "run", *arguments]
        command += ["--wallet", str(member.wallet_file), "--data", str(self.data)]
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    def require_alive(self) -> None:
        """Raises `StageError` with the end of its log when it ended."""
        if self.process.poll() is not None:
            raise StageError(f"{self.member.name} ended: {self.log.read_text()[-800:]}")

    def hold(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


def forge(vault: VaultClient, victim: bytes, thief: bytes) -> tuple[Header, list[bytes]]:
    """The next header, from the last posted one, with the victim's exit moved to the thief's leaf: the same sums, so as
    solvent as a true one, and the same journal.

    Returns the header and the chunks of its diff. Raises `StageError` when one of them has no leaf.
    """
    rebuilt = rebuild(vault, vault.epoch_count())
    if rebuilt is None:
        raise StageError("there is no epoch to forge on")
    last = rebuilt.header
    robbed, taker = rebuilt.leaf_of(victim), rebuilt.leaf_of(thief)
    if robbed is None or taker is None:
        raise StageError("victim or thief has no leaf yet")
    nothing = tuple(0 for _ in robbed.exits)
    both = tuple(mine + theirs for mine, theirs in zip(taker.exits, robbed.exits, strict=True))
    changed = [msgspec.structs.replace(robbed, exits=nothing), msgspec.structs.replace(taker, exits=both)]
    rebuilt.tree.update(changed)
    rows = [DiffRow(leaf.index, None, leaf.exits, leaf.withdraw_acks) for leaf in changed]
    chunks = encode_chunks(last.epoch + 1, len(nothing), sorted(rows, key=lambda row: row.index))
    forged = msgspec.structs.replace(
        last,
        epoch=last.epoch + 1,
        prev_header=last.hash(),
        exit_root=rebuilt.tree.root,
        exit_sums=rebuilt.tree.sums,
        diff_hash=diff_hash([sha256(chunk) for chunk in chunks]),
    )
    return forged, chunks


def post_forged(
    vault: VaultClient, header: Header, chunks: Sequence[bytes], operator: Wallet, stolen: Sequence[Wallet]
) -> bytes:
    """Publish and post it with the stolen keys; its hash. Raises `ChainError`."""
    for chunk in chunks:
        vault.publish_diff(chunk)
    chain, encoded = vault.rpc.chain_id(), header.encode()
    digest = attestation_digest(chain, vault.address, header.hash())
    attestations = [wallet.sign_digest(digest) for wallet in sorted(stolen, key=lambda wallet: wallet.address)]
    signature = operator.sign_digest(post_epoch_digest(chain, vault.address, header.hash()))
    vault.post_epoch(encoded, [sha256(chunk) for chunk in chunks], [], signature, attestations)
    return header.hash()
