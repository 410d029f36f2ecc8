# SPDX-License-Identifier: GPL-3.0-or-later
"""The way through the link, against the same writer without it.

Two copies of one data directory, the same signed orders. One side is a node in this process that is given all of them
at once; the other is a sequencer's process, and this process is what the API's is: a link that submits in parts, and a
replica that follows, on one event loop. Both sides count until the last receipt.
"""

import asyncio
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from clearing.api import replica as replicas
from clearing.api.link import Link
from clearing.api.replica import Replica
from clearing.chain.wallet import Wallet
from clearing.model import commands as c
from clearing.model import ids, signature
from clearing.model.params import Params
from clearing.service.config import ApiConfig, Config
from clearing.service.doorbell import Doorbell
from clearing.service.epochs import EpochBook
from clearing.service.layout import Layout, create_keys
from clearing.service.node import Node, now_us
from clearing.service.pipeline import Receipt
from clearing.service.recover import open_store, read_genesis
from clearing.service.setup import Deployment, init_data_dir
from tools.bench import workload as w
from tools.bench.measure import Figure, Plan, at_least, at_most, median, percentile, quotients, seconds

MEMBERS = 50
MAP_BYTES = 1 << 36
PART = 50
AT_ONCE = 20


def make_venue(folder: Path, members: int = MEMBERS, api: ApiConfig | None = None) -> None:
    """A data directory with members who have money and keys, and a price."""
    keys, genesis = create_keys(folder), w.genesis()
    chosen = Deployment(
        w.DEPLOYMENT, "bench.novate", genesis.vaults, Wallet(keys.operator_secp256k1).address, genesis.treasury,
        genesis.instruments, Params(max_levels=1_000_000, oracle_max_age_us=3_600 * 1_000_000),
    )  # fmt: skip
    quiet = Config(
        journal_map_bytes=MAP_BYTES, epoch_seconds=0, tick_seconds=3_600, log_level="error", api=api or ApiConfig()
    )
    init_data_dir(folder, chosen, now_us(), quiet)
    money = min(10**15, ids.MAX_HOLDINGS_ATOMS // members)
    node = Node(folder)
    try:
        for number in range(members):
            wallet = hashlib.sha256(b"bench owner" + number.to_bytes(4, "big")).digest()
            owner = Wallet(wallet).address
            node.operator.run(c.ConsumeInbox(0, number, ids.INBOX_DEPOSIT, owner, 0, money, 1, bytes(32)))
            key = signature.public_key_of(w.member_seed(number))
            action = c.RegisterKey(owner, key, ids.SCOPE_ALL, ids.MAX_TIME_US, number + 1, wallet)
            node.sequencer.submit(signature.sign_owner(w.DEPLOYMENT, action, wallet)).result(60)
        price = c.OracleUpdate(w.DEPLOYMENT, 0, bytes(32), now_us(), (c.Price(1, w.MID, 1),))
        node.sequencer.submit(signature.sign(price, keys.publishers[0])).result(60)
    finally:
        node.close()


@contextmanager
def sequencer(folder: Path) -> Iterator[None]:
    """A sequencer's process over a data directory."""
    command = [sys.executable, "-m", "tools.bench.link", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def serve(folder: Path) -> None:
    """What that process does."""
    bell = Doorbell()
    bell.answer_signals()
    node = Node(folder)
    print("ready", flush=True)
    bell.wait()
    node.close()
    os._exit(node.exit_code)


class Client:
    """What the API's process has, on a loop of its own; `turns`: what it worked between timers, seconds of CPU."""

    def __init__(self, folder: Path) -> None:
        self._loop = asyncio.new_event_loop()
        layout = Layout(folder)
        self._store = open_store(layout, MAP_BYTES, read_only=True)
        self.link = Link(layout.link)
        self.replica = Replica(self._store, EpochBook(layout, read_genesis(self._store)), layout.link)
        self.turns: list[float] = []
        self._loop.run_until_complete(self._start())

    async def _start(self) -> None:
        await self.link.start()
        await self.replica.start()
        assert await self.link.wait_connected(30)

    def close(self) -> None:
        self._loop.run_until_complete(self.replica.close())
        self._loop.run_until_complete(self.link.close())
        self._loop.close()
        self._store.close()

    def submit(self, raw: Sequence[bytes]) -> None:
        """All of them, `AT_ONCE` requests of `PART` under way; each must be journalled."""
        self._loop.run_until_complete(self._submit(raw))

    async def _submit(self, raw: Sequence[bytes]) -> None:
        parts = [raw[at : at + PART] for at in range(0, len(raw), PART)]
        watching = asyncio.create_task(self._watch())

        async def work() -> None:
            while parts:
                results = await self.link.submit(parts.pop(0))
                assert all(isinstance(result, Receipt) for result in results), results[:3]

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
        watching.cancel()

    async def _watch(self) -> None:
        """What the loop's thread works between a timer's call and the next, in its own CPU time: on a busy machine the
        wall clock tells of others."""
        while True:
            start = time.thread_time()
            await asyncio.sleep(0.001)
            self.turns.append(time.thread_time() - start)

    def catch_up(self, size: int) -> None:
        """Until the replica has applied so many entries."""
        assert self._loop.run_until_complete(self.replica.wait_for(size - 1, 60))


def link(plan: Plan) -> list[Figure]:
    """Orders per second through the link and to a followed journal; what the loop works at a time meanwhile."""
    each = plan.size(4_000, 400)
    raw = w.signed(w.bodies(w.order_stream(each * (plan.rounds + 1), MEMBERS)))
    direct, through = [], []
    with tempfile.TemporaryDirectory(prefix="link-", dir=plan.folder) as name, ExitStack() as stack:
        inside, outside = Path(name) / "inside", Path(name) / "outside"
        make_venue(inside)
        shutil.copytree(inside, outside)
        node = Node(inside)
        stack.callback(node.close)
        stack.enter_context(sequencer(outside))
        client = Client(outside)
        stack.callback(client.close)

        def submit(part: Sequence[bytes]) -> None:
            for future in node.sequencer.submit_many(part):
                future.result(60)

        for turn in range(plan.rounds + 1):
            part = raw[turn * each : (turn + 1) * each]
            spent = seconds(lambda part=part: submit(part)), seconds(lambda part=part: client.submit(part))  # type: ignore[misc]
            client.catch_up(node.store.head().next_seq)
            if turn:  # the first warms both
                direct.append(spent[0] / each)
                through.append(spent[1] / each)
            else:
                client.turns.clear()
        assert client.replica.seq == node.store.head().next_seq
    rates = (f"{1 / median(through):,.0f}/s", f"{1 / median(direct):,.0f}/s")
    parts = [
        spent / replicas.SLICE_S
        for spent in (percentile(client.turns, 50), percentile(client.turns, 99), max(client.turns))
    ]
    shown = ", ".join(f"{name} {turn:.2f}" for name, turn in zip(("median", "p99", "longest"), parts, strict=True))
    return [
        at_least("link, signed orders from another process / the same writer without it", "orders per second", 0.5,
                 quotients(direct, through), *rates),
        at_most("the loop's work between two timers, submitting and following / a slice", "p99 / slice", 3.0,
                [parts[1]], shown, f"{replicas.SLICE_S * 1e3:g} ms"),
    ]  # fmt: skip


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
