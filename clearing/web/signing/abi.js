// SPDX-License-Identifier: GPL-3.0-or-later
// Calldata of the vault's functions that users call, laid by hand. Selectors are the first four bytes of Keccak-256
// of the signature; a test compares them and whole calls with the contract's own ABI.

import { hex } from "/assets/shared/numbers.js";

export const SELECTORS = {
  "claim(bytes,uint32,address,uint128[],uint128[],bytes32[],uint128[])": "dfc6a97f",
  "escape(bytes,uint32,address,uint128[],uint128[],bytes32[],uint128[])": "73d9aab1",
  "forceWithdrawal(uint8,uint128,uint16)": "97c10faf",
  "forceExit(uint16)": "84a7da83",
  "freeze()": "62a5af3b",
  "withdrawCredit(uint8,address)": "f13701d2",
  "claimedOf(address,uint8)": "5746ab5d",
  "credit(address,uint8)": "8f71295d",
  "escaped(address)": "ae6a72d1",
  "frozen()": "054f7d9c",
  "freezeAt()": "c21eb6c8",
  "frozenAt()": "364e18bb",
  "freezeReason()": "e0e32843",
  "escapeEpoch()": "44f06062",
  "epochCount()": "829965cc",
  "finalisedEpoch()": "06041e7b",
  "finalAt(uint64)": "e93e87af",
};

// Refusals of the vault that a user can meet, with what to do.
export const REVERTS = {
  f09a96c5: ["HeaderNotFinal", "the epoch’s challenge window is not over; wait until it is final"],
  "64ab3466": ["NothingToClaim", "everything that this proof acknowledges was paid already"],
  "7c532e31": ["RootMismatch", "the proof does not lead to the header’s root; fetch the bundle again"],
  "4fea936d": ["SumMismatch", "the proof’s sums are not the header’s; fetch the bundle again"],
  c492e6b7: ["UnknownHeader", "the vault has not stored this header; wait until its epoch is posted"],
  "1f489970": ["DeadlineNotPassed", "the operator is not overdue yet"],
  a0822f88: ["VaultFrozen", "the vault is frozen: escape instead"],
  "8208cbe5": ["NotFrozen", "the vault is not frozen: claim, or force a withdrawal"],
  "980f0782": ["NotEscapeHeader", "a frozen vault pays from one epoch only, and this proof is of another one"],
  "81b23d96": ["AlreadyEscaped", "this owner has escaped already"],
  fd5830c3: ["HouseRequest", "the treasury cannot force anything"],
  e17338ee: ["UnknownAsset", "the vault has no such asset"],
  "3c3bb0d2": ["NoCredit", "there is no credit to withdraw"],
};

export function explainRevert(data) {
  const found = REVERTS[data.replace(/^0x/, "").slice(0, 8)];
  return found ? `${found[1]} (${found[0]})` : "";
}

const word = (value) => BigInt(value).toString(16).padStart(64, "0");
const address = (text) => text.replace(/^0x/, "").toLowerCase().padStart(64, "0");
const list = (values) => word(values.length) + values.map(word).join("");
const hashes = (values) => word(values.length) + values.join("");

function bytes(digits) {
  return word(digits.length / 2) + digits.padEnd(Math.ceil(digits.length / 64) * 64, "0");
}

function named(signature) {
  const found = SELECTORS[signature];
  if (found === undefined) throw new Error(`no selector of ${signature}`);
  return `0x${found}`;
}

// Words only: numbers, and addresses as 0x-text of 40 digits.
export function plainCall(signature, ...values) {
  const one = (value) => (/^0x[0-9a-fA-F]{40}$/.test(String(value)) ? address(value) : word(value));
  return named(signature) + values.map(one).join("");
}

// claim or escape with the leaf and path of a proof bundle (as clearing/web/verify decodes it).
export function leafCall(name, bundle) {
  const part = bundle.exit;
  const parts = [
    bytes(bundle.header), word(part.index), address(part.owner), list(part.exits), list(part.withdraw_acks),
    hashes(part.hashes), list(part.sums.flat()),
  ];
  const dynamic = [true, false, false, true, true, true, true];
  let at = 32 * parts.length;
  let [head, tail] = ["", ""];
  parts.forEach((part, number) => {
    if (!dynamic[number]) {
      head += part;
      return;
    }
    head += word(at);
    tail += part;
    at += part.length / 2;
  });
  return named(`${name}(bytes,uint32,address,uint128[],uint128[],bytes32[],uint128[])`) + head + tail;
}

export function uint(data) {
  if (data.length !== 32) throw new Error("the vault did not answer: is it on this chain?");
  return BigInt(hex(data));
}
