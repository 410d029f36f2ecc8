// SPDX-License-Identifier: GPL-3.0-or-later
// A price chart with uPlot (vendored), in the page's own colours. What it shows is in a table or figure beside it,
// too: a canvas tells nothing to who cannot see it.

const COLOURS = ["--accent", "--series"];
const LEAST_S = 60;
const DAY_S = 86_400;
const FEW = 100; // so many points are shown as points, too

// The reader's own clock; the day where the splits are of several.
function timeOf(second, splits) {
  const time = new Date(second * 1000);
  const pad = (value) => String(value).padStart(2, "0");
  const [hours, minutes, seconds] = [time.getHours(), time.getMinutes(), time.getSeconds()].map(pad);
  if (splits.at(-1) - splits[0] < DAY_S) return `${hours}:${minutes}:${seconds}`;
  return `${pad(time.getMonth() + 1)}-${pad(time.getDate())} ${hours}:${minutes}`;
}

// All of it, or what was chosen by dragging; a few seconds of data do not fill the width, nor does one point take years.
function rangeOf(plot, from, to) {
  const times = plot.data[0];
  const [first, last] = [times[0], times.at(-1)];
  const whole = times.length === 1 || (from === first && to === last);
  return whole ? [Math.min(first, last - LEAST_S), last] : [from, to];
}

export class PriceChart {
  #box;
  #labels;
  #places;
  #plot = null;
  #data = [[], [], []];

  // `labels` name the lines; `places`: decimals of a price on the axis.
  constructor(box, labels, places = 2) {
    this.#box = box;
    this.#labels = labels;
    this.#places = places;
    new ResizeObserver(() => this.#resize()).observe(box);
    document.addEventListener("themechange", () => this.#draw());
  }

  // data: [seconds[], first[], second[]] with nulls where a line has no value.
  set(data) {
    this.#data = data;
    if (this.#plot === null) this.#draw();
    else this.#plot.setData(data);
  }

  #size() {
    return { width: Math.max(200, this.#box.clientWidth), height: this.#box.clientWidth < 500 ? 200 : 260 };
  }

  #resize() {
    if (this.#plot) this.#plot.setSize(this.#size());
  }

  #draw() {
    if (!this.#data[0].length) return;
    this.#plot?.destroy();
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
    const text = (value) => (value === null || value === undefined ? "–" : value.toLocaleString("en", {
      minimumFractionDigits: this.#places, maximumFractionDigits: this.#places,
    }));
    const times = (_, splits) => splits.map((second) => timeOf(second, splits));
    const options = {
      ...this.#size(),
      cursor: { drag: { x: true, y: false } },
      scales: { x: { time: true, range: rangeOf } },
      axes: [{ ...axis, values: times }, { ...axis, size: 72, values: (_, values) => values.map(text) }],
      series: [
        { label: "Time", value: (_, second) => (second === null ? "–" : timeOf(second, [second])) },
        ...this.#labels.map((label, at) => ({
          label, stroke: colour(COLOURS[at]), width: 1.5, spanGaps: true, dash: at ? [5, 4] : undefined,
          points: { show: (plot) => plot.data[0].length < FEW, size: 5 }, value: (_, value) => text(value),
        })),
      ],
    };
    this.#plot = new globalThis.uPlot(options, this.#data, this.#box);
  }
}
