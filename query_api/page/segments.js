// Results by segment: one metric by the values of one attribute, as of the present look.

import { getSegments } from "./api.js";
import { h, setAttribute, setText } from "./dom.js";
import { Forest, radiusOf } from "./forest.js";
import * as format from "./format.js";
import { METHODS, estimateOf, intervalOf, pointOf, written } from "./methods.js";
import { halfWidth } from "./results.js";

const PERIOD_MS = 3_000;

const OTHER = "other";

export class Segments {
  #closed = false;
  #tick = null;
  #readAt = -Infinity;
  #reading = false;

  /** `method`: whose intervals are shown. */
  constructor({ id, definition, method }) {
    this.id = id;
    this.definition = definition;
    // Planned looks are the experiment's; within a segment there are none.
    this.method = method === "group_sequential" ? "always_valid" : method;
    const attributes = Object.keys(definition.segments);
    const metrics = definition.metrics.filter(({ window }) => window);
    this.attribute = attributes[0];
    this.metric = metrics[0] ?? definition.metrics[0];
    const choice = (label, names, choose) =>
      h(
        "label",
        {},
        `${label} `,
        h(
          "select",
          { onchange: ({ target }) => this.#choose(() => choose(target.value)) },
          names.map((name) => h("option", { value: name }, name)),
        ),
      );
    this.table = h("div", { class: "scroll" });
    this.note = h("p", { class: "muted" });
    this.element = h(
      "section",
      { class: "card segments", "aria-label": "Results by segment" },
      h(
        "header",
        {},
        h("h2", {}, "Results by segment"),
        h("span", { class: "chip plain" }, "to look at, not for deciding"),
        h("span", { class: "chip plain method" }, METHODS[this.method].title),
      ),
      h(
        "p",
        { class: "choices" },
        choice("By", attributes, (name) => {
          this.attribute = name;
        }),
        choice("Metric", metrics.map(({ id: name }) => name), (name) => {
          this.metric = definition.metrics.find(({ id: one }) => one === name);
        }),
      ),
      this.table,
      this.note,
    );
  }

  close() {
    this.#closed = true;
  }

  /** A look has come: read its segments, unless they were read a moment ago. */
  show({ look }) {
    if (look.tick === this.#tick || this.#reading) return;
    if (performance.now() - this.#readAt < PERIOD_MS) return;
    this.#read(look.tick);
  }

  #choose(set) {
    set();
    this.#read(this.#tick);
  }

  async #read(tick) {
    this.#reading = true;
    this.#readAt = performance.now();
    const { attribute } = this;
    try {
      const segments = await getSegments(this.id, attribute);
      if (this.#closed || attribute !== this.attribute) return;
      this.#tick = tick;
      this.#build(segments);
    } catch (error) {
      if (!this.#closed) setText(this.note, `${error.message} Trying again.`);
    } finally {
      this.#reading = false;
    }
  }

  #build(segments) {
    const rows = segments.flatMap((segment) => this.#rowsOf(segment));
    const radius = radiusOf(rows.map(({ interval, isOff }) => (isOff ? null : interval)));
    const heads = ["Segment", "Units", "Difference", "Interval", "", "Corrected"];
    this.table.replaceChildren(
      h(
        "table",
        {},
        h("thead", {}, h("tr", {}, heads.map((title) => h("th", { scope: "col" }, title)))),
        h("tbody", {}, rows.map((row) => this.#row(row, radius))),
      ),
    );
    const size = rows[0]?.effect.adjusted?.family_size || rows.length;
    const family = size === 1 ? "1 comparison" : `${size} comparisons, over all metrics`;
    setText(
      this.note,
      `By what ${this.attribute} was at a unit's first assignment; “${OTHER}”: missing, or not ` +
        `declared. ${family}: one of them is bound to look special.`,
    );
  }

  #rowsOf(segment) {
    const look = segment.metrics.find(
      (one) => one.metric_id === this.metric.id && one.basis === "matured",
    );
    const units = (look?.variants ?? segment.variants).reduce((sum, one) => sum + one.units, 0);
    const of = estimateOf(this.metric);
    return (look?.effects ?? []).map((effect) => ({
      segment,
      units,
      effect,
      of,
      interval: intervalOf(effect, this.method, of),
      isAlone: look.effects.length === 1,
      isOff: segment.sample_ratio?.mismatch === true,
    }));
  }

  /** One effect; where the segment's split is off its numbers are struck out, and nothing drawn. */
  #row({ segment, units, effect, of, interval, isAlone, isOff }, radius) {
    const base = `segments/${this.attribute}/${segment.value}/metrics/${this.metric.id}/matured`;
    const path = `${base}/effects/${effect.variant}/${of}`;
    const show = (value) => format.difference(value, this.metric.kind, halfWidth(interval));
    const forest = () => {
      const bar = new Forest({ describe: () => `Interval of ${segment.value}`, ticks: false });
      bar.show(pointOf(effect, this.method, of), interval, { radius, tone: "open" });
      return bar.element;
    };
    const cell = (field, value) =>
      h("span", { "data-segment-field": field, "data-value": String(value ?? null) }, show(value));
    const told = (content) => (isOff ? h("s", {}, content) : content);
    const row = h(
      "tr",
      { "data-segment": segment.value },
      h("th", { scope: "row" }, segment.value, isAlone ? "" : h("em", {}, effect.variant)),
      h("td", {}, format.integer(units)),
      h("td", {}, told(cell(`${path}/estimate`, effect[of]?.estimate))),
      h(
        "td",
        {},
        interval
          ? told([
              cell(`${path}/${METHODS[this.method].field}/low`, interval.low),
              " to ",
              cell(`${path}/${METHODS[this.method].field}/high`, interval.high),
            ])
          : effect.status.replaceAll("_", " "),
      ),
      h("td", { class: "small-forest" }, isOff ? "" : forest()),
      h("td", {}, isOff ? "split is off: do not read" : correctedWords(effect.adjusted)),
    );
    setAttribute(row, "data-mismatch", isOff ? "true" : null);
    return row;
  }
}

function correctedWords(adjusted) {
  if (!adjusted || (adjusted.p_value === null && adjusted.e_value === null)) return format.NONE;
  const value =
    typeof adjusted.e_value === "number"
      ? `e ${written(adjusted.e_value, "number")}`
      : `p ${format.pValue(adjusted.p_value ?? null)}`;
  return `${value}${adjusted.rejects ? ", a finding" : ""}`;
}
