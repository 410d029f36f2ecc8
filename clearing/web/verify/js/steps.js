// SPDX-License-Identifier: GPL-3.0-or-later
// A verdict grows step by step: ok, failed or skipped ("not checked"). Findings are what else a reader must know:
// `bad` and `open` ones keep the verdict from being good, notes do not.
// The verdict is `ok` only when every step is and nothing is left open: what was not checked never looks good.
"use strict";

(function (N) {
  const OK = "ok";
  const FAILED = "failed";
  const SKIPPED = "skipped";

  class Run {
    constructor(progress = () => {}) {
      this.steps = [];
      this.findings = [];
      this.progress = progress;
    }

    // `work` gives [sentence, ...more sentences] or a sentence, or throws. `inputs` is filled by the caller.
    async check(name, about, inputs, work) {
      this.progress(this.steps.length + 1, name);
      const step = { name, about, inputs, status: OK, code: "", text: "" };
      this.steps.push(step);
      try {
        step.text = await work();
      } catch (error) {
        if (!(error instanceof N.CheckError)) throw error;
        step.status = error instanceof N.NotChecked ? SKIPPED : FAILED;
        step.code = error.code;
        step.text = error.message;
      }
      return step.status === OK;
    }

    skip(name, about, inputs, code, text) {
      this.steps.push({ name, about, inputs, status: SKIPPED, code, text });
    }

    // An absent signature of one witness of several is no gap by itself: the quorum step decides.
    aside(name, about, inputs, text) {
      this.steps.push({ name, about, inputs, status: SKIPPED, code: "NOT_SIGNED", text, aside: true });
    }

    find(tone, code, text) {
      this.findings.push({ tone, code, text });
    }

    get level() {
      if (this.steps.some((step) => step.status === FAILED) || this.findings.some((one) => one.tone === "bad")) {
        return FAILED;
      }
      const open = this.steps.some((step) => step.status === SKIPPED && !step.aside);
      return open || this.findings.some((one) => one.tone === "open") || !this.steps.length ? "open" : OK;
    }
  }

  Object.assign(N, { Run, OK, FAILED, SKIPPED });
})((globalThis.Novate = globalThis.Novate || {}));
