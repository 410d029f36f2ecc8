# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate operator run`: a node in this process, the public interface in one beside it, until told to stop.

Rules:
- SIGTERM and SIGINT: the interface ends what it serves while the writer still answers, then the writer commits what
  waits, then exit 0. A fault of the writer: the same, and exit 1.
- The interface may die and come back (clearing.service.supervise); the writer does not notice. When this process is
  killed, the interface ends with it.
"""

import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from clearing.model.errors import NovateError
from clearing.service.config import variable
from clearing.service.doorbell import Doorbell
from clearing.service.epochs import write_durably
from clearing.service.supervise import Supervisor

if TYPE_CHECKING:
    from clearing.service.node import Node

# What runs beside the sequencer. By name, since the interface imports the service and not the other way round.
API: Final = (sys.executable, "-m", "clearing.api")


def listen(host: str, port: int, setting: str = "another") -> socket.socket:
    """A bound socket, for the interface to listen on. Raises `NovateError` PORT_UNAVAILABLE, which says to choose
    `setting`."""
    listener: socket.socket | None = None
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # By its protocol's name, or asyncio leaves Nagle's delay on: 40 ms for each answer of two packets.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        if listener is not None:
            listener.close()
        text = f"cannot listen on {host}:{port}: {error.strerror}; choose {setting}"
        raise NovateError("PORT_UNAVAILABLE", text) from None
    return listener


def run_node(
    node: "Node",
    host: str | None = None,
    port: int | None = None,
    port_file: Path | None = None,
    api: Sequence[str] = API,
) -> int:
    """Serve until SIGTERM, SIGINT or a fault of the writer; the process's exit code. With `port` 0 a free one is
    taken, and the private port is a free one, too, unless it was chosen: `port_file` and running.json tell. `api`:
    the interface's command, which gets the data directory appended."""
    config, watch = node.config, node.watch
    assert watch is not None and node.link is not None, "a node that was constructed has both"
    chosen = host or config.host
    try:
        listener = listen(chosen, config.port if port is None else port)
        any_port = port == 0 and not node.private_chosen
        private = watch.serve(config.private_host, 0 if any_port else config.private_port, config.private_names)
    except BaseException:
        node.close()
        raise
    bound, bell, figures = listener.getsockname()[1], Doorbell(), node.link.answers
    watch.gauges.api = lambda: figures.figures

    def served() -> None:
        try:
            if port_file is not None:
                write_durably(port_file, f"{bound}\n".encode())
        except NovateError as error:
            failed(error)
        epoch = node.pipeline.reducer.state.epoch
        node.log.info("serving", host=chosen, port=bound, private_port=private, epoch=epoch, api=supervisor.pid)

    def failed(error: NovateError) -> None:
        node.log.critical("halted", code=error.code, message=error.message)
        node.exit_code = 1
        bell.ring()

    # What an option said of the log is said to the interface, too; the rest of the configuration it reads itself.
    told = {"log_json": str(config.log_json).lower(), "log_level": config.log_level}
    environment = {variable(name): value for name, value in told.items()}
    supervisor = Supervisor([*api, str(node.root)], listener, node.log, served, failed, environment)
    if threading.current_thread() is threading.main_thread():
        bell.answer_signals()
    node.on_fatal = bell.ring
    if node.sequencer.fatal is not None:
        bell.ring()
    node.start_background()
    watch.start()
    watch.announce(node.root, chosen, bound, config.private_host, private)
    try:
        supervisor.start()
        bell.wait()
    finally:
        supervisor.stop()
        node.on_fatal = None
        node.close()
        bell.close()
        node.log.info("stopped", exit_code=node.exit_code)
    return node.exit_code
