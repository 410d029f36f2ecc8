# SPDX-License-Identifier: GPL-3.0-or-later
"""Is this machine fit to run this venue? Each check says what it found and, unless that is fine, what to do.

Rules:
- Nothing is changed, and a running operator is not disturbed: the journal is read beside its writer.
- A check that cannot be made is a finding, and the ones after it are still made. A fault of a check is an error here
  and not a traceback.
- ERROR: the operator does not start, or must not. WARNING: it runs, and someone should look.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import shutil
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from clearing.chain.wallet import Wallet
from clearing.core.reducer import RULES_VERSION
from clearing.model.errors import NovateError
from clearing.model.signature import public_key_of
from clearing.service import config as configuration
from clearing.service.config import FILE_NAME, Config
from clearing.service.epochs import EpochBook
from clearing.service.layout import ED25519, SECP256K1, Layout, read_key
from clearing.service.ops.logs import masked
from clearing.service.ops.metrics import package_version
from clearing.service.ops.private import read_running
from clearing.service.ops.restore import require_unguarded
from clearing.service.recover import open_store, read_genesis, state_at_head
from journal import JournalError
from journal.fsck import fsck
from journal.snapshot import Snapshots

if TYPE_CHECKING:
    from clearing.core.state import State
    from clearing.model.commands import Genesis

OK: Final = "ok"
WARNING: Final = "warning"
ERROR: Final = "error"
_FREE_WARNING_PPM: Final = 100_000
_FREE_ERROR_PPM: Final = 50_000
_FILES: Final = 4_096
_NETWORKED: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "glusterfs"})
_PASSING: Final = frozenset({"tmpfs", "ramfs"})
_LIBRARIES: Final = ("lmdb", "pymerkle", "msgspec", "pynacl", "coincurve", "numpy", "starlette", "uvicorn")
_UNSYNCHRONISED: Final = 5


class Finding(msgspec.Struct, frozen=True):
    """`todo` says what to do; empty when nothing is."""

    name: str
    level: str
    detail: str
    todo: str = ""


Check = Callable[[], Iterator[Finding]]


class Patient:
    """A data directory under examination; what is found on the way is kept for later checks."""

    def __init__(self, data_dir: Path, environ: Mapping[str, str] | None = None) -> None:
        self.layout = Layout(data_dir)
        self.environ = os.environ if environ is None else environ
        self.running = read_running(data_dir)
        if self.running is not None and not self.running.alive():
            self.running = None
        self.config: Config | None = None
        self.genesis: Genesis | None = None
        self.state: State | None = None


def examine(patient: Patient, chains: bool = True, whole_journal: bool = True) -> Iterator[Finding]:
    """All checks in order. `chains`: also ask the endpoints; `whole_journal`: read it from its first byte."""
    from clearing.service.ops.doctor_chains import examine_chains

    checks: list[tuple[str, Callable[[Patient], Iterator[Finding]]]] = [
        ("versions", _versions),
        ("config", _config),
        ("data directory", _directory),
        ("disk", _disk),
        ("limits", _limits),
        ("journal", _journal if whole_journal else lambda _: iter(())),
        ("state", _state),
        ("keys", _keys),
        ("epochs", _epochs),
        ("clock", _clock),
        ("ports", _ports),
    ]
    if chains:
        checks.append(("chains", examine_chains))
    for name, check in checks:
        yield from guarded(name, lambda check=check: check(patient))  # type: ignore[misc]


def guarded(name: str, check: Check) -> Iterator[Finding]:
    """The check's findings; what it raises is one of them."""
    try:
        yield from check()
    except (NovateError, JournalError) as error:
        yield Finding(name, ERROR, f"{error.code}: {masked(error.message)}", "see the message")
    except OSError as error:
        yield Finding(name, ERROR, f"{error.filename or ''}: {error.strerror}", "check the path and its permissions")
    except Exception as error:  # noqa: BLE001 - a check that fails must not hide the others
        yield Finding(name, ERROR, f"the check itself failed: {type(error).__name__}: {error}", "please report it")


def _versions(patient: Patient) -> Iterator[Finding]:
    python = platform.python_version()
    yield Finding("versions", OK, f"novate {package_version()}, rules {RULES_VERSION}, Python {python}")
    missing, found = [], []
    for name in _LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        yield Finding("libraries", ERROR, f"not installed: {', '.join(missing)}", "install novate again")
    else:
        yield Finding("libraries", OK, ", ".join(found))


def _config(patient: Patient) -> Iterator[Finding]:
    path = patient.layout.root / FILE_NAME
    require_unguarded(patient.layout.root)
    patient.config = config = configuration.load(patient.layout.root, patient.environ)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077 and masked(path.read_text(encoding="utf-8")) != path.read_text(encoding="utf-8"):
        text = f"{path} has mode {mode:o}, and an endpoint's URL in it holds a key"
        yield Finding("config", WARNING, text, f"chmod 600 {path}")
    else:
        yield Finding("config", OK, str(path))
    if not config.epoch_seconds:
        text = "epoch_seconds = 0: no epoch closes by itself, and the vaults' deadlines pass"
        yield Finding("epoch interval", WARNING, text, f"set epoch_seconds in {path}, such as 600")
    if config.private_host not in ("127.0.0.1", "::1", "localhost"):
        text = f"the private port listens on {config.private_host}, not only on this machine"
        yield Finding("private port", WARNING, text, "keep it behind a firewall, or set private_host to 127.0.0.1")


def _directory(patient: Patient) -> Iterator[Finding]:
    root = patient.layout.root
    mode = stat.S_IMODE(root.stat().st_mode)
    if mode & 0o077:
        yield Finding(
            "data directory", WARNING, f"{root} has mode {mode:o}, others can look into it", f"chmod 700 {root}"
        )
    elif not os.access(root, os.W_OK | os.X_OK):
        yield Finding("data directory", ERROR, f"{root} cannot be written", "run as its owner")
    else:
        yield Finding("data directory", OK, f"{root}, {_owner(root)}")
    kind = _file_system(root)
    if kind in _NETWORKED:
        text = f"{root} is on {kind}: memory maps and locks over a network lose data"
        yield Finding("file system", ERROR, text, "move it to a local disk")
    elif kind in _PASSING:
        yield Finding("file system", WARNING, f"{root} is on {kind}: a reboot loses it", "move it to a disk")
    else:
        yield Finding("file system", OK, kind or "unknown")


def _owner(path: Path) -> str:
    held = path.stat().st_uid
    return "ours" if held == os.geteuid() else f"of user {held}, we are {os.geteuid()}"


def _file_system(path: Path) -> str:
    """The type of the file system that holds `path`, as the kernel lists it."""
    best = ("", "")
    try:
        lines = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    where = str(path.resolve())
    for line in lines:
        _, place, kind, *_ = line.split(" ")
        place = place.replace("\\040", " ")
        inside = where == place or where.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= len(best[0]):
            best = (place, kind)
    return best[1]


def _disk(patient: Patient) -> Iterator[Finding]:
    usage = shutil.disk_usage(patient.layout.root)
    ppm = usage.free * 1_000_000 // max(1, usage.total)
    text = f"{usage.free / 2**30:.1f} GiB of {usage.total / 2**30:.1f} GiB free ({ppm / 10_000:.1f} %)"
    if ppm < _FREE_ERROR_PPM:
        yield Finding("disk", ERROR, f"{text}; below 5 % no order is taken", "make room")
    elif ppm < _FREE_WARNING_PPM:
        yield Finding("disk", WARNING, f"{text}; below 5 % no order is taken", "make room")
    else:
        yield Finding("disk", OK, text)
    nodes = os.statvfs(patient.layout.root)
    if nodes.f_files and nodes.f_favail * 100 < nodes.f_files:
        yield Finding("inodes", WARNING, f"{nodes.f_favail} of {nodes.f_files} are left", "delete small files")
    if patient.layout.journal.is_dir() and not (patient.layout.journal / "reserve").exists():
        text = "the journal's reserve of 2 MiB is gone: a full disk used it"
        yield Finding("reserve", WARNING, text, "make room and restart; a start sets it up")


def _limits(_: Patient) -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < _FILES:
        text = f"this process may open {soft} files; each connection takes one"
        yield Finding("open files", WARNING, text, f"raise it to {_FILES} or more (hard limit {hard}): ulimit -n")
    else:
        yield Finding("open files", OK, str(soft) if soft >= 0 else "no limit")
    size = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if size != resource.RLIM_INFINITY:
        yield Finding(
            "file size", WARNING, f"files are limited to {size} bytes, the journal's too", "ulimit -f unlimited"
        )


def _journal(patient: Patient) -> Iterator[Finding]:
    report = fsck(patient.layout.journal)
    if report.ok:
        notes = f" ({'; '.join(report.warnings)})" if report.warnings else ""
        yield Finding("journal", OK, f"whole: {report.entries:,} entries in {report.blocks:,} blocks{notes}")
        return
    for problem in report.problems[:5]:
        where = "" if problem.seq is None else f" from entry {problem.seq}"
        todo = "do not start; restore a backup: novate operator restore"
        yield Finding("journal", ERROR, f"{problem.code}{where}: {problem.reason}", todo)


def _state(patient: Patient) -> Iterator[Finding]:
    size = patient.config.journal_map_bytes if patient.config is not None else 1 << 40
    store = open_store(patient.layout, size, read_only=True)
    try:
        patient.genesis = genesis = read_genesis(store)
        started = time.monotonic()
        patient.state = state = state_at_head(store, patient.layout).state
        seconds = time.monotonic() - started
    finally:
        store.close()
    if genesis.rules_version > RULES_VERSION:
        text = f"the journal's rules are {genesis.rules_version}, this build knows up to {RULES_VERSION}"
        yield Finding("rules", ERROR, text, "upgrade novate")
    text = f"replays to epoch {state.epoch}, {len(state.accounts) - 3} accounts, in {seconds:.1f} s"
    yield Finding("state", OK, text)
    if seconds > 60:
        yield Finding("recovery", WARNING, f"a start takes {seconds:.0f} s", "close epochs more often: they snapshot")


def _keys(patient: Patient) -> Iterator[Finding]:
    folder = patient.layout.keys
    held: dict[bytes, str] = {}
    for path in sorted([*folder.glob("*" + ED25519), *folder.glob("*" + SECP256K1)]):
        try:
            key = read_key(path)
        except NovateError as error:
            yield Finding("keys", ERROR, f"{error.code}: {error.message}", "see the message; a key others saw is known")
            continue
        held[public_key_of(key) if path.suffix == ED25519 else Wallet(key).address] = path.name
    if folder.is_dir() and stat.S_IMODE(folder.stat().st_mode) & 0o077:
        yield Finding("keys", WARNING, f"others can list {folder}", f"chmod 700 {folder}")
    if not held:
        yield Finding("keys", ERROR, f"{folder} holds no readable key", "restore the keys from their backup")
    elif patient.state is not None:
        yield from _live_keys(patient.state, held, folder)


def _live_keys(state: State, held: dict[bytes, str], folder: Path) -> Iterator[Finding]:
    wanted = (("operator's key", state.operator_key), ("operator's address", state.operator_address))
    for name, public in wanted:
        if public in held:
            yield Finding(name, OK, f"0x{public.hex()} ({held[public]})")
        else:
            text = f"no file in {folder} holds 0x{public.hex()}, which the journal names"
            yield Finding(name, ERROR, text, "restore that key from its backup; without it nothing can be signed")
    for number, publisher in enumerate(state.publishers):
        place = f"is in {held[publisher.key]}" if publisher.key in held else "is not on this machine"
        yield Finding(f"publisher {number}", OK, f"its key {place}")


def _epochs(patient: Patient) -> Iterator[Finding]:
    damaged = Snapshots(patient.layout.snapshots).damaged()
    for seq, error in damaged.items():
        yield Finding("snapshots", WARNING, f"{seq}: {error.message}", f"delete {patient.layout.snapshots}/{seq:020d}*")
    if patient.genesis is None or patient.state is None:
        return
    whole, closed = EpochBook(patient.layout, patient.genesis).last_whole(), patient.state.epoch
    if whole < closed and patient.running is None:
        text = f"records up to epoch {whole} of {closed}"
        yield Finding("epochs", WARNING, text, "nothing: a start makes the rest again from the journal")
    else:
        yield Finding("epochs", OK, f"{closed} closed, {min(whole, closed)} on record")


def _clock(patient: Patient) -> Iterator[Finding]:
    now_us = time.time_ns() // 1_000
    if patient.state is not None and patient.state.time_us > now_us + 1_000_000:
        ahead = (patient.state.time_us - now_us) / 1_000_000
        text = f"the journal's last entry is {ahead:.0f} s ahead of this clock; time would stand still until then"
        yield Finding("clock", ERROR, text, "set the clock right; if the journal is wrong, wait")
    elif _kernel_clock() == _UNSYNCHRONISED:
        yield Finding("clock", WARNING, "the kernel says that the clock is not synchronised", "run NTP (chrony)")
    else:
        yield Finding("clock", OK, time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()))


def _kernel_clock() -> int:
    """What adjtimex(2) says of the clock: 5 when nothing keeps it right; -1 where it cannot be asked."""
    if sys.platform != "linux":
        return -1
    buffer = ctypes.create_string_buffer(512)  # struct timex with modes = 0: read only
    try:
        return int(ctypes.CDLL(None).adjtimex(buffer))
    except (OSError, AttributeError):
        return -1


def _ports(patient: Patient) -> Iterator[Finding]:
    config = patient.config
    if config is None:
        return
    running = patient.running
    if running is not None:
        yield from _answering(running.private_url)
        return
    for name, host, port in (
        ("public port", config.host, config.port),
        ("private port", config.private_host, config.private_port),
    ):
        fault = _bind(host, port)
        if fault:
            yield Finding(name, ERROR, f"{host}:{port}: {fault}", "stop what listens there, or choose another")
        else:
            yield Finding(name, OK, f"{host}:{port} is free")


def _answering(url: str) -> Iterator[Finding]:
    import httpx

    try:
        answer: Any = httpx.get(f"{url}/readyz", timeout=5, trust_env=False)
    except httpx.HTTPError as error:
        text = f"running.json names {url}, which does not answer ({type(error).__name__})"
        yield Finding("operator", ERROR, text, "see the process's log; if it is gone, delete running.json")
        return
    level = OK if answer.status_code == 200 else ERROR
    todo = "" if level == OK else "see novate operator status"
    yield Finding("operator", level, f"runs, {answer.text.strip()} ({url})", todo)


def _bind(host: str, port: int) -> str:
    """Why this cannot be listened on; "" when it can."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            probe.listen(1)
    except OSError as error:
        return error.strerror or str(error)
    return ""
