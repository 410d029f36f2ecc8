// SPDX-License-Identifier: GPL-3.0-or-later
// What every page of the public port begins with: the interface, the stream, and how fresh it all is.

import { Api } from "./api.js";
import { showFreshness } from "./freshness.js";
import { Stream, streamUrl } from "./stream.js";

// `onBack`: what to load again after the connection was lost, for all that is not on the stream.
export function begin(base = "", options = {}) {
  const api = new Api(base);
  const stream = new Stream(streamUrl(base));
  stream.onChange = showFreshness(stream, options);
  addEventListener("pagehide", () => stream.close());
  addEventListener("pageshow", (event) => {
    if (event.persisted) location.reload();
  });
  return { api, stream };
}

// Do it, and again until it works: a page that is opened while the venue restarts fills itself later.
export async function untilDone(work, onTrouble) {
  for (let wait = 500; ; wait = Math.min(10_000, wait * 2)) {
    try {
      const made = await work();
      onTrouble(null);
      return made;
    } catch (error) {
      onTrouble(error);
      await new Promise((done) => setTimeout(done, wait));
    }
  }
}
