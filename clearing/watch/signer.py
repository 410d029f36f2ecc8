# SPDX-License-Identifier: GPL-3.0-or-later
"""What an attestor has signed, on disk before anyone sees the signature.

    signed/<epoch, 10 digits>-<vault>.hash   64 hexadecimal digits: the one header's hash

Rules:
- The file is made, once and for good, and it, its name and the directory are synced before the signature is computed.
  So after a crash at any point, of the process or the machine, the attestor may sign the same header again, and never
  another one of that epoch and vault.
- A file that exists is believed whatever it holds; what does not parse forbids every signature of that epoch.
- One process per directory: a lock is held for as long as the log is open.
"""

import fcntl
import os
from pathlib import Path
from types import TracebackType

from clearing.chain.wallet import Wallet, attestation_digest
from clearing.model.errors import NovateError


class SigningLog:
    """The directory of what was signed. Close it, or use `with`."""

    def __init__(self, folder: Path) -> None:
        """Raises `NovateError` ATTESTOR_RUNS when another process holds it, DISK_FULL when it cannot be made."""
        self._folder = folder / "signed"
        try:
            made = [path for path in (self._folder, *self._folder.parents) if not path.exists()]
            self._folder.mkdir(parents=True, exist_ok=True)
            for path in made:
                _sync(path.parent)
            self._lock = (folder / "attestor.lock").open("w")
        except OSError as error:
            raise NovateError("DISK_FULL", f"{folder} cannot be used: {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            message = f"another attestor runs on {folder}; two of them could sign two headers of one epoch"
            raise NovateError("ATTESTOR_RUNS", message) from None
        # An earlier process may have ended before it synced the name that it made last.
        self._unsynced = True
        for torn in self._folder.glob("*.tmp"):
            torn.unlink(missing_ok=True)

    def close(self) -> None:
        self._lock.close()

    def __enter__(self) -> "SigningLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def signed(self, epoch: int, vault: int) -> bytes | None:
        """The hash that was signed (32 bytes), or None. What cannot be read is 32 zero bytes: nothing equals that."""
        try:
            text = self._path(epoch, vault).read_text()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError):
            return bytes(32)
        try:
            found = bytes.fromhex(text.strip())
        except ValueError:
            return bytes(32)
        return found if len(found) == 32 else bytes(32)

    def record(self, epoch: int, vault: int, header_hash: bytes) -> None:
        """Promise never to sign another header of this epoch and vault. Raises `NovateError` ALREADY_SIGNED_OTHER,
        DISK_FULL; after either nothing may be signed."""
        known = self.signed(epoch, vault)
        if known is not None and known != header_hash:
            message = f"epoch {epoch} of vault {vault}: 0x{known.hex()} was signed, 0x{header_hash.hex()} will not be"
            raise NovateError("ALREADY_SIGNED_OTHER", message)
        path = self._path(epoch, vault)
        try:
            if known is None:
                self._write(path, header_hash.hex() + "\n")
            if self._unsynced:
                _sync(self._folder)
                self._unsynced = False
        except OSError as error:
            raise NovateError("DISK_FULL", f"{path} was not written: {error.strerror}; nothing was signed") from None

    def last(self, vault: int) -> int:
        """The last epoch of a vault that was signed; 0 if none was."""
        return max((int(path.name[:10]) for path in self._folder.glob(f"{'[0-9]' * 10}-{vault}.hash")), default=0)

    def _write(self, path: Path, text: str) -> None:
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        with temporary.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        self._unsynced = True
        os.link(temporary, path)  # fails when it exists, unlike a rename
        temporary.unlink()

    def _path(self, epoch: int, vault: int) -> Path:
        return self._folder / f"{epoch:010d}-{vault}.hash"


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def attest(log: SigningLog, wallet: Wallet, place: tuple[int, bytes], epoch: int, vault: int, header: bytes) -> bytes:
    """The attestor's signature (65 bytes) over a header's hash for the vault at `place` (chain id, address).

    Raises as `SigningLog.record`.
    """
    log.record(epoch, vault, header)
    return wallet.sign_digest(attestation_digest(*place, header))
