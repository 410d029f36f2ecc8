# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a function in a forked child: what it sends, and how it ended.

The journal must be opened after the fork, so a test that forks holds no store open.
"""

import os
import signal
import struct
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

import msgspec

Send = Callable[[object], None]
_LENGTH = struct.Struct(">I")


def run(child: Callable[[Send], None], kill_after_s: float | None = None) -> tuple[int, list[object]]:
    """Run `child(send)`; returns its wait status as a return code (negative: signal) and all it sent.

    With `kill_after_s`, it is sent SIGKILL after that time. An exception in the child is raised here.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _child(child, writing)
    os.close(writing)
    if kill_after_s is not None:
        # Acknowledgements are small: the pipe holds thousands, so the child does not wait for us.
        time.sleep(kill_after_s)
        os.kill(pid, signal.SIGKILL)
    with os.fdopen(reading, "rb") as pipe:
        content = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    messages = list(_split(content))
    if messages and isinstance(messages[-1], dict) and "traceback" in messages[-1]:
        raise AssertionError(messages[-1]["traceback"])
    return status, messages


def _child(child: Callable[[Send], None], writing: int) -> NoReturn:
    def send(message: object) -> None:
        encoded = msgspec.msgpack.encode(message)
        os.write(writing, _LENGTH.pack(len(encoded)) + encoded)

    code = 1
    try:
        child(send)
        code = 0
    except BaseException:  # noqa: BLE001 - all of it goes to the parent
        send({"traceback": traceback.format_exc()})
    finally:
        os._exit(code)


def _split(content: bytes) -> list[object]:
    messages: list[object] = []
    while content:
        (length,) = _LENGTH.unpack(content[: _LENGTH.size])
        messages.append(msgspec.msgpack.decode(content[_LENGTH.size : _LENGTH.size + length]))
        content = content[_LENGTH.size + length :]
    return messages
