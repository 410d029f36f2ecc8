// SPDX-License-Identifier: GPL-3.0-or-later
// Commands, bodies and envelopes as clearing/model/commands.py has them: lists whose first item is the type's tag and
// whose order is the wire format. Fields with a default are written, too, as the canonical form has them.

import { encode } from "./msgpack.js";
import { concat, hex } from "/assets/shared/numbers.js";

export const SIDE = { buy: 0, sell: 1 };
export const KIND = { limit: 0, market: 1 };
export const TIF = { gtc: 0, ioc: 1, fok: 2, gtt: 3 };
export const SCOPE = { trade: 1, withdraw: 2, transfer: 4 };

const BODY = { member: 1, owner: 2 };
const KEY = { ed25519: 1, secp256k1: 2 };
const CONTEXT = new TextEncoder().encode("novate/envelope/v1\n");
const STP_CANCEL_TAKER = 1;

export const placeOrder = (order) => [
  0, order.instrument, SIDE[order.side], order.price, order.size, order.clientOrderId, KIND[order.kind ?? "limit"],
  TIF[order.tif ?? "gtc"], order.postOnly ?? false, order.reduceOnly ?? false, order.stp ?? STP_CANCEL_TAKER,
  order.expiryUs ?? 0,
];
export const cancelOrder = (clientOrderId, orderId = 0) => [1, clientOrderId, orderId];
export const cancelAll = (instrument = 0) => [2, instrument];
export const withdraw = (vault, asset, atoms) => [4, vault, asset, atoms];

export const memberBatch = (deployment, account, nonce, expiryUs, commands) =>
  encode([BODY.member, deployment, account, nonce, expiryUs, commands]);

export const registerKey = (deployment, action) => encode([
  BODY.owner, deployment,
  [0, action.owner, action.key, action.scope, action.expiryUs, action.nonce, action.secret],
]);

export const ed25519Key = (publicKey) => concat(Uint8Array.of(KEY.ed25519), publicKey);
export const walletKey = (address) => concat(Uint8Array.of(KEY.secp256k1), address);
export const signedBytes = (body) => concat(CONTEXT, body);
export const envelope = (body, key, signature) => encode([body, key, signature]);

// What the wallet shows and signs (EIP-712); the domain's salt is the deployment: the signature is good there only.
export function typedData(deployment, action) {
  const fields = [
    ["owner", "address"], ["key", "bytes"], ["scope", "uint64"], ["expiryUs", "uint64"], ["nonce", "uint64"],
    ["secret", "bytes32"],
  ];
  const domain = [["name", "string"], ["version", "string"], ["salt", "bytes32"]];
  const named = (list) => list.map(([name, type]) => ({ name, type }));
  return {
    types: { EIP712Domain: named(domain), RegisterKey: named(fields) },
    primaryType: "RegisterKey",
    domain: { name: "Novate", version: "1", salt: hex(deployment) },
    message: {
      owner: hex(action.owner), key: hex(action.key), scope: String(action.scope), expiryUs: String(action.expiryUs),
      nonce: String(action.nonce), secret: hex(action.secret),
    },
  };
}

// A wallet's 65 bytes in the one form that the venue takes: low s (EIP-2), v 27 or 28.
const ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;

export function canonicalSignature(bytes) {
  if (bytes.length !== 65) throw new Error(`the wallet gave ${bytes.length} bytes of signature instead of 65`);
  const made = Uint8Array.from(bytes);
  let s = BigInt(hex(made.subarray(32, 64)));
  if (made[64] < 27) made[64] += 27;
  if (s > ORDER / 2n) {
    s = ORDER - s;
    made[64] = made[64] === 27 ? 28 : 27;
    for (let at = 63; at >= 32; at -= 1, s >>= 8n) made[at] = Number(s & 0xffn);
  }
  return made;
}
