# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate witness run|status`, and the collector of cosignatures for `novate journal publish`."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clearing.cli.logs import read_policy
from clearing.cli.options import json_option
from clearing.cli.output import emit, fail, moment, note, reports_errors

if TYPE_CHECKING:
    from clearing.client.witness import Asked, WitnessAt
    from proofs.policy import Policy

KEY_VARIABLE = "NOVATE_WITNESS_KEY"


@click.group()
def witness() -> None:
    """Cosign checkpoints of logs, so that no log can show two parties two histories."""


@witness.command("run")
@click.option("--name", required=True, help="The witness's name on its signatures, such as witness.example/novate.")
@click.option(
    "--key", "key_file", type=click.Path(path_type=Path, dir_okay=False),
    help=f"File with its Ed25519 key (64 hex digits, mode 0600), made if there is none; or set {KEY_VARIABLE}.",
)  # fmt: skip
@click.option("--state", "folder", type=click.Path(path_type=Path, file_okay=False), help="Directory of its memory.")
@click.option("--log", "logs", multiple=True, help="Verifier key of a log to follow, <origin>+<id>+<base64>; repeat.")
@click.option(
    "--logs", "logs_file", type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="File with a verifier key per line, or the `log` lines of a policy.",
)  # fmt: skip
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8650, show_default=True, type=click.IntRange(0, 65_535))
@click.option("--port-file", type=click.Path(path_type=Path, dir_okay=False), help="Write the port here, once serving.")
@click.option("--new", is_flag=True, help="Begin with an empty memory, for a key that has never cosigned anything.")
@click.option(
    "--vkey",
    "show_key",
    is_flag=True,
    help="Print the witness's verifier key and end; makes the key (and with it the memory) if there is none.",
)
@reports_errors
def run_command(
    name: str, key_file: Path | None, folder: Path | None, logs: tuple[str, ...], logs_file: Path | None,
    host: str, port: int, port_file: Path | None, new: bool, show_key: bool,
) -> None:  # fmt: skip
    """Serve C2SP tlog-witness: POST /add-checkpoint. Runs until SIGTERM or SIGINT; logs JSON lines to stderr.

    It cosigns a checkpoint of a log it follows when the log has signed it and proves that it extends the last one
    that was cosigned. What it cosigned is on disk before the cosignature leaves.

    Its memory is what it is worth: keep --state on a disk that lasts, never roll it back to a backup, and never run
    the key anywhere else. A witness that lost its memory needs a new key.

    Statuses: 200 cosigned, 400 malformed, 403 not signed by the log, 404 another log, 409 another size is known (or
    another root of that size: a fork, kept in the memory), 422 not shown to extend it.
    """
    from clearing.service.node import configure_logging
    from clearing.witness.server import Server, build_app, listen
    from clearing.witness.state import State
    from clearing.witness.witness import Witness, log_keys

    seed, made = _key(key_file)
    key = _verifier_key(name, seed)
    if show_key:
        if made and folder is not None:
            State(folder, key, new=True).close()  # so that the run to come needs no --new
        click.echo(key)
        return
    lines = list(logs)
    if logs_file is not None:
        lines += _text(logs_file, "WITNESS_LOGS").split("\n")
    followed = log_keys(lines)
    if not followed:
        raise click.UsageError("give --log VERIFIER_KEY or --logs FILE: a witness follows the logs that it is told")
    if folder is None:
        raise click.UsageError("give --state DIR, where the witness remembers what it cosigned")
    with State(folder, key, new or made) as state:
        listener = listen(host, port)
        log = configure_logging()

        def tell(event: str, **fields: Any) -> None:
            {"cosigned": log.info, "failed": log.error}.get(event, log.warning)(event, **fields)

        server = Server(build_app(Witness(name, seed, followed, state, tell=tell), tell), listener)
        bound = server.port

        def started() -> None:
            if port_file is not None:
                _put_port(port_file, bound)
            log.info("serving", host=host, port=bound, key=key, logs=sorted(followed))

        server.run(started)
        log.info("stopped")


def _key(path: Path | None) -> tuple[bytes, bool]:
    """The witness's key, and whether it was made just now."""
    from clearing.service.layout import ensure_key

    given = os.environ.get(KEY_VARIABLE, "")
    if (path is None) == (not given):
        raise click.UsageError(f"give the key either as --key FILE or in {KEY_VARIABLE}")
    if path is not None:
        made = not path.exists()
        return ensure_key(path), made
    try:
        seed = bytes.fromhex(given.strip().removeprefix("0x"))
    except ValueError:
        seed = b""
    if len(seed) != 32:
        fail("KEY_MALFORMED", f"{KEY_VARIABLE} does not hold 64 hexadecimal digits")
    return seed, False


def _verifier_key(name: str, seed: bytes) -> str:
    from clearing.service.layout import Ed25519Key
    from proofs.checkpoint import is_key_name
    from proofs.cosignature import verifier_key

    if not is_key_name(name) or len(name.encode()) > 255:
        raise click.UsageError(f"--name {name[:80]!r}: up to 255 bytes without spaces and plus signs")
    return verifier_key(name, Ed25519Key(seed).public)


def _put_port(path: Path, port: int) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(f"{port}\n")
    temporary.replace(path)


def _text(path: Path, code: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        fail(code, f"{path} is not text in UTF-8")


@witness.command("status")
@click.option(
    "--state", "folder", required=True, type=click.Path(path_type=Path, file_okay=False), help="Its directory."
)
@json_option
@reports_errors
def status_command(folder: Path, as_json: bool) -> None:
    """What a witness remembers, read from its directory, beside a running one.

    Forks are notes that a log signed although the witness had cosigned another root of that size: each is evidence,
    together with the cosigned note under logs/. Unproven notes came without a proof that they extend the cosigned
    one; whoever sent them may just have sent a wrong proof.
    """
    from clearing.witness.state import name_of, read_memory

    memory = read_memory(folder)
    logs: list[dict[str, Any]] = [
        {
            "origin": known.checkpoint.origin,
            "size": known.checkpoint.size,
            "root": known.checkpoint.root,
            "cosigned_s": known.time_s,
            "note": str(folder / "logs" / name_of(known.checkpoint.origin)),
        }
        for known in memory.logs
    ]
    forks, unproven = [str(path) for path in memory.forks], [str(path) for path in memory.unproven]
    lines = [f"witness {memory.witness}"]
    lines += [
        f"log {one['origin']}: {one['size']:,} entries, root {one['root'].hex()[:16]}…, "
        f"cosigned {moment(one['cosigned_s'] * 1_000_000)}"
        for one in logs
    ] or ["no log has been cosigned yet"]
    lines += [f"FORK: {path}" for path in forks] + [f"not proven to extend the log: {path}" for path in unproven]
    emit({"witness": memory.witness, "logs": logs, "forks": forks, "unproven": unproven}, as_json, lines)


# --- for the publisher ---

CosignHook = Callable[[str, int], str]


class Collector:
    """Cosigns what is published into `directory`; says on stderr what is missing, once until it changes."""

    def __init__(self, directory: Path, witnesses: "Sequence[WitnessAt]", policy: "Policy | None") -> None:
        self._directory = directory
        self._witnesses = witnesses
        self._policy = policy
        self._told: set[str] = set()
        self.asked: tuple[Asked, ...] = ()

    def __call__(self, text: str, previous: int) -> str:
        """The note with the cosignatures that were got. Tiles and bundles of its tree must lie in the directory."""
        from clearing.client.witness import collect
        from journal.folder import directory
        from journal.published import PublishedLog, unsigned

        log = PublishedLog(directory(self._directory), unsigned)
        log.at(text)
        found = collect(text, self._witnesses, log.tree().consistency, previous)
        self.asked = found.asked
        said = {f"{one.code}: {one.reason}" for one in found.missing}
        said |= self._unsatisfied(found.note)
        for line in sorted(said - self._told):
            note(f"NOT COSIGNED: {line}")
        self._told = said
        return found.note

    def _unsatisfied(self, text: str) -> set[str]:
        from proofs.errors import ProofError

        if self._policy is None:
            return set()
        try:
            self._policy.check(text)
        except ProofError as error:
            return {f"{error.code}: {error.message}; who asks for this policy will not take this checkpoint"}
        return set()

    def report(self) -> list[dict[str, Any]]:
        """What came of each witness, for JSON."""
        return [
            {"name": one.name, "url": one.url, "time_s": one.time_s, "code": one.code, "reason": one.reason}
            for one in self.asked
        ]


def collector(directory: Path, given: Sequence[tuple[str, str]], policy_file: Path | None) -> Collector | None:
    """The collector for these witnesses (verifier key and URL each) and those of a policy; None without any.

    Raises NovateError WITNESS_KEY, WITNESS_URL; a policy that is none ends the command with POLICY_INVALID.
    """
    from clearing.client.witness import witness_at, witnesses_of

    policy = read_policy(policy_file) if policy_file is not None else None
    witnesses = [witness_at(key, url) for key, url in given]
    keys = {one.public_key for one in witnesses}
    if policy is not None:
        witnesses += [one for one in witnesses_of(policy) if one.public_key not in keys]
        if not witnesses and policy.witnesses:
            note("no witness of the policy has a URL, so none is asked; add URLs to its lines, or give --witness")
    return Collector(directory, witnesses, policy) if witnesses or policy is not None else None
