# SPDX-License-Identifier: GPL-3.0-or-later
"""How much one key or one address may ask for: token buckets, in a bounded table.

Rules:
- A bucket holds `burst` tokens and gains `per_second` of them; what finds too few is refused whole and takes none. The
  table forgets whoever has not come for longest, which can only be generous to them, once it is full.
- The bucket of a key is one per address that it comes from. Envelopes are public once they are in the journal, and who
  names a key is not known to hold it: strangers must not be able to use up what a key may submit. An address has a
  bucket of its own beside, so that naming many keys is worth nothing.
- An IPv6 address is its /64, since that is what one subscriber has.
"""

import ipaddress
import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
from starlette.requests import HTTPConnection

from clearing.model.commands import Envelope

# What an address may submit, in shares of what a key may: several keys may well stand behind one.
KEYS_OF_ADDRESS: Final = 4
_MOST: Final = 50_000
_envelope = msgspec.msgpack.Decoder(Envelope).decode


class Verdict(NamedTuple):
    """`remaining` tokens after this; `reset_s` until the bucket is full; `retry_s` until there are enough."""

    allowed: bool
    limit: int
    remaining: int
    reset_s: int
    retry_s: int

    def headers(self) -> dict[str, str]:
        """As HTTP headers."""
        found = {
            "x-ratelimit-limit": str(self.limit),
            "x-ratelimit-remaining": str(self.remaining),
            "x-ratelimit-reset": str(self.reset_s),
        }
        return found if self.allowed else found | {"retry-after": str(self.retry_s)}


class Buckets:
    """One kind of limit. `clock` gives seconds that never go back."""

    def __init__(
        self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic, most: int = _MOST
    ) -> None:
        self._rate = per_second
        self._burst = burst
        self._clock = clock
        self._most = most
        self._held: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()  # tokens, and when they were counted

    def take(self, who: Hashable, count: int = 1) -> Verdict:
        """Take `count` tokens of `who`, or none."""
        now = self._clock()
        tokens = self._now_held(who, now)
        if tokens < count:
            return self.take_all({who: count})
        # As `take_all` for one, at half its price: every command passes here three times.
        self._held[who] = (tokens - count, now)
        self._held.move_to_end(who)
        if len(self._held) > self._most:
            self._held.popitem(last=False)
        return self._verdict(tokens - count, 0, allowed=True)

    def take_all(self, owed: Mapping[Hashable, int]) -> Verdict:
        """Take what several owe, or nothing of anybody: the verdict on the first that has too little, or else on the
        one that has least left. `owed` must name somebody."""
        now = self._clock()
        held = {who: self._now_held(who, now) for who in owed}
        refused = next((who for who, count in owed.items() if held[who] < count), None)
        if refused is not None:
            if refused in self._held:
                self._held.move_to_end(refused)  # who insists is not forgotten
            return self._verdict(held[refused], owed[refused], allowed=False)
        for who, count in owed.items():
            held[who] -= count
            self._held.pop(who, None)
            self._held[who] = (held[who], now)
        while len(self._held) > self._most:
            self._held.popitem(last=False)
        return self._verdict(min(held.values()), 0, allowed=True)

    def _now_held(self, who: Hashable, now: float) -> float:
        tokens, then = self._held.get(who, (float(self._burst), now))
        return min(float(self._burst), tokens + (now - then) * self._rate)

    def _verdict(self, tokens: float, count: int, allowed: bool) -> Verdict:
        missing = max(0.0, min(count, self._burst) - tokens)
        retry_s = 0 if allowed else max(1, math.ceil(missing / self._rate))
        return Verdict(allowed, self._burst, int(tokens), math.ceil((self._burst - tokens) / self._rate), retry_s)


class Quota:
    """What may be submitted, by whatever way it comes: `per_second` and `burst` of one key, and of an address
    `KEYS_OF_ADDRESS` times that, where a request counts like an envelope."""

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._keys = Buckets(per_second, burst, clock)
        self._addresses = Buckets(KEYS_OF_ADDRESS * per_second, KEYS_OF_ADDRESS * burst, clock)

    def knock(self, address: str) -> Verdict:
        """A request that will submit something, before its body is read."""
        return self._addresses.take(address)

    def take(self, address: str, raws: Sequence[bytes]) -> Verdict:
        """Envelopes, at least one. What names no key counts for the address only."""
        verdict = self._addresses.take(address, len(raws))
        if len(raws) == 1 and verdict.allowed:
            key = signer_of(raws[0])
            return self._keys.take((address, key)) if key is not None else verdict
        owed: Counter[Hashable] = Counter((address, key) for raw in raws if (key := signer_of(raw)) is not None)
        return self._keys.take_all(owed) if verdict.allowed and owed else verdict


def signer_of(raw: bytes) -> bytes | None:
    """The key that an envelope names, unchecked; None when it is none."""
    try:
        return _envelope(raw).key
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
        return None


def address_of(connection: HTTPConnection) -> str:
    """Whom a connection is counted for."""
    host = connection.client.host if connection.client is not None else ""
    if ":" not in host:
        return host
    try:
        whole = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    return str(whole.ipv4_mapped or ipaddress.IPv6Network((whole, 64), strict=False).network_address)
