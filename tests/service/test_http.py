# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP way in, on a real port of a real process, as members and strangers meet it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec
import pytest

from clearing.client.http import ApiClient, ApiError
from clearing.client.session import Session
from clearing.model import commands as c
from clearing.model import ids
from clearing.model.params import Params
from clearing.model.signature import public_key_of, sign, sign_owner
from clearing.service.layout import Layout, read_key
from journal.block import decode as decode_block
from proofs.checkpoint import verify as verify_note
from proofs.log import leaf_hash, verify_inclusion
from proofs.verify import verify_bytes
from tests.service.world import BTC, DEPLOYMENT, make_data_dir, order, owner_of, seed_of

ROOT = Path(__file__).resolve().parents[2]


def now_us() -> int:
    return time.time_ns() // 1_000


@dataclass
class Server:
    """An operator's process and what its keys can sign."""

    path: Path
    process: "subprocess.Popen[str]"
    url: str
    nonce: int = 0

    @classmethod
    def start(cls, path: Path) -> "Server":
        port_file = path / "port"
        port_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "clearing.service.node", str(path), str(port_file)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        log = (path / "log").open("ab")
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=log, text=True)
        log.close()
        deadline = time.monotonic() + 30
        while not port_file.exists():
            assert process.poll() is None, (path / "log").read_text()
            assert time.monotonic() < deadline, "the operator did not start"
            time.sleep(0.02)
        return cls(path, process, f"http://127.0.0.1:{port_file.read_text().strip()}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.process.wait(20)

    def operator(self, *commands: c.OperatorCommand) -> bytes:
        self.nonce = max(self.nonce + 1, now_us())
        seed = read_key(Layout(self.path).keys / "operator.ed25519")
        return sign(c.OperatorBatch(DEPLOYMENT, self.nonce, commands), seed)

    def open(self, api: ApiClient, name: str) -> Session:
        """Fund a member, register the session key, open a session."""
        count = api.status()["inbox_count"]
        message = c.ConsumeInbox(0, count, ids.INBOX_DEPOSIT, owner_of(name), 0, 10**12, 1, bytes(32))
        api.submit(self.operator(message))
        key = public_key_of(seed_of(f"{name} session"))
        action = c.RegisterKey(owner_of(name), key, ids.SCOPE_ALL, ids.MAX_TIME_US, 1, bytes(32))
        api.submit(sign_owner(DEPLOYMENT, action, seed_of(name)))
        account = api.owner(owner_of(name))["accounts"][0]["account"]
        return Session(api, DEPLOYMENT, account, seed_of(f"{name} session"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    path = tmp_path_factory.mktemp("http") / "venue"
    make_data_dir(path, params=Params(oracle_max_age_us=3_600_000_000))
    running = Server.start(path)
    yield running
    if running.process.poll() is None:
        assert running.stop() == 0, (path / "log").read_text()


@pytest.fixture(scope="module")
def api(server: Server) -> Iterator[ApiClient]:
    """One client for everybody: it reads nothing older than any receipt."""
    with ApiClient(server.url) as client:
        yield client


@pytest.fixture(scope="module")
def members(server: Server, api: ApiClient) -> tuple[Session, Session]:
    """Two funded members and a price."""
    sessions = server.open(api, "alice"), server.open(api, "bob")
    seed = read_key(Layout(server.path).keys / "publisher-0.ed25519")
    update = c.OracleUpdate(DEPLOYMENT, 0, bytes(32), now_us(), (c.Price(BTC, 50_000 * 10_000, 1),))
    assert not api.submit(sign(update, seed))["rejected"]
    return sessions


def test_orders_trade_and_everything_can_be_read(api: ApiClient, members: tuple[Session, Session]) -> None:
    """What members submit shows in receipts, books, accounts and the journal's proofs."""
    alice, bob = members
    resting = alice.submit(order(size=3))
    assert resting["outcomes"][0]["type"] == "OrderPlaced"
    assert api.book(BTC)["bids"] == [{"price_atoms": "500000000", "size_lots": "3", "orders": 1}]
    taken = bob.submit(order(ids.SELL, size=2))
    assert "TradeNovated" in [outcome["type"] for outcome in taken["outcomes"]]
    found = api.account(alice.account)
    assert found["positions"][0]["size_lots"] == "2"
    assert found["orders"][0]["open_lots"] == "1"
    proven = api.receipt(taken["seq"])
    entry = bytes.fromhex(proven["entry"][2:])
    size, root = proven["checkpoint"]["size"], bytes.fromhex(proven["checkpoint"]["root"][2:])
    path = [bytes.fromhex(item[2:]) for item in proven["proof"]]
    verify_inclusion(taken["seq"], size, leaf_hash(entry), path, root)
    assert taken["entry_hash"] == "0x" + leaf_hash(entry).hex()
    assert api.entry(taken["seq"])["entry"] == proven["entry"]
    key = bytes.fromhex(api.genesis()["genesis"]["operator_key"][4:])
    note = verify_note(api.checkpoint(), key, f"novate.test/{DEPLOYMENT.hex()}/journal")
    assert note.size > taken["seq"]


def test_epochs_and_offline_bundles(server: Server, api: ApiClient, members: tuple[Session, Session]) -> None:
    """A bundle of the last epoch verifies on its own; it does not change with later trades."""
    alice, _ = members
    nobody = b"\x01" * 20
    if api.status()["epoch"] == 0:
        with pytest.raises(ApiError) as raised:
            api.bundle(owner_of("alice"))
        assert (raised.value.code, raised.value.status) == ("NOT_POSTED", 404)
    api.submit(server.operator(c.CloseEpoch(api.status()["epoch"] + 1, ((0, bytes(32)),))))
    deadline = time.monotonic() + 10
    while api.status()["posted_epoch"] < api.status()["epoch"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    first = api.bundle(owner_of("alice"))
    alice.submit(order(coid=77, price=10_000))
    assert api.bundle(owner_of("alice")) == first
    header_hash = bytes.fromhex(api.epoch(1)["headers"][0]["header_hash"][2:])
    verdict = verify_bytes(first, header_hash=header_hash)
    assert verdict.complete, verdict.steps
    assert not verify_bytes(first, header_hash=bytes(32)).ok
    assert [epoch["epoch"] for epoch in api.epochs()["epochs"]] == [1]
    with pytest.raises(ApiError) as raised:
        api.bundle(nobody)
    assert raised.value.code == "UNKNOWN_OWNER"


def test_blocks_are_the_journal(api: ApiClient, members: tuple[Session, Session]) -> None:
    """An auditor gets whole blocks, linked by hash from the first one to the head."""
    size, seq, prev = api.status()["size"], 0, bytes(32)
    while seq < size:
        for raw in api.blocks(seq):
            block = decode_block(raw)
            assert (block.first_seq, block.prev_hash) == (seq, prev)
            seq, prev = block.next_seq, block.hash
    assert seq >= size
    assert api.blocks(seq) == []


def test_a_batch_answers_each(api: ApiClient, members: tuple[Session, Session]) -> None:
    """Results stand in the order of the envelopes, refusals among receipts."""
    alice, _ = members
    good = [alice.sign([order(coid=1_000 + n, price=10_000)]) for n in range(3)]
    results = api.submit_many([good[0], b"junk", good[1], good[2], good[2]])
    assert [result.get("code") for result in results] == [None, "MALFORMED", None, None, None]
    assert results[3]["seq"] == results[4]["seq"]


@pytest.mark.parametrize(
    "method, path, body, status, code",
    [
        ("POST", "/v1/commands", b"\xc1", 400, "MALFORMED"),
        ("POST", "/v1/commands", b"", 400, "MALFORMED"),
        ("POST", "/v1/commands", bytes(9_000), 413, "ENVELOPE_TOO_LARGE"),
        ("POST", "/v1/commands/batch", b"\x93\x01\x02\x03", 400, "MALFORMED"),
        ("POST", "/v1/commands/batch", b"\x90", 400, "BAD_PARAMETER"),
        ("POST", "/v1/commands/batch", bytes((8 << 20) + 1), 413, "BODY_TOO_LARGE"),
        ("GET", "/v1/commands", None, 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/v2/anything", None, 404, "NOT_FOUND"),
        ("GET", "/v1/accounts/99999", None, 404, "UNKNOWN_ACCOUNT"),
        ("GET", "/v1/accounts/-1", None, 400, "BAD_PARAMETER"),
        ("GET", "/v1/accounts/18446744073709551616", None, 400, "BAD_PARAMETER"),
        ("GET", "/v1/accounts/%C2%B2", None, 400, "BAD_PARAMETER"),
        ("GET", "/v1/owners/0x12", None, 400, "BAD_PARAMETER"),
        ("GET", "/v1/owners/0x" + "01" * 20, None, 404, "UNKNOWN_OWNER"),
        ("GET", "/v1/books/9", None, 404, "UNKNOWN_INSTRUMENT"),
        ("GET", "/v1/books/1?depth=0", None, 400, "BAD_PARAMETER"),
        ("GET", "/v1/receipts/9999999", None, 404, "UNKNOWN_SEQ"),
        ("GET", "/v1/entries/x", None, 400, "BAD_PARAMETER"),
        ("GET", "/v1/epochs/999", None, 404, "UNKNOWN_EPOCH"),
        ("GET", "/v1/blocks?from=99999999", None, 404, "UNKNOWN_SEQ"),
    ],
)
def test_bad_requests_have_stable_codes(
    api: ApiClient, method: str, path: str, body: bytes | None, status: int, code: str
) -> None:
    """Every error is {"code", "message"} with its status, and never a traceback."""
    size = api.status()["size"]
    response = httpx.request(method, api.url + path, content=body)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert set(response.json()) == {"code", "message"}
    assert "Traceback" not in response.text
    assert api.status()["size"] == size


def test_a_request_that_is_cut_short_does_no_harm(server: Server, api: ApiClient) -> None:
    """A peer that promises more than it sends is dropped; the next one is served."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as peer:
        peer.sendall(b"POST /v1/commands HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\nabc")
    assert api.status()["halted"] is None


def test_integers_past_2_53_are_strings(api: ApiClient, members: tuple[Session, Session]) -> None:
    """JavaScript would round them: a key's expiry of 2^63 - 1 arrives in digits."""
    key = api.owner(owner_of("alice"))["keys"][0]
    assert key["expiry_us"] == str(ids.MAX_TIME_US)


def test_unreachable_is_an_error_with_a_name() -> None:
    with ApiClient("http://127.0.0.1:9", timeout_s=1) as nobody, pytest.raises(ApiError) as raised:
        nobody.status()
    assert raised.value.code == "OPERATOR_UNREACHABLE"
    with pytest.raises(ApiError):
        ApiClient("127.0.0.1:80")


@pytest.mark.slow
def test_a_crash_and_a_retry_do_it_once(server: Server, api: ApiClient, members: tuple[Session, Session]) -> None:
    """Killed after an acknowledgement, started again on the same directory: the retry of the same bytes gets
    the first receipt. Last of this file, since the server moves to another port."""
    alice, _ = members
    raw = alice.sign([order(coid=5_000, price=10_000)])
    first = api.submit(raw)
    status = api.status()
    assert server.stop(signal.SIGKILL) == -signal.SIGKILL
    again = Server.start(server.path)
    server.process, server.url = again.process, again.url
    with ApiClient(again.url) as client:
        now = client.status()
        assert (now["size"], now["root"], now["epoch"]) == (status["size"], status["root"], status["epoch"])
        assert client.submit(raw)["seq"] == first["seq"]
        assert client.status()["size"] == status["size"]
    log = (server.path / "log").read_text()
    assert "Traceback" not in log
    for line in log.splitlines():
        assert msgspec.json.decode(line)["event"]
