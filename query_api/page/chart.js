// The effect and its always-valid interval over time, drawn by uPlot.

import uPlot from "./vendor/uplot/uPlot.esm.js";
import { h, setText } from "./dom.js";

const HEIGHT = 170;
const POINTS_MAX = 2_400;
const SHORTEST_S = 10;

export class EffectChart {
  #points = [];
  #plot = null;
  #frame = 0;
  #scheme = matchMedia("(prefers-color-scheme: dark)");
  #repaint = () => this.#rebuild();

  /** `format(value)` writes an effect, `name` says what is drawn. */
  constructor({ name, format }) {
    this.format = format;
    this.canvas = h("div", { class: "plot", role: "img", "aria-label": `${name} over time` });
    this.readout = h("p", { class: "readout" });
    this.empty = h("p", { class: "empty" }, "The line begins when the first interval does.");
    this.element = h("figure", { class: "chart" }, this.canvas, this.empty, this.readout);
    this.#scheme.addEventListener("change", this.#repaint);
    this.observer = new ResizeObserver(() => this.#resize());
    this.observer.observe(this.canvas);
  }

  close() {
    this.observer.disconnect();
    this.#scheme.removeEventListener("change", this.#repaint);
    cancelAnimationFrame(this.#frame);
    this.#plot?.destroy();
  }

  /** Put the past before what has been appended meanwhile. */
  prepend(past) {
    const first = this.#points[0]?.tick ?? Infinity;
    const older = past.filter((point) => point.tick < first && typeof point.low === "number");
    this.#points = [...older, ...this.#points];
    this.#later();
  }

  /** Append a look. A tick below the last one means another log: start anew. */
  append(point) {
    const last = this.#points.at(-1);
    if (last && point.tick < last.tick) this.#points = [];
    if (point.low === null || point.tick === last?.tick) return;
    this.#points.push(point);
    if (this.#points.length > POINTS_MAX) this.#thin();
    this.#later();
  }

  clear() {
    this.#points = [];
    this.#later();
  }

  /** Drop every second point of the older half. */
  #thin() {
    const half = this.#points.length / 2;
    this.#points = this.#points.filter((_, index) => index > half || index % 2 === 0);
  }

  #later() {
    if (!this.#frame) this.#frame = requestAnimationFrame(() => this.#draw());
  }

  #columns() {
    const of = (name) => this.#points.map((point) => point[name]);
    return [of("at"), of("low"), of("high"), of("estimate")];
  }

  #draw() {
    this.#frame = 0;
    this.element.classList.toggle("waiting", this.#points.length === 0);
    if (!this.#plot) this.#rebuild();
    else this.#plot.setData(this.#columns());
    this.#read(this.#points.length - 1);
  }

  #rebuild() {
    this.#plot?.destroy();
    this.#plot = new uPlot(this.#options(), this.#columns(), this.canvas);
  }

  #resize() {
    if (this.#plot) this.#plot.setSize({ width: this.canvas.clientWidth, height: HEIGHT });
  }

  #read(index) {
    const point = this.#points[index];
    if (!point) return setText(this.readout, "");
    const at = new Date(point.at * 1000).toLocaleTimeString();
    const [estimate, low, high] = ["estimate", "low", "high"].map((n) => this.format(point[n]));
    return setText(this.readout, `${at}   ${estimate}   (${low} to ${high})`);
  }

  #options() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = { stroke: colour("--muted"), font: "11px system-ui", ticks: { show: false } };
    const grid = { stroke: colour("--line"), width: 1 };
    const edge = { stroke: colour("--accent-soft"), width: 1, points: { show: false } };
    return {
      width: this.canvas.clientWidth || 320,
      height: HEIGHT,
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false } },
      scales: { x: { range: () => this.#timeRange() }, y: { range: () => this.#effectRange() } },
      axes: [
        { ...axis, grid: { show: false }, values: clockLabels, space: 90, size: 30 },
        { ...axis, grid, size: 74, values: (_, splits) => splits.map((v) => this.format(v)) },
      ],
      series: [
        {},
        edge,
        edge,
        { stroke: colour("--accent"), width: 2, points: { show: isAlone, size: 9 } },
      ],
      bands: [{ series: [2, 1], fill: colour("--accent-faint") }],
      hooks: {
        drawAxes: [(plot) => drawZero(plot, colour("--strong-line"))],
        setCursor: [({ cursor }) => this.#read(cursor.idx ?? this.#points.length - 1)],
      },
    };
  }

  #timeRange() {
    const first = this.#points[0]?.at ?? Date.now() / 1000 - SHORTEST_S;
    const last = this.#points.at(-1)?.at ?? first;
    return [first, Math.max(last, first + SHORTEST_S)];
  }

  /** The first intervals are very wide: they may leave the picture, the present one may not. */
  #effectRange() {
    const last = this.#points.at(-1);
    if (!last) return [-1, 1];
    const reach = 4 * (last.high - last.low) || 1;
    const within = (value) => Math.min(last.high + reach, Math.max(last.low - reach, value));
    const lows = this.#points.map((point) => within(point.low));
    const highs = this.#points.map((point) => within(point.high));
    const low = Math.min(0, ...lows);
    const high = Math.max(0, ...highs);
    const pad = (high - low) * 0.06 || 1;
    return [low - pad, high + pad];
  }
}

const isAlone = ({ data }) => data[0].length === 1;

function clockLabels(_, splits, __, ___, step) {
  const options =
    step < 60
      ? { hour: "2-digit", minute: "2-digit", second: "2-digit" }
      : step < 86_400
        ? { hour: "2-digit", minute: "2-digit" }
        : { day: "numeric", month: "short" };
  return splits.map((seconds) =>
    new Intl.DateTimeFormat(undefined, options).format(new Date(seconds * 1000)),
  );
}

function drawZero(plot, colour) {
  const y = plot.valToPos(0, "y", true);
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.strokeStyle = colour;
  ctx.setLineDash([5 * devicePixelRatio, 4 * devicePixelRatio]);
  ctx.lineWidth = 1.5 * devicePixelRatio;
  ctx.beginPath();
  ctx.moveTo(bbox.left, y);
  ctx.lineTo(bbox.left + bbox.width, y);
  ctx.stroke();
  ctx.restore();
}
