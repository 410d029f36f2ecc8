// SPDX-License-Identifier: GPL-3.0-or-later
// The operator's console: private figures once a second from this port, market data from the public one.

import { Api } from "/assets/shared/api.js";
import { setText } from "/assets/shared/dom.js";
import { duration } from "/assets/shared/numbers.js";
import { begin } from "/assets/shared/page.js";
import { showFigures } from "./figures.js";
import { Market } from "./market.js";

const EVERY_MS = 1_000;
const OLD_MS = 3_500;
const own = new Api();
let heardMs = 0;
let market = null;

// The public interface as the operator's browser reaches it: what `?public=https://…` of this page's address says
// (behind a proxy nobody here knows it), else the machine's own name when this page came by its own.
function publicAddress(told) {
  const named = new URLSearchParams(location.search).get("public");
  if (named && /^https?:\/\/[^/]/.test(named) && URL.canParse(named)) return new URL(named).origin;
  const url = new URL(told);
  const loopback = (name) => name === "localhost" || name === "[::1]" || name.startsWith("127.");
  if (loopback(url.hostname) && !loopback(location.hostname)) url.hostname = location.hostname;
  return url.origin;
}

function showAge() {
  const age = heardMs ? Date.now() - heardMs : null;
  const old = age !== null && age > OLD_MS;
  const badge = document.getElementById("private-fresh");
  badge.className = `fresh ${age === null ? "wait" : old ? "old" : "live"}`;
  setText(badge, age === null ? "figures: connecting …" : `figures: ${duration(age / 1000)} old`);
  const banner = document.getElementById("private-stale");
  if (banner.hidden === old) {
    banner.hidden = !old;
    setText("private-stale-text", old
      ? "The operator’s process does not answer. The figures below are the last ones known." : "");
    document.body.classList.toggle("figures-stale", old);
  }
}

async function look() {
  try {
    const report = await own.get("/v1/operator");
    heardMs = Date.now();
    showFigures(report);
    if (report.public_url && market === null) {
      const { api, stream } = begin(publicAddress(report.public_url));
      market = new Market(api, stream);
      market.start(report.figures.instruments);
    }
  } catch {
    // its age tells
  }
  showAge();
  setTimeout(look, EVERY_MS);
}

setInterval(showAge, EVERY_MS);
look();
