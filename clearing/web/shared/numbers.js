// SPDX-License-Identifier: GPL-3.0-or-later
// Numbers as people read them. Money and sizes are BigInt from the wire to the screen: nothing is rounded by a float.

const MINUS = "−";

export function grouped(value) {
  return String(value).replace(/\B(?=(\d{3})+$)/g, ",");
}

// 1234500n, 6 -> "1,234.50": exact, but zeros past `least` places are left out.
export function amount(value, decimals = 6, least = 2) {
  if (value === null || value === undefined) return "–";
  const atoms = BigInt(value);
  const digits = (atoms < 0n ? -atoms : atoms).toString().padStart(decimals + 1, "0");
  const whole = decimals ? digits.slice(0, -decimals) : digits;
  let fraction = decimals ? digits.slice(-decimals) : "";
  while (fraction.length > least && fraction.endsWith("0")) fraction = fraction.slice(0, -1);
  return (atoms < 0n ? MINUS : "") + grouped(whole) + (fraction ? `.${fraction}` : "");
}

export function count(value) {
  if (value === null || value === undefined) return "–";
  const number = BigInt(value);
  return (number < 0n ? MINUS : "") + grouped(number < 0n ? -number : number);
}

// "1,234.5" with 6 decimals -> 1234500000n. Throws with a sentence for people.
export function parseAmount(text, decimals = 6) {
  const clean = text.trim().replace(/[,\s_]/g, "");
  const found = /^([0-9]*)(?:\.([0-9]*))?$/.exec(clean);
  if (found === null || (!found[1] && !found[2])) throw new Error("is not a number");
  const fraction = (found[2] ?? "").replace(/0+$/, "");
  if (fraction.length > decimals) throw new Error(`has more than ${decimals} decimal places`);
  return BigInt((found[1] || "0") + fraction.padEnd(decimals, "0"));
}

export function parseCount(text) {
  const clean = text.trim().replace(/[,\s_]/g, "");
  if (!/^[0-9]+$/.test(clean)) throw new Error("is not a whole number");
  return BigInt(clean);
}

export function decimalsOf(unitAtoms) {
  return BigInt(unitAtoms).toString().length - 1;
}

export function abs(value) {
  return value < 0n ? -value : value;
}

const pad = (value) => String(value).padStart(2, "0");

// Microseconds -> "14:03:22" in the reader's zone, with the date when it is another day.
export function clock(timeUs) {
  const time = new Date(Number(timeUs) / 1000);
  if (Number.isNaN(time.getTime())) return "–";
  const text = `${pad(time.getHours())}:${pad(time.getMinutes())}:${pad(time.getSeconds())}`;
  if (time.toDateString() === new Date().toDateString()) return text;
  return `${time.getFullYear()}-${pad(time.getMonth() + 1)}-${pad(time.getDate())} ${text}`;
}

// Seconds -> "2026-01-02 03:04:05 UTC": for deadlines, where the zone must not be in doubt.
export function moment(seconds) {
  const time = new Date(Number(seconds) * 1000);
  return Number.isNaN(time.getTime()) ? "–" : `${time.toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

export function duration(seconds) {
  const total = Math.max(0, Math.floor(Number(seconds)));
  const [days, hours] = [Math.floor(total / 86400), Math.floor(total / 3600) % 24];
  const minutes = Math.floor(total / 60) % 60;
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  if (minutes) return `${minutes} min ${total % 60} s`;
  return `${total} s`;
}

export function ppm(value, places = 2) {
  if (value === null || value === undefined) return "–";
  return `${(Number(value) / 10_000).toFixed(places).replace("-", MINUS)} %`;
}

export function short(hex, head = 8, tail = 4) {
  const text = String(hex);
  return text.length <= head + tail + 3 ? text : `${text.slice(0, head)}…${text.slice(-tail)}`;
}

export function hex(bytes) {
  return `0x${Array.from(bytes, (value) => value.toString(16).padStart(2, "0")).join("")}`;
}

export function unhex(text) {
  const digits = String(text).replace(/^0x/i, "");
  if (!/^(?:[0-9a-fA-F]{2})*$/.test(digits)) throw new Error("is not hexadecimal");
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

export function concat(...parts) {
  const whole = new Uint8Array(parts.reduce((total, part) => total + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
