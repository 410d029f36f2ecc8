# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever way a command is submitted, it comes back with a receipt that proves itself, and a retry with the first."""

import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clearing.client.http import ApiClient
from clearing.model import commands as c
from clearing.model import ids
from clearing.model.params import Params
from clearing.model.signature import public_key_of, sign, sign_owner
from clearing.service.layout import Layout, read_key
from clearing.watch.receipts import Receipt, read_receipt, steps
from proofs.checkpoint import ED25519, origin_of, verifier_key
from proofs.log import leaf_hash
from proofs.verify import FAILED
from tests.service.test_http import Server, now_us
from tests.service.world import BTC, DEPLOYMENT, make_data_dir, order, owner_of, seed_of

pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    path = tmp_path / "venue"
    make_data_dir(path, params=Params(oracle_max_age_us=3_600_000_000))
    running = Server.start(path)
    yield running
    if running.process.poll() is None:
        assert running.stop() == 0, (path / "log").read_text()


class Desk:
    """Submits by each way there is, and holds every answer to what a receipt promises."""

    def __init__(self, api: ApiClient) -> None:
        self.api = api
        genesis = api.genesis()["genesis"]
        self.key = verifier_key(
            origin_of(genesis["origin"], DEPLOYMENT), ED25519, bytes.fromhex(genesis["operator_key"][4:])
        )

    def proven(self, raw: bytes, answer: dict[str, Any]) -> int:
        """The receipt in an answer, checked without asking anybody; its entry holds what was sent. Its number."""
        assert "code" not in answer, answer
        entry, path = bytes.fromhex(answer["entry"][2:]), tuple(bytes.fromhex(item[2:]) for item in answer["proof"])
        made = Receipt(answer["seq"], entry, path, answer["checkpoint"]["note"])
        found = read_receipt(made.text())
        assert all(step.status != FAILED for step in steps(found, self.key)), steps(found, self.key)
        assert answer["entry_hash"] == "0x" + leaf_hash(entry).hex() and raw in entry
        return found.index

    def one(self, raw: bytes) -> int:
        """Alone, with its proof; and again, which gives the first receipt."""
        seq = self.proven(raw, self.api.submit(raw, proof=True))
        assert self.proven(raw, self.api.submit(raw, proof=True)) == seq
        return seq

    def later(self, raw: bytes) -> int:
        """Alone, with the proof asked for afterwards."""
        taken = self.api.submit(raw)
        return self.proven(raw, taken | self.api.receipt(taken["seq"]))

    def many(self, raws: Sequence[bytes]) -> list[int]:
        """In one request, with proofs."""
        body = msgspec.msgpack.encode(list(raws))
        answer = msgspec.json.decode(self.api.request("POST", "/v1/commands/batch?proof=1", body))
        return [self.proven(raw, result) for raw, result in zip(raws, answer["results"], strict=True)]


def test_every_way_in_gives_a_receipt(server: Server) -> None:
    """Operator, owner, publisher and member; one command, several under one signature, several in one request; taken,
    and taken but refused by the rules; retried at once, among others, and after the operator was killed."""
    with ApiClient(server.url) as api:
        desk = Desk(api)
        desk.one(server.operator(c.ConsumeInbox(0, 0, ids.INBOX_DEPOSIT, owner_of("alice"), 0, 10**12, 1, bytes(32))))
        key = public_key_of(seed_of("alice session"))
        register = c.RegisterKey(owner_of("alice"), key, ids.SCOPE_ALL, ids.MAX_TIME_US, 1, bytes(32))
        desk.one(sign_owner(DEPLOYMENT, register, seed_of("alice")))
        publisher = read_key(Layout(server.path).keys / "publisher-0.ed25519")
        update = c.OracleUpdate(DEPLOYMENT, 0, bytes(32), now_us(), (c.Price(BTC, 50_000 * 10_000, 1),))
        desk.one(sign(update, publisher))
        bob = server.open(api, "bob")
        batch = bob.sign([order(coid=10 + number, price=10_000) for number in range(3)])
        desk.one(batch)
        desk.later(bob.sign([order(coid=20, price=10_000)]))
        refused = bob.sign([order(coid=21, price=10_001)])  # between two ticks
        assert api.submit(refused)["rejected"]
        taken = desk.one(refused)
        raws = [bob.sign([order(coid=30 + number, price=10_000)]) for number in range(4)]
        first = desk.many([*raws, raws[1]])
        assert first == [*range(first[0], first[0] + 4), first[1]]
        assert desk.many([batch, refused, *raws])[1:] == [taken, *first[:4]]
        size = api.status()["size"]
    assert server.stop(signal.SIGKILL) == -signal.SIGKILL
    again = Server.start(server.path)
    server.process, server.url = again.process, again.url
    with ApiClient(server.url) as api:
        desk = Desk(api)
        assert desk.many([refused, *raws]) == [taken, *first[:4]]
        assert desk.one(raws[2]) == first[2]
        assert api.status()["size"] == size
