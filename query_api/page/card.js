// One metric: what it says, its interval, its numbers, and the open totals well apart.

import { EffectChart } from "./chart.js";
import { h, setAttribute, setText } from "./dom.js";
import { Forest, radiusOf } from "./forest.js";
import * as format from "./format.js";
import { Fields, alwaysValid, halfWidth, isFinal } from "./results.js";
import { ROLE_WORDS, kindWords, reading } from "./words.js";

export class MetricCard {
  #fields = new Fields();
  #rows = [];
  #chart = null;

  /** `looks`: this metric's results on each basis. `metric`: as the definition has it. */
  constructor({ metric, looks, alpha, getHistory, onVerdict }) {
    this.metric = metric;
    this.confidence = confidenceOf(alpha);
    this.getHistory = getHistory;
    this.onVerdict = onVerdict;
    const matured = looks.find((look) => look.basis === "matured");
    const open = looks.find((look) => look.basis === "open");
    this.element = h(
      "article",
      { class: `card ${metric.role}`, "data-metric": metric.id, "aria-label": metric.id },
      this.#title(),
      matured ? this.#matured(matured) : null,
      open ? this.#open(open) : null,
    );
  }

  close() {
    this.#chart?.close();
  }

  show(results, flat) {
    this.#fields.show(flat);
    const growing = isFinal(results) ? "" : ": totals still growing";
    if (this.growing) setText(this.growing, `descriptive${growing}`);
    const matured = results.metrics.find(
      (look) => look.metric_id === this.metric.id && look.basis === "matured",
    );
    if (!matured) return;
    const margins = this.#margins();
    const radius = radiusOf(matured.effects.map(alwaysValid), margins);
    const mismatch = results.sample_ratio?.mismatch === true;
    const context = { radius, mismatch, final: isFinal(results) };
    for (const row of this.#rows) {
      const effect = matured.effects.find((one) => one.variant === row.variant);
      if (effect) this.#showRow(row, effect, context);
    }
    this.#append(results, matured);
    this.#showMaturity(results, matured);
  }

  #title() {
    const { metric } = this;
    const wanted = metric.direction === "decrease" ? "lower is better" : "higher is better";
    return h(
      "header",
      {},
      h("h3", {}, metric.id),
      h("span", { class: `chip ${metric.role}` }, ROLE_WORDS[metric.role] ?? metric.role),
      h("p", { class: "muted" }, `${kindWords(metric)}, ${wanted}`),
    );
  }

  #matured(look) {
    const treatments = look.effects.map((effect) => effect.variant);
    this.#rows = look.effects.map((effect) => this.#row(effect));
    this.maturity = h("span", { class: "muted" });
    this.#chart = new EffectChart({
      name: `Effect on ${this.metric.id} with its always-valid interval`,
      format: (value) => format.difference(value, this.metric.kind, this.chartHalfWidth ?? null),
    });
    this.#choose(treatments[0]);
    return h(
      "div",
      { class: "matured" },
      this.#rows.map((row) => row.element),
      h(
        "div",
        { class: "chart-title" },
        h("h4", {}, "Effect over time"),
        treatments.length > 1 ? this.#picker(treatments) : null,
      ),
      this.#chart.element,
      h("div", { class: "table-title" }, h("h4", {}, "Matured units"), this.maturity),
      this.#table(look),
    );
  }

  #row(effect) {
    const base = `metrics/${this.metric.id}/matured/effects/${effect.variant}`;
    const { kind } = this.metric;
    const always = `${base}/absolute/always_valid`;
    const fixed = `${base}/absolute/fixed_horizon`;
    const half = (flat) => halfWidthAt(flat, always) ?? halfWidthAt(flat, fixed);
    const shown = (value, flat) => format.difference(value, kind, half(flat));
    const bind = (path, as) => this.#fields.bind(path, as);
    const range = (interval, low, high) => [
      bind(`${interval}/${low}`, shown),
      h("span", { class: "to" }, " to "),
      bind(`${interval}/${high}`, shown),
    ];
    const forest = new Forest({
      margins: this.#margins(),
      describe: (estimate, interval) => this.#describe(effect, estimate, interval),
    });
    const row = {
      variant: effect.variant,
      forest,
      headline: h("p", { class: "headline" }),
      detail: h("p", { class: "detail" }),
      scale: [h("span"), h("span", {}, "0"), h("span")],
      note: h("p", { class: "note" }),
    };
    row.element = h(
      "section",
      { class: "effect", "data-variant": effect.variant },
      h("p", { class: "pair" }, effect.variant, h("span", {}, " against "), effect.control),
      h("div", { class: "verdict" }, row.headline, row.detail),
      forest.element,
      h("p", { class: "scale", "aria-hidden": "true" }, row.scale),
      h(
        "dl",
        { class: "numbers" },
        h("dt", {}, "Difference"),
        h("dd", { class: "big" }, bind(`${base}/absolute/estimate`, shown)),
        h("dt", {}, h("i", { class: "swatch" }), `Always-valid ${this.confidence} interval`),
        h("dd", { class: "big" }, range(always, "low", "high")),
      ),
      h(
        "dl",
        { class: "numbers" },
        h("dt", {}, h("i", { class: "swatch dark" }), "Interval over all looks"),
        h("dd", {}, range(always, "running_low", "running_high")),
        h("dt", {}, "Always-valid p"),
        h("dd", {}, bind(`${always}/p_value`, format.pValue)),
        h("dt", {}, "p over all looks"),
        h("dd", {}, bind(`${always}/running_p_value`, format.pValue)),
        h("dt", {}, "Relative difference"),
        h("dd", {}, this.#relative(`${base}/relative`)),
      ),
      row.note,
      h(
        "div",
        { class: "fixed" },
        h("p", {}, "Fixed horizon: only valid at one look planned in advance. Not for watching."),
        h(
          "p",
          { class: "fixed-numbers" },
          bind(`${fixed}/test`, (value) => value ?? "test"),
          " ",
          bind(`${fixed}/statistic`, (value) => format.fixed(value, 3)),
          ", p ",
          bind(`${fixed}/p_value`, format.pValue),
          ", interval ",
          range(fixed, "low", "high"),
          ", std error ",
          bind(`${base}/absolute/std_error`, (value, flat) =>
            unsigned(format.difference(value, kind, half(flat))),
          ),
        ),
      ),
    );
    return row;
  }

  #relative(base) {
    const end = (opening, closing) => (value) =>
      value === null ? "" : `${opening}${format.relative(value)}${closing}`;
    return [
      this.#fields.bind(`${base}/estimate`, format.relative),
      this.#fields.bind(`${base}/always_valid/low`, end(" (", " to "), { class: "muted" }),
      this.#fields.bind(`${base}/always_valid/high`, end("", ")"), { class: "muted" }),
    ];
  }

  #showRow(row, effect, { radius, mismatch, final }) {
    const { tone, headline, detail } = reading(effect, this.metric, { mismatch, final });
    const interval = alwaysValid(effect);
    if (row.headline.textContent && row.headline.textContent !== headline) {
      this.onVerdict(`${this.metric.id}: ${headline}`);
    }
    setText(row.headline, headline);
    setText(row.detail, detail);
    setAttribute(row.element, "data-tone", tone);
    setAttribute(row.element, "data-status", effect.status);
    row.forest.show(effect.absolute?.estimate ?? null, interval, { radius, tone });
    const edge = (value) => format.difference(value, this.metric.kind, radius);
    setText(row.scale[0], interval ? edge(-radius) : "");
    setText(row.scale[2], interval ? edge(radius) : "");
    setText(row.note, noteOn(interval, effect));
  }

  #showMaturity(results, matured) {
    const sum = (variants) => variants.reduce((total, variant) => total + variant.units, 0);
    const [of, all] = [sum(matured.variants), sum(results.variants)];
    setText(
      this.maturity,
      `${format.integer(of)} of ${format.integer(all)} units: ` +
        `their window of ${matured.window ?? this.metric.window} has passed` +
        (matured.overflowed ? `; ${matured.overflowed} left out: too large to be exact` : ""),
    );
  }

  #append(results, matured) {
    const effect = matured.effects.find((one) => one.variant === this.chosen);
    const interval = alwaysValid(effect);
    if (interval) this.chartHalfWidth = halfWidth(interval);
    this.#chart.append({
      tick: results.look.tick,
      at: Date.parse(results.look.as_of) / 1000,
      estimate: effect?.absolute?.estimate ?? null,
      low: interval?.low ?? null,
      high: interval?.high ?? null,
    });
  }

  #choose(variant) {
    this.chosen = variant;
    this.#chart.clear();
    this.getHistory(this.metric.id, variant).then((past) => {
      if (this.chosen === variant) this.#chart.prepend(past);
    });
  }

  #picker(treatments) {
    return h(
      "select",
      {
        "aria-label": "Variant of the chart",
        onchange: ({ target }) => this.#choose(target.value),
      },
      treatments.map((variant) => h("option", { value: variant }, variant)),
    );
  }

  #open(look) {
    this.growing = h("span", { class: "chip plain" });
    const rows = (look.effects ?? []).map((effect) => this.#openRow(effect));
    return h(
      "section",
      { class: "open" },
      h(
        "div",
        { class: "table-title" },
        h("h4", {}, "Open totals"),
        this.growing,
      ),
      this.#table(look),
      rows,
    );
  }

  #openRow(effect) {
    const base = `metrics/${this.metric.id}/open/effects/${effect.variant}/absolute`;
    const fixed = `${base}/fixed_horizon`;
    const shown = (value, flat) =>
      format.difference(value, this.metric.kind, halfWidthAt(flat, fixed));
    return h(
      "p",
      { class: "fixed-numbers" },
      `${effect.variant} − ${effect.control}: `,
      this.#fields.bind(`${base}/estimate`, shown),
      ", pointwise interval ",
      this.#fields.bind(`${fixed}/low`, shown),
      " to ",
      this.#fields.bind(`${fixed}/high`, shown),
    );
  }

  #table(look) {
    const { kind } = this.metric;
    const measured = (value, standardError) => format.mean(value, kind, standardError);
    const columns = [
      ["units", format.integer, "Units"],
      ["total", format.plain, kind === "conversion" ? "Converted" : "Total"],
      ["mean", measured, kind === "conversion" ? "Rate" : "Mean"],
      ["std_error", measured, "Std error"],
    ];
    const row = ({ variant }) => {
      const base = `metrics/${this.metric.id}/${look.basis}/variants/${variant}`;
      const cells = columns.map(([name, as]) =>
        this.#fields.bind(
          `${base}/${name}`,
          (value, flat) => as(value, flat.get(`${base}/std_error`)),
          { tag: "td" },
        ),
      );
      return h("tr", {}, h("th", { scope: "row" }, variant), cells);
    };
    const head = ["Variant", ...columns.map(([, , title]) => title)];
    return h(
      "div",
      { class: "scroll" },
      h(
        "table",
        {},
        h("thead", {}, h("tr", {}, head.map((title) => h("th", { scope: "col" }, title)))),
        h("tbody", {}, look.variants.map(row)),
      ),
    );
  }

  #margins() {
    const margin = this.metric.role === "guardrail" ? this.metric.margin?.absolute : null;
    if (!margin) return [];
    return [this.metric.direction === "decrease" ? margin : -margin];
  }

  #describe(effect, estimate, interval) {
    const pair = `${effect.variant} against ${effect.control}`;
    if (!interval) return `${pair}: no interval yet`;
    const show = (value) => format.difference(value, this.metric.kind, halfWidth(interval));
    const [low, high] = [show(interval.low), show(interval.high)];
    return `${pair}: ${show(estimate)}, always-valid interval ${low} to ${high}`;
  }
}

const halfWidthAt = (flat, path) =>
  halfWidth({ low: flat.get(`${path}/low`), high: flat.get(`${path}/high`) });

/** "95 %", "99.9 %": no more digits than α has. */
const confidenceOf = (alpha) => `${Number(((1 - alpha) * 100).toPrecision(6))} %`;

const unsigned = (text) => text.replace("+", "");

const FLAG_WORDS = {
  one_variance_zero: "All units of one variant have the same value.",
  control_negative: "The control's mean is below 0: relative numbers divide by its size.",
};

function noteOn(interval, effect) {
  const notes = (effect.flags ?? []).map((flag) => FLAG_WORDS[flag] ?? `${flag}.`);
  if (interval && interval.running_low === null) {
    notes.push("The intervals of all looks no longer overlap, so the present one stands alone.");
  }
  return notes.join(" ");
}
