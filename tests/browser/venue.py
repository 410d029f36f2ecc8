# SPDX-License-Identifier: GPL-3.0-or-later
"""A running venue for the pages: a real chain with a real vault, `novate operator run` with both its ports, funded
owners, and wallets that a browser finds as `window.ethereum`.

Rule: a wallet here is what one is elsewhere: it holds a key, signs what it is asked to, and asks the chain the rest.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Page

from clearing.chain.abi import interface
from clearing.chain.rpc import Rpc
from clearing.client.http import ApiClient, ApiError
from clearing.client.session import Session
from clearing.model import commands as c
from clearing.model import ids
from clearing.model.codec import body_hash, encode
from clearing.model.signature import eth_account, public_key_of, sign, sign_owner
from clearing.service.layout import Layout, read_key
from clearing.service.ops.private import Running, read_running
from tests.chain.nodes import free_port
from tests.nodes import start_node
from tests.service.chains import Deployed, deploy_venue
from tests.service.world import BTC, DEPLOYMENT, USD, order, owner_of, seed_of

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
WINDOW_S = 2
PRICE = 50_000 * 10_000
CONFIG = """
confirmations = 0
rpc_url = "{rpc}"
epoch_seconds = {epoch}
post_seconds = 0.2
poll_seconds = 0.1
tick_seconds = 0.5
journal_map_bytes = 1073741824
"""


def patiently(what: str, condition: Callable[[], Any]) -> Any:
    """What the condition gives once it holds; a test that waits for what never comes fails."""
    until, last = time.monotonic() + PATIENCE_S, ""
    while time.monotonic() < until:
        try:
            if found := condition():
                return found
        except (httpx.HTTPError, ApiError, OSError) as error:
            last = f" ({error})"
        time.sleep(0.05)
    raise AssertionError(f"{what} never came to be{last}")


class LiveVenue:
    """`url` is the public interface, `private_url` the operator's; `stop`, `kill` and `start` the operator."""

    def __init__(self, folder: Path, epoch_seconds: int = 2) -> None:
        self.data = folder / "data"
        self._log = folder / "operator.log"
        self._port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.node = start_node(fund=[owner_of("alice"), owner_of("bob")])
        self.deployed: Deployed = deploy_venue(self.data, [self.node], challenge_window_s=WINDOW_S)
        (self.data / "config.toml").write_text(CONFIG.format(rpc=self.node.url, epoch=epoch_seconds))
        self.url = f"http://127.0.0.1:{self._port}"
        self._nonce = time.time_ns() // 1_000
        self._publishing = threading.Lock()
        self._head: bytes | None = None
        self.api = ApiClient(self.url)

    def open(self) -> "LiveVenue":
        """Run, fund alice and bob, register a key of bob's, publish a price."""
        self.start()
        for name in ("alice", "bob"):
            self.deployed.deposit(name, 1_000 * USD)
        patiently("the deposits", lambda: all(self.account(name) is not None for name in ("alice", "bob")))
        self.register("bob")
        self.publish(PRICE)
        return self

    # -- the operator's process

    def start(self) -> None:
        command = [sys.executable, "-m", "clearing.cli", "operator", "run", str(self.data), "--port", str(self._port)]
        with self._log.open("ab") as log:
            environment = os.environ | {"NOVATE_CONFIG_PRIVATE_PORT": str(self._private())}
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=environment)
        patiently("the interface", self.answers)

    def _private(self) -> int:
        found = read_running(self.data)
        self._private_port = getattr(self, "_private_port", found.private_port if found else free_port())
        return self._private_port

    def answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"the operator ended: {self._log.read_text()[-2000:]}")
        return bool(self.api.status()["size"])

    def stop(self) -> None:
        """SIGTERM; it must end well."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0, self._log.read_text()[-2000:]

    def kill(self) -> None:
        """kill -9 of the operator; the interface's process ends with it."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

        def gone() -> bool:
            try:
                httpx.get(self.url, trust_env=False)
            except httpx.HTTPError:
                return True
            return False

        patiently("the end", gone)

    @property
    def running(self) -> Running:
        found = read_running(self.data)
        assert found is not None
        return found

    @property
    def private_url(self) -> str:
        return self.running.private_url

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        self.api.close()
        self.deployed.rpc.close()
        self.node.stop()

    # -- people

    def account(self, name: str) -> int | None:
        """The number of a member's first account."""
        try:
            return int(self.api.owner(owner_of(name))["accounts"][0]["account"])
        except ApiError:
            return None

    def register(self, name: str) -> None:
        self._nonce += 1
        key = public_key_of(seed_of(f"{name} session"))
        action = c.RegisterKey(owner_of(name), key, ids.SCOPE_ALL, ids.MAX_TIME_US, self._nonce, bytes(32))
        self.api.submit(sign_owner(DEPLOYMENT, action, seed_of(name)))

    def tokens(self, name: str) -> int:
        """Atoms of the settlement asset in a member's wallet, on the chain."""
        abi, rpc = interface("TestToken"), self.deployed.rpc
        call = abi.call("balanceOf", owner_of(name))
        return int(abi.result("balanceOf", rpc.call(self.deployed.vault.tokens()[0], call)))

    def session(self, name: str) -> Session:
        account = self.account(name)
        assert account is not None
        return Session(self.api, DEPLOYMENT, account, seed_of(f"{name} session"))

    def place(self, name: str, side: int, price: int = PRICE, size: int = 1) -> dict[str, Any]:
        """A limit order by a script; its receipt."""
        self._nonce += 1
        receipt = self.session(name).submit(order(side, price, size, self._nonce))
        assert not receipt["rejected"], receipt
        return receipt

    def publish(self, price: int) -> None:
        """A fresh price; each follows the one before, whoever publishes here."""
        with self._publishing, ApiClient(self.url) as api:  # a client belongs to one thread
            if self._head is None:
                self._head = bytes.fromhex(api.status()["publishers"][0]["head"][2:])
            head, self._head = self._head, None  # unknown until there is an answer
            update = c.OracleUpdate(DEPLOYMENT, 0, head, time.time_ns() // 1_000, (c.Price(BTC, price, 1),))
            seed = read_key(Layout(self.data).keys / "publisher-0.ed25519")
            receipt = api.submit(sign(update, seed))
            assert not receipt["rejected"], receipt
            self._head = body_hash(encode(update))

    @contextmanager
    def feeding(self, price: int = PRICE) -> Iterator[None]:
        """A publisher that goes on: orders need a price of the last seconds."""
        ending = threading.Event()

        def feed() -> None:
            while not ending.wait(1.0):
                with contextlib.suppress(ApiError):  # the operator is down for a moment
                    self.publish(price)

        self.publish(price)
        thread = threading.Thread(target=feed, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ending.set()
            thread.join(40)

    def posted_epoch(self) -> int:
        return int(self.api.status()["posted_epoch"])

    def next_epoch(self) -> int:
        """Wait until all that is journalled now is in a posted epoch."""
        wanted = int(self.api.status()["epoch"]) + 1
        patiently(f"epoch {wanted}", lambda: self.posted_epoch() >= wanted)
        return wanted


class BrowserWallet:
    """An EIP-1193 provider in a page: the key stays here, the chain is the venue's."""

    def __init__(self, rpc_url: str, secret: bytes) -> None:
        self._rpc = Rpc(rpc_url)
        self._account = eth_account().Account.from_key(secret)
        self._secret = secret
        self.address = str(self._account.address)
        self.asked: list[str] = []
        self.refuses: set[str] = set()
        self.sent: list[dict[str, Any]] = []

    def close(self) -> None:
        self._rpc.close()

    def install(self, page: Page) -> None:
        """Before the page is opened."""
        page.expose_function("askWallet", self._handle)
        page.add_init_script(
            """globalThis.ethereum = { on() {}, request: async (asked) => {
                const { result, error } = JSON.parse(await globalThis.askWallet(JSON.stringify(asked)));
                if (error) throw Object.assign(new Error(error.message), error);
                return result;
            } };"""
        )

    def _handle(self, text: str) -> str:
        asked = json.loads(text)
        method, params = asked["method"], asked.get("params", [])
        self.asked.append(method)
        if method in self.refuses:
            return json.dumps({"error": {"code": 4001, "message": "User rejected the request."}})
        try:
            return json.dumps({"result": self._answer(method, params)})
        except Exception as error:  # noqa: BLE001 - a page gets an error, whatever it is
            data = getattr(error, "data", b"")
            told = {"code": -32000, "message": str(error), "data": "0x" + data.hex() if data else None}
            return json.dumps({"error": told})

    def _answer(self, method: str, params: list[Any]) -> Any:
        if method in ("eth_requestAccounts", "eth_accounts"):
            return [self.address]
        if method == "eth_signTypedData_v4":
            assert params[0].lower() == self.address.lower()
            typed = json.loads(params[1])
            typed["message"] = {k: int(v) if v.isdigit() else v for k, v in typed["message"].items()}
            signed = eth_account().Account.sign_typed_data(self._secret, full_message=typed)
            return "0x" + bytes(signed.signature).hex()
        if method == "eth_sendTransaction":
            return self._send(params[0])
        return self._rpc.request(method, *params)

    def _send(self, asked: dict[str, str]) -> str:
        self.sent.append(asked)
        gas = int(self._rpc.request("eth_estimateGas", asked), 16)
        transaction = {
            "to": self._checksum(asked["to"]),
            "data": asked["data"],
            "value": int(asked.get("value", "0x0"), 16),
            "gas": gas * 2,
            "nonce": int(self._rpc.request("eth_getTransactionCount", self.address, "pending"), 16),
            "maxFeePerGas": 10**11,
            "maxPriorityFeePerGas": 10**9,
            "chainId": self._rpc.chain_id(),
            "type": 2,
        }
        raw = self._account.sign_transaction(transaction).raw_transaction
        return str(self._rpc.request("eth_sendRawTransaction", "0x" + bytes(raw).hex()))

    @staticmethod
    def _checksum(address: str) -> str:
        from eth_utils import to_checksum_address

        return str(to_checksum_address(address))


def wallet_of(venue: LiveVenue, name: str) -> BrowserWallet:
    """A member's wallet, which has ether for fees."""
    return BrowserWallet(venue.node.url, seed_of(name))
