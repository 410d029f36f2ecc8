# SPDX-License-Identifier: GPL-3.0-or-later
"""A reader of journals written from docs/protocol.md alone: standard library, nothing of this code base.

If a sentence of the specification is wrong or missing, this file cannot be right and tests/docs/test_protocol.py fails:
that is what it is for. It reads bytes, refuses what has another form, and says what was signed, by whom, with what
signature; signatures themselves are for a library to check.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Any, NamedTuple

ZERO = bytes(32)


class Bad(Exception):
    """Bytes that are not what the specification says."""


# --- Encoding ----------------------------------------------------------------------------------


def unpack(data: bytes) -> Any:
    """The value of canonical msgpack bytes: int, bool, bytes, str, None or list."""
    value, end = _value(data, 0)
    if end != len(data):
        raise Bad("trailing bytes")
    return value


def _take(data: bytes, at: int, count: int) -> bytes:
    if at + count > len(data):
        raise Bad("the bytes end too early")
    return data[at : at + count]


def _value(data: bytes, at: int) -> tuple[Any, int]:
    first = _take(data, at, 1)[0]
    at += 1
    if first <= 0x7F:
        return first, at
    if first >= 0xE0:
        return first - 256, at
    if 0x90 <= first <= 0x9F or first in (0xDC, 0xDD):
        return _array(data, at, first)
    if 0xA0 <= first <= 0xBF or first in (0xD9, 0xDA, 0xDB):
        raw, at = _sized(data, at, first, 0xA0 if first <= 0xBF else 0xD9, first <= 0xBF, least=32)
        return raw.decode(), at
    if first in (0xC4, 0xC5, 0xC6):
        return _sized(data, at, first, 0xC4, fixed=False, least=0)
    if first in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[first], at
    if 0xCC <= first <= 0xCF or 0xD0 <= first <= 0xD3:
        return _integer(data, at, first)
    raise Bad(f"no value begins with {first:02x}")


def _integer(data: bytes, at: int, first: int) -> tuple[int, int]:
    negative = first >= 0xD0
    width = 1 << (first & 3)
    value = int.from_bytes(_take(data, at, width), "big", signed=negative)
    lower = 1 << (8 * width // 2) if width > 1 else 128
    if negative:
        shorter = value >= (-32 if width == 1 else -(1 << (8 * width // 2 - 1)))
    else:
        shorter = value < lower
    if shorter:
        raise Bad(f"{value} has a shorter form")
    return value, at + width


def _sized(data: bytes, at: int, first: int, base: int, fixed: bool, least: int) -> tuple[bytes, int]:
    if fixed:
        count = first - base
    else:
        width = 1 << (first - base)
        count = int.from_bytes(_take(data, at, width), "big")
        at += width
        if count < (least if width == 1 else 1 << (8 * width // 2)):
            raise Bad(f"a length of {count} has a shorter form")
    return _take(data, at, count), at + count


def _array(data: bytes, at: int, first: int) -> tuple[list[Any], int]:
    if first <= 0x9F:
        count = first & 15
    else:
        width = 2 if first == 0xDC else 4
        count = int.from_bytes(_take(data, at, width), "big")
        at += width
        if count < (16 if width == 2 else 1 << 16):
            raise Bad(f"an array of {count} has a shorter form")
    items = []
    for _ in range(count):
        item, at = _value(data, at)
        items.append(item)
    return items, at


# --- Journal -----------------------------------------------------------------------------------


class Block(NamedTuple):
    """A block whose hash is its own."""

    term: int
    first_seq: int
    prev_hash: bytes
    entries: list[bytes]
    hash: bytes


class Entry(NamedTuple):
    """An entry; `body` and `outcomes` are arrays, tags in front."""

    seq: int
    time_us: int
    body_bytes: bytes
    body: list[Any]
    key: bytes
    signature: bytes
    outcomes: list[list[Any]]


def block(raw: bytes) -> Block:
    """Read a block and check its hash."""
    if len(raw) > 999_999 or raw[:1] != b"\x96" or raw[-34:-32] != b"\xc4\x20":
        raise Bad("not an array of six that ends in a hash")
    digest = sha256(b"novate/block/v1\n" + b"\x95" + raw[1:-34]).digest()
    term, first_seq, count, prev_hash, entries, told = unpack(raw)
    if told != digest:
        raise Bad(f"the block at {first_seq} hashes to {digest.hex()}")
    if count != len(entries) or not entries or len(prev_hash) != 32:
        raise Bad(f"the block at {first_seq} does not hold what it says")
    return Block(term, first_seq, prev_hash, entries, digest)


def chain(raws: list[bytes]) -> Iterator[bytes]:
    """The entries of blocks that continue one another from the first on."""
    seq, previous, term = 0, ZERO, 0
    for raw in raws:
        found = block(raw)
        if (found.first_seq, found.prev_hash) != (seq, previous) or found.term < term:
            raise Bad(f"the block at {found.first_seq} does not continue the chain at {seq}")
        yield from found.entries
        seq, previous, term = seq + len(found.entries), found.hash, found.term


def entry(raw: bytes) -> Entry:
    """Read an entry, its envelope and the body in it."""
    if len(raw) > 65_535:
        raise Bad("an entry has at most 65,535 bytes")
    seq, time_us, envelope, outcomes = unpack(raw)
    body_bytes, key, signature = unpack(envelope)
    return Entry(seq, time_us, body_bytes, unpack(body_bytes), key, signature, outcomes)


def root(leaves: list[bytes]) -> bytes:
    """Merkle tree hash of leaf hashes (RFC 9162)."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return sha256(b"\x01" + root(leaves[:split]) + root(leaves[split:])).digest()


def leaf(raw: bytes) -> bytes:
    return sha256(b"\x00" + raw).digest()


# --- Signatures: what was signed ---------------------------------------------------------------


def message(found: Entry) -> bytes:
    """What the signature is over: the text that Ed25519 signs, or the 32-byte digest that a wallet signs."""
    if found.key[:1] == b"\x01" and len(found.key) == 33 and len(found.signature) == 64:
        return b"novate/envelope/v1\n" + found.body_bytes
    tag, deployment, action = found.body
    if tag != 2 or found.key != b"\x02" + action[1] or len(found.signature) != 65:
        raise Bad("neither Ed25519 nor an owner's wallet")
    return owner_digest(deployment, action)


def owner_digest(deployment: bytes, action: list[Any]) -> bytes:
    """The EIP-712 digest of RegisterKey (tag 0) and RevokeKey (tag 1)."""
    if action[0] == 0:
        _, owner, key, scope, expiry_us, nonce, secret = action
        text = "RegisterKey(address owner,bytes key,uint64 scope,uint64 expiryUs,uint64 nonce,bytes32 secret)"
        words = [_address(owner), keccak(key), _word(scope), _word(expiry_us), _word(nonce), secret]
    else:
        _, owner, key, nonce = action
        text = "RevokeKey(address owner,bytes key,uint64 nonce)"
        words = [_address(owner), keccak(key), _word(nonce)]
    domain = _separator("Novate", deployment)
    return keccak(b"\x19\x01" + domain + keccak(keccak(text.encode()) + b"".join(words)))


def checkpoint_digest(deployment: bytes, size: int, journal_root: bytes) -> bytes:
    """The EIP-712 digest of a checkpoint's second signature."""
    kind = keccak(b"Checkpoint(bytes32 domain,uint64 size,bytes32 root)")
    found = keccak(kind + deployment + _word(size) + journal_root)
    return keccak(b"\x19\x01" + _separator("Novate Journal", deployment) + found)


def _separator(name: str, salt: bytes) -> bytes:
    kind = keccak(b"EIP712Domain(string name,string version,bytes32 salt)")
    return keccak(kind + keccak(name.encode()) + keccak(b"1") + salt)


def _word(value: int) -> bytes:
    return value.to_bytes(32, "big")


def _address(value: bytes) -> bytes:
    return bytes(12) + value


# --- Checkpoint --------------------------------------------------------------------------------


class Note(NamedTuple):
    """A signed note: what Ed25519 signs, and per line the key's name, its id and the signature."""

    origin: str
    size: int
    root: bytes
    signed: bytes
    lines: list[tuple[str, bytes, bytes]]


def note(text: str) -> Note:
    """Read a checkpoint."""
    from base64 import b64decode

    body, _, tail = text.partition("\n\n")
    origin, size, root64 = body.split("\n")
    lines = []
    for line in tail.splitlines():
        dash, name, data = line.split(" ")
        raw = b64decode(data, validate=True)
        if dash != "\u2014":
            raise Bad("a signature line begins with a dash")
        lines.append((name, raw[:4], raw[4:]))
    return Note(origin, int(size), b64decode(root64, validate=True), (body + "\n").encode(), lines)


def key_id(name: str, algorithm: bytes, key: bytes) -> bytes:
    return sha256(name.encode() + b"\n" + algorithm + key).digest()[:4]


# --- Header ------------------------------------------------------------------------------------


def header(genesis: list[Any], closing: Entry, journal_root: bytes, vault: int, previous: list[bytes]) -> bytes:
    """The header's bytes of one vault, from genesis and the entry that closed an epoch."""
    closed = next(outcome for outcome in closing.outcomes if outcome[0] == 17)
    _, epoch, state_root, marks, params, _, _, scenarios, _, parts = closed
    exit_root, sums, inbox_count, inbox_hash, diff, l1_number, l1_hash, _ = parts[vault]
    chain_id, address, _, attestors, threshold, _ = genesis[7][vault]
    domain = sha256(b"novate/exit/v1" + _word(chain_id) + address).digest()
    return b"".join(
        (
            b"\x03\x01", domain, bytes([len(sums)]), _u64(epoch), _u64(closing.time_us), previous[vault],
            _peers(vault, previous), _u64(closing.seq + 1), journal_root, state_root, exit_root,
            b"".join(total.to_bytes(16, "big") for total in sums), _u64(inbox_count), inbox_hash, marks, params,
            scenarios, _attestors(threshold, attestors), diff, ZERO, _u64(l1_number), l1_hash,
        )
    )  # fmt: skip


def _u64(value: int) -> bytes:
    return value.to_bytes(8, "big")


def _peers(vault: int, previous: list[bytes]) -> bytes:
    if len(previous) == 1:
        return ZERO
    others = (bytes([number]) + each for number, each in enumerate(previous) if number != vault)
    return sha256(b"novate/peers/v1" + b"".join(others)).digest()


def _attestors(threshold: int, addresses: list[bytes]) -> bytes:
    if not addresses:
        return ZERO
    head = b"novate/attestors/v1" + bytes([threshold, len(addresses)])
    return sha256(head + b"".join(addresses)).digest()


# --- Keccak-256, which the standard library lacks ----------------------------------------------

_MASK = (1 << 64) - 1
_RATE = 136


def keccak(data: bytes) -> bytes:
    """Keccak-256, as Ethereum has it."""
    padded = data + b"\x01" + bytes(-(len(data) + 1) % _RATE)
    padded = padded[:-1] + bytes([padded[-1] | 0x80])
    lanes = [[0] * 5 for _ in range(5)]
    for start in range(0, len(padded), _RATE):
        for at in range(_RATE // 8):
            word = padded[start + 8 * at : start + 8 * at + 8]
            lanes[at % 5][at // 5] ^= int.from_bytes(word, "little")
        lanes = _permute(lanes)
    return b"".join(lanes[at % 5][at // 5].to_bytes(8, "little") for at in range(4))


def _turn(value: int, by: int) -> int:
    by %= 64
    return (value << by | value >> (64 - by)) & _MASK if by else value


def _permute(a: list[list[int]]) -> list[list[int]]:
    register = 1
    for _ in range(24):
        c = [a[x][0] ^ a[x][1] ^ a[x][2] ^ a[x][3] ^ a[x][4] for x in range(5)]
        d = [c[(x + 4) % 5] ^ _turn(c[(x + 1) % 5], 1) for x in range(5)]
        a = [[a[x][y] ^ d[x] for y in range(5)] for x in range(5)]
        x, y, current = 1, 0, a[1][0]
        for step in range(24):
            x, y = y, (2 * x + 3 * y) % 5
            current, a[x][y] = a[x][y], _turn(current, (step + 1) * (step + 2) // 2)
        a = [[a[x][y] ^ (~a[(x + 1) % 5][y] & a[(x + 2) % 5][y]) for y in range(5)] for x in range(5)]
        for bit in range(7):
            register = (register << 1 ^ (register >> 7) * 0x171) & 0xFF
            if register & 2:
                a[0][0] ^= 1 << ((1 << bit) - 1)
    return a
