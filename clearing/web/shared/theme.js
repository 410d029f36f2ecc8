// SPDX-License-Identifier: GPL-3.0-or-later
// Light, dark or as the system says. Runs before the page is drawn, so that nothing flashes.
"use strict";

(function () {
  const KEY = "novate-theme";
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");

  function chosen() {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // storage may be forbidden: the system's choice holds
    }
  }

  function apply(theme) {
    root.dataset.theme = theme === "dark" || theme === "light" ? theme : system.matches ? "dark" : "light";
    const button = document.getElementById("theme");
    if (button) button.setAttribute("aria-pressed", String(root.dataset.theme === "dark"));
    document.dispatchEvent(new Event("themechange"));
  }

  function toggle() {
    const next = root.dataset.theme === "dark" ? "light" : "dark";
    try {
      localStorage.setItem(KEY, next);
    } catch {
      // it holds for this page
    }
    apply(next);
  }

  apply(chosen());
  system.addEventListener("change", () => apply(chosen()));
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    if (!button) return;
    button.hidden = false;
    button.addEventListener("click", toggle);
    apply(root.dataset.theme);
  });
})();
