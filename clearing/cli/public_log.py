# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo's public journal: files that two witnesses cosign, mirrored over HTTP and audited from the mirror."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec

from clearing.cli.stage import StageError, must, novate, wait_for
from clearing.service.layout import read_key
from proofs import checkpoint as notes

NAMES = ("north.example/witness", "south.example/witness")


class Witness:
    """`novate witness run` as a process of its own, following one log."""

    def __init__(self, folder: Path, name: str, log: str) -> None:
        self.name, self._folder = name, folder / name.partition(".")[0]
        self._folder.mkdir()
        own = ["--name", name, "--key", str(self._folder / "key"), "--state", str(self._folder / "state")]
        self.key = must(novate("witness", "run", *own, "--vkey"), "witness run --vkey").out.strip()
        self._port_file, self._log = self._folder / "port", self._folder / "witness.log"
        command = [sys.executable, "-m", "clearing.cli", "witness", "run", *own, "--log", log]
        command += ["--port", "0", "--port-file", str(self._port_file)]
        with self._log.open("ab") as output:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    def url(self) -> str:
        wait_for(lambda: self._port_file.exists() or self.process.poll() is not None, f"{self.name} to start")
        if self.process.poll() is not None:
            raise StageError(f"{self.name} ended: {self._log.read_text()[-800:]}")
        return f"http://127.0.0.1:{self._port_file.read_text().strip()}"

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Any web server will do: here Python's own, over a folder of files."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def published(folder: Path, data: Path) -> Iterator[tuple[Path, Path, list[Witness]]]:
    """A verified mirror of the journal in `data`, the policy file of who asks for both witnesses, and the witnesses."""
    log, mirror, policy = folder / "log", folder / "mirror", folder / "policy"
    with ExitStack() as stack:
        found = must(novate("journal", "publish", str(log), "--data", str(data), "--json"), "journal publish").data
        witnesses = [Witness(folder, name, found["verifier_key"]) for name in NAMES]
        for witness in witnesses:
            stack.callback(witness.stop)
        lines = [f"log {found['verifier_key']}"]
        lines += [f"witness {w.name} {w.key} {w.url()}" for w in witnesses]
        lines += [f"group both all {' '.join(NAMES)}", "quorum both", ""]
        policy.write_text("\n".join(lines))
        again = ["journal", "publish", str(log), "--data", str(data), "--policy", str(policy), "--json"]
        must(novate(*again), "journal publish with witnesses")
        url = stack.enter_context(serving(log))
        must(novate("journal", "mirror", url, str(mirror), "--json"), "journal mirror")
        yield mirror, policy, witnesses


def second_head(mirror: Path, data: Path) -> str:
    """The mirror's checkpoint with another root, signed with the operator's key: what a second party would be shown."""
    tip = notes.parse((mirror / "checkpoint").read_text()).checkpoint
    other = msgspec.structs.replace(tip, root=bytes(32))
    return notes.sign(other, read_key(data / "keys/operator.ed25519"))


def ask_to_cosign(url: str, size: int, note: str) -> int:
    """The status that a witness, which cosigned `size` entries, answers with to a note."""
    import httpx

    return httpx.post(f"{url}/add-checkpoint", content=f"old {size}\n\n{note}".encode(), timeout=20).status_code
