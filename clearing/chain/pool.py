# SPDX-License-Identifier: GPL-3.0-or-later
"""Several endpoints of one chain behind one port.

Rules:
- An endpoint that does not answer is passed over for a while; one that is more than `max_lag_blocks`
  behind the others, or stands still while they go on, is passed over as long as that lasts.
- What matters is asked of every endpoint in step, about one block, and must be answered alike: contract
  state, code, balances, nonces, blocks, logs, receipts. "latest" means the newest block that all of them
  have. Answers that stay different are RPC_DISAGREE, which names two that differ: with two there is no
  telling which lies, and with more a majority is no proof either. It is for people.
- A reorganisation makes honest endpoints differ for a moment, so a difference is asked about again.
- We read what we wrote: no view is older than a receipt that was handed out.
- A raw transaction goes to all, so that none can hold it back; one that takes it is enough.
- Everything else (fees, estimates, transactions by hash, which prove themselves) comes from the first
  endpoint that answers.
- `quorum` is how many must answer alike; with 1, the default, a single one that is left is believed.
  An endpoint that pretends to be ahead of all others can be left alone that way, so whoever has more to
  lose than an outage asks for 2.

With one endpoint this is a plain connection. Thread-safe.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from clearing.chain.agreement import BLOCK_TAG, Answer, differing, key_of
from clearing.chain.errors import ChainError
from clearing.chain.rpc import Rpc, quantity
from clearing.chain.transport import HttpTransport, Json

COOLDOWN_S: Final = 1.0
LONGEST_COOLDOWN_S: Final = 30.0
STALL_S: Final = 60.0
AGREE_TRIES: Final = 4
AGREE_PAUSE_S: Final = 0.25
CATCH_UP_S: Final = 2.0
_DEVELOPMENT: Final = ("evm_", "anvil_", "hardhat_", "debug_")
_KNOWN_WORDS: Final = ("already known", "already imported", "known transaction")


def connect(
    urls: str | Sequence[str],
    quorum: int = 1,
    max_lag_blocks: int = 5,
    head_ttl_s: float = 0.5,
    timeout_s: float = 10.0,
    attempts: int = 2,
    agree_pause_s: float = AGREE_PAUSE_S,
) -> Rpc:
    """An `Rpc` over one or several endpoints, given as a list or separated by commas.

    `head_ttl_s` is for how long a head is taken as known, `agree_pause_s` how long a difference is given
    to pass before it is asked about again (thrice, each time longer).

    Raises `ChainError` RPC_UNREACHABLE for a URL that is none, INVALID_ARGUMENT for an impossible quorum.
    """
    listed = [part.strip() for part in urls.split(",")] if isinstance(urls, str) else list(urls)
    named = list(dict.fromkeys(url for url in listed if url))
    if not named:
        raise ChainError("RPC_UNREACHABLE", "no endpoint is given; pass --rpc http://host:port")
    if not 1 <= quorum <= len(named):
        raise ChainError("INVALID_ARGUMENT", f"a quorum of {quorum} among {len(named)} endpoints is impossible")
    if len(named) == 1:
        return Rpc(named[0], timeout_s=2 * timeout_s, attempts=2 * attempts)
    transports = [HttpTransport(url, timeout_s, attempts) for url in named]
    pool = PoolTransport(transports, quorum, max_lag_blocks, head_ttl_s, agree_pause_s)
    return Rpc("", transport=pool)


class Member:
    """One endpoint and what is known of it. `head` is its newest block's number."""

    def __init__(self, transport: HttpTransport) -> None:
        self.transport, self.url = transport, transport.url
        self.chain_id: int | None = None
        self.head, self.head_at_s, self.moved_at_s = -1, -1e9, time.monotonic()
        self.down_until_s, self._cooldown_s = 0.0, COOLDOWN_S

    def ask(self, method: str, *params: Json) -> Json:
        """One request; remembers whether the endpoint answers at all."""
        try:
            result = self.transport.request(method, *params)
        except ChainError as error:
            if error.code == "RPC_UNREACHABLE":
                self.down_until_s = time.monotonic() + self._cooldown_s
                self._cooldown_s = min(2 * self._cooldown_s, LONGEST_COOLDOWN_S)
            raise
        self.down_until_s, self._cooldown_s = 0.0, COOLDOWN_S
        return result

    def look(self, ttl_s: float) -> None:
        """Learn its head, unless that is known since `ttl_s`. Raises `ChainError`."""
        now = time.monotonic()
        if now - self.head_at_s <= ttl_s:
            return
        if self.chain_id is None:
            self.chain_id = quantity(self.ask("eth_chainId"))
        head = quantity(self.ask("eth_blockNumber"))
        if head != self.head:
            self.moved_at_s = now
        self.head, self.head_at_s = head, time.monotonic()

    def try_look(self, ttl_s: float) -> ChainError | None:
        """As `look`; the fault instead of raising it."""
        try:
            self.look(ttl_s)
        except ChainError as error:
            return error
        return None


class PoolTransport:
    """Carries requests to several endpoints; see the module's rules."""

    def __init__(
        self,
        transports: Sequence[HttpTransport],
        quorum: int,
        max_lag_blocks: int,
        head_ttl_s: float,
        agree_pause_s: float,
    ) -> None:
        self._members = [Member(transport) for transport in transports]
        self.url = ", ".join(member.url for member in self._members)
        self._quorum, self._max_lag, self._ttl_s = quorum, max_lag_blocks, head_ttl_s
        self._floor, self._pause_s = 0, agree_pause_s
        self._lock = threading.Lock()
        self._workers = ThreadPoolExecutor(2 * len(self._members), thread_name_prefix="rpc-pool")

    def close(self) -> None:
        self._workers.shutdown(wait=True)
        for member in self._members:
            member.transport.close()

    def request(self, method: str, *params: Json) -> Json:
        """One call. Raises `ChainError` RPC_UNREACHABLE, RPC_ERROR, RPC_DISAGREE, TX_REVERTED."""
        if method.startswith(_DEVELOPMENT):
            return self._members[0].ask(method, *params)
        match method:
            case "eth_sendRawTransaction":
                return self._broadcast(method, params)
            case "eth_chainId":
                self._view()
                return hex(self._members_id())
            case "eth_blockNumber":
                return hex(self._view()[1])
            case "eth_getTransactionReceipt":
                return self._receipt(params)
            case "eth_getTransactionByHash":
                return self._first(method, params, lambda found: found is not None)
        if method in BLOCK_TAG and self._tag(method, params) != "pending":
            return self._agreed(method, list(params))
        if method == "eth_getTransactionCount":
            answers = [answer for answer in self._ask_all(self._view()[0], method, params) if answer.fault is None]
            return max((answer.value for answer in answers), key=quantity, default=None)
        return self._first(method, params, lambda _: True)

    # -- who is in step

    def _view(self, ttl_s: float | None = None) -> tuple[list[Member], int]:
        """The endpoints in step and the newest block that all of them have."""
        ttl_s, give_up_s = self._ttl_s if ttl_s is None else ttl_s, time.monotonic() + CATCH_UP_S
        while True:
            up = self._up(ttl_s)
            # The second of three or more: one that runs ahead alone must not make all others look late.
            heads = sorted((member.head for member in up), reverse=True)
            reference = heads[1] if len(heads) > 2 else heads[0]
            fresh = [member for member in up if self._in_step(member, reference, heads[0])]
            # What was read from a receipt's block stays read; two that have it can check one another.
            current = [member for member in fresh if member.head >= self._floor]
            if current == fresh or len(current) >= max(self._quorum, 2):
                fresh = current
                break
            if time.monotonic() > give_up_s:
                # Nobody has it any more: the block of that receipt was reorganised away.
                self._floor = self._floor if current else 0
                fresh = current or fresh
                break
            time.sleep(0.05)
            ttl_s = 0.0
        number = min(member.head for member in fresh)
        if len(fresh) < self._quorum:
            text = f"{len(fresh)} of {self.url} are up and in step, {self._quorum} are needed; check the others"
            raise ChainError("RPC_UNREACHABLE", text)
        return fresh, number

    def _in_step(self, member: Member, reference: int, top: int) -> bool:
        stalled = member.head < top and time.monotonic() - member.moved_at_s > STALL_S
        return member.head >= reference - self._max_lag and not stalled

    def _up(self, ttl_s: float) -> list[Member]:
        now = time.monotonic()
        tried = [member for member in self._members if member.down_until_s <= now] or self._members
        faults = list(self._workers.map(lambda member: member.try_look(ttl_s), tried))
        up = [member for member, fault in zip(tried, faults, strict=True) if fault is None]
        if not up:
            rest = [member for member in self._members if member not in tried]
            faults += [member.try_look(ttl_s) for member in rest]
            up = [member for member, fault in zip(rest, faults[len(tried) :], strict=True) if fault is None]
        if not up:
            raise next(fault for fault in faults if fault is not None)
        self._members_id()
        return up

    def _members_id(self) -> int:
        """The chain id that all known endpoints serve. Raises `ChainError` WRONG_CHAIN."""
        known = [member for member in self._members if member.chain_id is not None]
        first = known[0]
        for other in known:
            if other.chain_id != first.chain_id:
                text = f"{first.url} serves chain {first.chain_id} and {other.url} chain {other.chain_id}; change --rpc"
                raise ChainError("WRONG_CHAIN", text)
        assert first.chain_id is not None, "only known ids are listed"
        return first.chain_id

    # -- ways to ask

    def _ask_all(self, members: Sequence[Member], method: str, params: Sequence[Json]) -> list[Answer]:
        def one(member: Member) -> Answer:
            try:
                return Answer(member.url, member.ask(method, *params), None)
            except ChainError as error:
                return Answer(member.url, None, error)

        return list(self._workers.map(one, members))

    def _first(self, method: str, params: Sequence[Json], enough: Callable[[Json], bool]) -> Json:
        fault: ChainError | None = None
        found: Json = None
        for member in self._view()[0]:
            try:
                found = member.ask(method, *params)
            except ChainError as error:
                if error.code == "TX_REVERTED":
                    raise
                fault = fault or error
                continue
            if enough(found):
                return found
        if fault is not None and found is None:
            raise fault
        return found

    def _broadcast(self, method: str, params: Sequence[Json]) -> Json:
        now = time.monotonic()
        up = [member for member in self._members if member.down_until_s <= now] or self._members
        answers = self._ask_all(up, method, params)
        taken = [answer for answer in answers if answer.fault is None]
        if taken:
            return taken[0].value
        refused = [answer.fault for answer in answers if answer.fault is not None]
        for fault in refused:
            if any(word in fault.message.lower() for word in _KNOWN_WORDS):
                raise fault
        # A lost answer may mean that it was taken, which matters more than another endpoint's refusal.
        raise next((fault for fault in refused if fault.code == "RPC_UNREACHABLE"), refused[0])

    def _agreed(self, method: str, params: list[Json]) -> Json:
        differ: tuple[Answer, Answer] | None = None
        for attempt in range(AGREE_TRIES):
            if attempt:
                time.sleep(self._pause_s * attempt)
            members, asked = self._pinned(method, list(params), 0.0 if attempt else None)
            answers = self._ask_all(members, method, asked)
            usable = self._usable(method, asked, answers)
            differ = differing(method, usable)
            if differ is None:
                return _outcome(usable)
        assert differ is not None, "the loop ends with a difference or returns"
        raise _disagree(method, asked, *differ)

    def _usable(self, method: str, params: Sequence[Json], answers: list[Answer]) -> list[Answer]:
        """The answers that say something. Raises `ChainError` when too few do."""
        usable = [answer for answer in answers if answer.fault is None or answer.fault.code == "TX_REVERTED"]
        faults = [answer.fault for answer in answers if answer.fault is not None and answer not in usable]
        if method == "eth_getLogs" and params[0].get("fromBlock") != params[0].get("toBlock"):
            for fault in faults:
                if fault.code == "RPC_ERROR":
                    raise fault  # its range is limited: the pager asks for less, of all of them
        if not usable:
            raise faults[0]
        if len(usable) < self._quorum:
            text = f"{len(usable)} of {self.url} answer {method}, {self._quorum} are needed: {faults[0].message}"
            raise ChainError("RPC_UNREACHABLE", text)
        return usable

    def _tag(self, method: str, params: Sequence[Json]) -> Json:
        at = BLOCK_TAG[method]
        if method == "eth_getLogs":
            return params[0].get("toBlock")
        return params[at] if len(params) > at else None

    def _pinned(self, method: str, params: list[Json], ttl_s: float | None) -> tuple[list[Member], list[Json]]:
        """Who is asked, and the parameters with the block fixed."""
        members, number = self._view(ttl_s)
        tag = self._tag(method, params)
        if tag in ("safe", "finalized"):
            tag = hex(self._lowest_named(members, str(tag)))
        if tag in ("latest", None):
            tag = hex(number)
        if tag != "earliest":
            members = [member for member in members if member.head >= quantity(tag)] or members
        at = BLOCK_TAG[method]
        if method == "eth_getLogs":
            params[0] = params[0] | {"toBlock": tag}
        else:
            params[at:] = [tag, *params[at + 1 :]]
        return members, params

    def _lowest_named(self, members: Sequence[Member], tag: str) -> int:
        """The number of the block that all endpoints call final (or safe): the lowest they name."""
        answers = self._ask_all(members, "eth_getBlockByNumber", (tag, False))
        named = [quantity(answer.value.get("number")) for answer in answers if isinstance(answer.value, dict)]
        if len(named) < self._quorum:
            faults = [answer.fault for answer in answers if answer.fault is not None]
            raise faults[0] if faults else ChainError("RPC_ERROR", f"no endpoint names a {tag} block")
        return min(named)

    def _receipt(self, params: Sequence[Json]) -> Json:
        """A receipt on which all agree; None while an endpoint in step has not come to its block."""
        method = "eth_getTransactionReceipt"
        differ: tuple[Answer, Answer] | None = None
        for attempt in range(AGREE_TRIES):
            if attempt:
                time.sleep(self._pause_s * attempt)
            members, _ = self._view(0.0 if attempt else None)
            answers = self._usable(method, params, self._ask_all(members, method, params))
            differ = differing(method, answers)
            if differ is None:
                return self._remember(answers[0].value)
            if self._late_for(members, answers):
                return None
        assert differ is not None, "the loop ends with a difference or returns"
        raise _disagree(method, params, *differ)

    def _late_for(self, members: Sequence[Member], answers: Sequence[Answer]) -> bool:
        """Whether those that know no receipt simply have not got the block yet."""
        blocks = [quantity(a.value.get("blockNumber")) for a in answers if isinstance(a.value, dict)]
        silent = {answer.url for answer in answers if answer.value is None}
        if len({key_of("eth_getTransactionReceipt", a) for a in answers if a.value is not None}) > 1:
            return False
        for member in members:
            if member.url in silent and member.try_look(0.0) is None and member.head < max(blocks):
                return True
        return False

    def _remember(self, receipt: Json) -> Json:
        if isinstance(receipt, dict):
            with self._lock:
                self._floor = max(self._floor, quantity(receipt.get("blockNumber")))
        return receipt


def _outcome(answers: Sequence[Answer]) -> Json:
    # Nodes differ in whether a revert carries its data; the one that tells more is handed on.
    best = max(answers, key=lambda answer: len(answer.fault.data) if answer.fault is not None else 0)
    if best.fault is not None:
        raise best.fault
    return best.value


def _disagree(method: str, params: Sequence[Json], one: Answer, other: Answer) -> ChainError:
    text = (
        f"{one.url} and {other.url} differ on {method} {str(list(params))[:160]}: {one.text()} against "
        f"{other.text()}; one of them lies or is broken: ask a third, and take the wrong one out"
    )
    return ChainError("RPC_DISAGREE", text)
