# SPDX-License-Identifier: GPL-3.0-or-later
"""A publisher: orders fill only at a price of the last seconds, so one comes every second, on both sides alike."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from clearing.model import commands as c
from clearing.model import signature
from clearing.model.codec import body_hash, encode
from clearing.service.layout import Layout, read_key
from tools.bench import workload as w

EVERY_S = 1.0


class Prices:
    """The publisher of one data directory: `head` is the hash of what it published last."""

    def __init__(self, folder: Path, head: bytes) -> None:
        self._seed = read_key(Layout(folder).keys / "publisher-0.ed25519")
        self._head = head

    @contextmanager
    def publishing(self, submit: Callable[[bytes], object]) -> Iterator[None]:
        """Before anything else a price, then one every second until the end. What `submit` raises is raised there."""
        over, faults = threading.Event(), list[Exception]()

        def publish() -> None:
            body = c.OracleUpdate(w.DEPLOYMENT, 0, self._head, time.time_ns() // 1_000, (c.Price(1, w.MID, 1),))
            self._head = body_hash(encode(body))
            submit(signature.sign(body, self._seed))

        def repeat() -> None:
            try:
                while not over.wait(EVERY_S):
                    publish()
            except Exception as error:  # noqa: BLE001 - told to who waits for the thread
                faults.append(error)

        publish()
        thread = threading.Thread(target=repeat, name="prices", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        if faults:
            raise faults[0]
