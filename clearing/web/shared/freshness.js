// SPDX-License-Identifier: GPL-3.0-or-later
// How old the page is, told in its head, and a banner once that matters. The banner is announced once when it comes
// and once when it goes; the running age is for the eye.

import { get, setText } from "./dom.js";
import { duration } from "./numbers.js";

export function showFreshness(stream, { onBack = () => {} } = {}) {
  const badge = get("fresh");
  const banner = get("stale");
  const label = badge.dataset.label ?? "";
  let wasStale = false;
  const show = () => {
    const age = stream.ageMs;
    const seconds = age === null ? null : Math.floor(age / 1000);
    badge.className = `fresh ${stream.fresh ? "live" : age === null ? "wait" : "old"}`;
    if (stream.fresh) setText(badge, `${label}live`);
    else if (age === null) setText(badge, `${label}connecting …`);
    else setText(badge, `${label}${stream.state === "live" ? "stale" : "reconnecting"}, ${duration(seconds)} old`);
    const stale = age !== null && !stream.fresh && age > 2_500;
    if (stale !== wasStale) {
      wasStale = stale;
      banner.hidden = !stale;
      document.body.classList.toggle("is-stale", stale);
      setText("stale-text", stale ? reason(stream) : "");
      if (!stale) onBack();
    }
  };
  show();
  return show;
}

function reason(stream) {
  if (stream.state !== "live") {
    return "The connection to the venue is lost. The figures below are the last ones known; reconnecting by itself.";
  }
  return "The venue’s interface does not hear from its sequencer. Figures are the last ones known; orders may wait.";
}
