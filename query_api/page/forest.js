// An interval, its point and the zero line. Zero stays in the middle and the scale moves in
// steps, so the eye compares intervals and not axes.

import { setAttribute, svg } from "./dom.js";

const STEPS = [1, 1.5, 2, 3, 5, 7.5, 10];

/** Return the smallest step 1, 1.5, 2, 3, 5, 7.5 × 10ⁿ that is not below `size`. */
export function niceAbove(size) {
  if (!(size > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(size));
  return STEPS.find((step) => step * power >= size) * power;
}

export class Forest {
  /** Its element; `describe` turns (estimate, interval) into words for those who cannot see. */
  constructor({ describe, margins = [], ticks = true }) {
    this.describe = describe;
    this.margins = margins;
    this.whisker = svg("rect", { class: "whisker", y: "32%", height: "36%", rx: 5 });
    this.running = svg("rect", { class: "running", y: "40%", height: "20%", rx: 3 });
    this.point = svg("circle", { class: "point", cy: "50%", r: 6 });
    this.marginLines = margins.map(() => svg("line", { class: "margin", y1: 0, y2: "100%" }));
    this.edges = [-1, 1].map(() => svg("line", { class: "edge", y1: "24%", y2: "76%" }));
    this.element = svg(
      "svg",
      { class: ticks ? "forest" : "forest small", role: "img", "data-tone": "waiting" },
      svg("line", { class: "baseline", x1: 0, x2: "100%", y1: "50%", y2: "50%" }),
      svg("line", { class: "zero", x1: "50%", x2: "50%", y1: 0, y2: "100%" }),
      ...this.marginLines,
      this.whisker,
      this.running,
      ...this.edges,
      this.point,
    );
  }

  /** Show an estimate with its interval on a scale from −radius to +radius. */
  show(estimate, interval, { radius, tone }) {
    const at = (value) => 50 + (50 * Math.min(1, Math.max(-1, value / radius)));
    setAttribute(this.element, "data-tone", interval ? tone : "waiting");
    setAttribute(this.element, "aria-label", this.describe(estimate, interval));
    this.marginLines.forEach((line, index) => move(line, at(this.margins[index])));
    if (!interval) return;
    span(this.whisker, at(interval.low), at(interval.high));
    const kept = typeof interval.running_low === "number" && interval.running_high !== null;
    span(this.running, at(kept ? interval.running_low : 0), at(kept ? interval.running_high : 0));
    setAttribute(this.running, "visibility", kept ? "visible" : "hidden");
    move(this.edges[0], at(interval.low));
    move(this.edges[1], at(interval.high));
    setAttribute(this.point, "cx", `${at(estimate).toFixed(3)}%`);
  }
}

/** Return the radius of a scale that holds these intervals. */
export function radiusOf(intervals, margins = []) {
  const sizes = intervals.filter(Boolean).flatMap(({ low, high }) => [low, high]);
  return niceAbove(Math.max(0, ...sizes.map(Math.abs), ...margins.map(Math.abs)) * 1.08);
}

function move(line, x) {
  setAttribute(line, "x1", `${x.toFixed(3)}%`);
  setAttribute(line, "x2", `${x.toFixed(3)}%`);
}

function span(rect, from, to) {
  setAttribute(rect, "x", `${from.toFixed(3)}%`);
  setAttribute(rect, "width", `${Math.max(0, to - from).toFixed(3)}%`);
}
