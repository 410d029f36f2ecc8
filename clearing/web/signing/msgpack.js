// SPDX-License-Identifier: GPL-3.0-or-later
// Canonical msgpack, as much of it as commands need: integers in their shortest form, byte strings, text, lists,
// booleans, nil. The venue refuses every other spelling of a value (clearing/model/codec.py).

import { concat } from "/assets/shared/numbers.js";

const utf8 = new TextEncoder();

export function encode(value) {
  if (value === null) return Uint8Array.of(0xc0);
  if (typeof value === "boolean") return Uint8Array.of(value ? 0xc3 : 0xc2);
  if (typeof value === "bigint") return integer(value);
  if (typeof value === "number") {
    if (!Number.isSafeInteger(value)) throw new RangeError(`${value} is not an exact integer`);
    return integer(BigInt(value));
  }
  if (value instanceof Uint8Array) return concat(header(value.length, null, 0, 0xc4), value);
  if (typeof value === "string") {
    const bytes = utf8.encode(value);
    return concat(header(bytes.length, 0xa0, 32, 0xd9), bytes);
  }
  if (Array.isArray(value)) return concat(listHeader(value.length), ...value.map(encode));
  throw new TypeError(`msgpack of ${typeof value} is not needed here`);
}

// [first byte, width] of the shortest form that holds `value`.
function integer(value) {
  if (value >= 0n) {
    if (value < 128n) return Uint8Array.of(Number(value));
    const [tag, width] = value < 1n << 8n ? [0xcc, 1] : value < 1n << 16n ? [0xcd, 2]
      : value < 1n << 32n ? [0xce, 4] : value < 1n << 64n ? [0xcf, 8] : overflow(value);
    return word(tag, value, width);
  }
  if (value >= -32n) return Uint8Array.of(Number(value + 256n));
  const [tag, width] = value >= -(1n << 7n) ? [0xd0, 1] : value >= -(1n << 15n) ? [0xd1, 2]
    : value >= -(1n << 31n) ? [0xd2, 4] : value >= -(1n << 63n) ? [0xd3, 8] : overflow(value);
  return word(tag, BigInt.asUintN(8 * width, value), width);
}

function overflow(value) {
  throw new RangeError(`${value} does not fit 64 bits`);
}

function word(tag, value, width) {
  const bytes = new Uint8Array(1 + width);
  bytes[0] = tag;
  for (let at = width; at > 0; at -= 1, value >>= 8n) bytes[at] = Number(value & 0xffn);
  return bytes;
}

// `fix` is the one-byte form for lengths below `limit`; `first` the tag of the form with an 8-bit length.
function header(length, fix, limit, first) {
  if (length < limit) return Uint8Array.of(fix | length);
  if (length < 0x100) return word(first, BigInt(length), 1);
  if (length < 0x10000) return word(first + 1, BigInt(length), 2);
  return word(first + 2, BigInt(length), 4);
}

function listHeader(length) {
  if (length < 16) return Uint8Array.of(0x90 | length);
  return length < 0x10000 ? word(0xdc, BigInt(length), 2) : word(0xdd, BigInt(length), 4);
}
