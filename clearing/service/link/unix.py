# SPDX-License-Identifier: GPL-3.0-or-later
"""Unix-domain sockets in a directory of any depth.

An address has room for 107 bytes of path. Where a data directory lies deeper, its socket is named through an open
descriptor of the directory (/proc/self/fd), which Linux has.
"""

import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from clearing.model.errors import NovateError

_MOST_BYTES: Final = 107
MODE: Final = 0o600


@contextlib.contextmanager
def address(path: Path) -> Iterator[str]:
    """What to bind or connect to, while the context lasts. Raises OSError, `NovateError` LINK_PATH_TOO_LONG."""
    if len(os.fsencode(path)) <= _MOST_BYTES:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        short = f"/proc/self/fd/{folder}"
        if not os.path.exists(short):
            raise NovateError(
                "LINK_PATH_TOO_LONG", f"{path} has more than {_MOST_BYTES} bytes; use a shorter data path"
            )
        yield f"{short}/{path.name}"
    finally:
        os.close(folder)


def listen(path: Path) -> socket.socket:
    """Listen at `path`, for this user only. A socket that a killed process left there is replaced: whoever calls
    holds the journal, of which there is one writer. Raises `NovateError` LINK_UNAVAILABLE, LINK_PATH_TOO_LONG."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise NovateError("LINK_UNAVAILABLE", f"{path} is no socket; remove it: its place is the link's")
            path.unlink()
        with address(path) as name:
            listener.bind(name)
        path.chmod(MODE)  # nobody can connect before `listen`
        listener.listen(16)
    except OSError as error:
        listener.close()
        raise NovateError("LINK_UNAVAILABLE", f"cannot listen at {path}: {error.strerror}") from None
    except BaseException:
        listener.close()
        raise
    return listener
