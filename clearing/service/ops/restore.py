# SPDX-License-Identifier: GPL-3.0-or-later
"""From a backup back to a data directory, only where going on from it cannot equivocate.

A journal that goes on from an old copy is a second history: whoever holds a checkpoint that was signed after the
backup can prove it, the vault freezes, and the bond is gone. No file can say that nothing was signed since, so:

Rules:
- What others hold decides. Evidence is every vault's last header, signed checkpoints (mirrors, attestors, receipts),
  and the journal of the old disk. Where any of it is ahead of what is restored, nothing is restored: RESTORE_BEHIND
  says what is missing. Where it contradicts, RESTORE_FORKED.
- What is missing can be brought in: blocks from a mirror or the old disk continue the backup's chain, byte for byte,
  up to the newest evidence, and must lead to its root.
- Chains alone are not enough, since commits after the last epoch were acknowledged too: there must be a checkpoint or
  the old disk, or the operator's own statement that nothing was signed since (it was stopped, and never ran again).
- All of it is done beside the data directory, and checked as a start would (recovery replays the tail), before
  anything appears there. The journal comes last. Nothing is overwritten, but keys may lie there already.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from clearing.model.errors import NovateError
from clearing.service.commit import named
from clearing.service.config import FILE_NAME, Config
from clearing.service.layout import Layout, write_key
from clearing.service.links import connect
from clearing.service.ops.backup import MANIFEST, SEALED, Manifest, verify
from clearing.service.ops.sealed import unseal
from clearing.service.recover import open_store, recover
from journal import JournalError, Store
from proofs import checkpoint as notes
from proofs.errors import ProofError
from proofs.header import Header

if TYPE_CHECKING:
    from clearing.model.commands import Genesis

Blocks = Callable[[int], Iterable[bytes]]
_KEYS: Final = "keys"


class Evidence(msgspec.Struct, frozen=True):
    """Somebody holds this head of the journal. `complete`: not only a chain, which sees one head per epoch. `note` is
    the signed text, to be checked against the operator's keys."""

    source: str
    size: int
    root: bytes
    complete: bool = False
    note: str = ""


class Restored(msgspec.Struct, frozen=True):
    """`filled`: entries that were added to the backup's."""

    deployment: str
    size: int
    root: bytes
    epoch: int
    filled: int
    evidence: list[Evidence]
    keys: bool


def require_unguarded(data_dir: Path) -> None:
    """A node does not start on a backup. Raises `NovateError` IS_A_BACKUP."""
    if (data_dir / MANIFEST).exists():
        text = f"{data_dir} is a backup, and going on from it could equivocate; run: novate operator restore {data_dir}"
        raise NovateError("IS_A_BACKUP", f"{text} NEW_DIRECTORY")


def evidence_of_note(text: str, source: str) -> Evidence:
    """A signed checkpoint; whose signature it is comes later. Raises `NovateError` CHECKPOINT_MALFORMED."""
    try:
        found = notes.parse(text).checkpoint
    except ProofError as error:
        raise NovateError("CHECKPOINT_MALFORMED", f"{source} is no signed checkpoint: {error}") from None
    return Evidence(source, found.size, found.root, True, text)


def evidence_of_chains(genesis: Genesis, config: Config) -> list[Evidence]:
    """The last header of every vault with an endpoint. Raises `ChainError`."""
    found = []
    for number, spec in enumerate(genesis.vaults):
        client = connect(config.vault(number), spec.address)
        if client is None:
            continue
        try:
            client.rpc.require_chain(spec.chain_id)
            epoch = client.epoch_count()
            if epoch:
                block = client.header_block(epoch)
                header = Header.decode(client.epochs(block, block, epoch)[0].header)
                name = f"vault {number}, epoch {epoch}"
                found.append(Evidence(name, header.journal_size, header.journal_root))
        finally:
            client.rpc.close()
    return found


def evidence_of_journal(path: Path) -> Evidence:
    """The head of another copy of the journal, such as the old disk's. Raises `NovateError` with the journal's code."""
    try:
        with Store.open(path, read_only=True) as store:
            head = store.head()
    except JournalError as error:
        raise named(error) from None
    return Evidence(str(path), head.next_seq, head.tree_root, True)


class Restore:
    """One restoration; `run` does all of it, or leaves nothing behind."""

    def __init__(self, backup: Path, data_dir: Path) -> None:
        self._backup, self._data_dir = backup, data_dir.absolute()
        self._folder = self._data_dir.with_name(f".{self._data_dir.name}.restoring")

    def run(
        self,
        config: Config,
        evidence: Sequence[Evidence],
        blocks: Blocks | None = None,
        passphrase: bytes | None = None,
        nothing_since: bool = False,
    ) -> Restored:
        """`config`: whose endpoints the vaults are asked at; `blocks(seq)` yields raw blocks from the one at `seq`.

        Raises `NovateError` DATA_DIR_NOT_EMPTY, BACKUP_*, SEAL_NOT_OPENED, RESTORE_BEHIND, RESTORE_FORKED,
        RESTORE_UNPROVEN, CHECKPOINT_FOREIGN, and what recovery raises; `ChainError`.
        """
        self._require_free()
        manifest = verify(self._backup)
        keys = self._keys(manifest, passphrase)
        shutil.rmtree(self._folder, ignore_errors=True)
        try:
            self._copy(manifest)
            restored = self._prove(config, evidence, blocks, nothing_since, bool(keys), manifest)
            self._publish(keys)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
        return restored

    def _require_free(self) -> None:
        if self._data_dir.exists() and any(path.name != _KEYS for path in self._data_dir.iterdir()):
            text = f"{self._data_dir} is not empty (only keys/ may be there); nothing is overwritten: choose another"
            raise NovateError("DATA_DIR_NOT_EMPTY", text)

    def _keys(self, manifest: Manifest, passphrase: bytes | None) -> dict[str, bytes]:
        if not manifest.sealed_keys or passphrase is None:
            return {}
        return unseal((self._backup / SEALED).read_bytes(), passphrase)

    def _copy(self, manifest: Manifest) -> None:
        self._folder.mkdir(mode=0o700, parents=True)
        for name in manifest.files:
            if name == SEALED:
                continue
            target = self._folder / name
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.copyfile(self._backup / name, target)
            target.chmod(0o600)

    def _prove(
        self, config: Config, given: Sequence[Evidence], blocks: Blocks | None, nothing_since: bool, keys: bool,
        manifest: Manifest,
    ) -> Restored:  # fmt: skip
        layout = Layout(self._folder)
        store = open_store(layout, config.journal_map_bytes)
        try:
            begun = recover(store, layout, config.keep_snapshots)
            evidence = [*given, *evidence_of_chains(begun.genesis, config)]
            if blocks is not None:
                _fill(store, blocks, max((row.size for row in evidence), default=0))
                begun = recover(store, layout, config.keep_snapshots)
            state, head = begun.reducer.state, store.head()
            origin = notes.origin_of(begun.genesis.origin, begun.genesis.deployment)
            for row in evidence:
                _require_ours(row, origin, (begun.genesis.operator_key, state.operator_key))
            _require_not_behind(store, evidence)
            if not nothing_since and not any(row.complete for row in evidence):
                raise _unproven(head.next_seq)
            return Restored(
                begun.genesis.deployment.hex(), head.next_seq, head.tree_root, state.epoch,
                head.next_seq - manifest.size, list(evidence), keys,
            )  # fmt: skip
        except JournalError as error:
            raise named(error) from None
        finally:
            store.close()

    def _publish(self, keys: dict[str, bytes]) -> None:
        """Into place, the journal last: without one nothing starts."""
        self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = Layout(self._data_dir).keys
        if keys:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name, content in keys.items():
                if not (folder / name).exists():
                    write_key(folder / name, bytes.fromhex(content.decode("ascii").strip()))
        for path in sorted(self._folder.iterdir(), key=lambda item: item.name == "journal"):
            path.rename(self._data_dir / path.name)


def _fill(store: Store, blocks: Blocks, size: int) -> None:
    """Continue the journal up to `size` entries, and no further: what nobody signed is not taken."""
    head = store.head()
    if head.next_seq >= size:
        return
    for raw in blocks(head.next_seq):
        head = store.append_block(raw, head)
        if head.next_seq >= size:
            return


def _require_ours(row: Evidence, origin: str, keys: Sequence[bytes]) -> None:
    if not row.note:
        return
    signed = notes.parse(row.note)
    if signed.checkpoint.origin != origin:
        text = f"{row.source} is a checkpoint of {signed.checkpoint.origin}, not of {origin}; give one of this journal"
        raise NovateError("CHECKPOINT_FOREIGN", text)
    for key in keys:
        try:
            notes.verify(row.note, key[1:], origin)
        except ProofError:
            continue
        return
    raise NovateError("CHECKPOINT_FOREIGN", f"{row.source} is not signed by this venue's operator; leave it out")


def _require_not_behind(store: Store, evidence: Sequence[Evidence]) -> None:
    size = store.head().next_seq
    for row in sorted(evidence, key=lambda found: -found.size):
        if row.size > size:
            raise NovateError(
                "RESTORE_BEHIND",
                f"{row.source} holds {row.size} entries, this copy {size}: going on would sign a second history, and "
                f"anyone could prove it. Bring in entries {size} to {row.size - 1}: --from the old disk's data "
                "directory, a mirror or an attestor's copy. If nobody has them, do not start: let owners escape",
            )
        if store.root(row.size) != row.root:
            raise NovateError(
                "RESTORE_FORKED",
                f"{row.source} holds another root at size {row.size} than this copy: one of the two is not this "
                "venue's journal. Do not start; run `novate audit replay` on both",
            )


def _unproven(size: int) -> NovateError:
    return NovateError(
        "RESTORE_UNPROVEN",
        f"only chains were asked, and they see one head per epoch: commits after entry {size} may have been "
        "acknowledged. Give the newest checkpoint (--checkpoint of a mirror, an attestor, a receipt), the old disk "
        "(--from), or state with --nothing-since that the operator signed nothing after this backup",
    )


def backed_up_config(backup: Path) -> str:
    """config.toml as it was backed up. Raises `NovateError` BACKUP_DAMAGED."""
    try:
        return (backup / FILE_NAME).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NovateError("BACKUP_DAMAGED", f"{backup / FILE_NAME} cannot be read: {error}") from None
