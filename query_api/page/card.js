// One metric: what it says, its intervals, its numbers, and the open totals well apart.

import { EffectChart } from "./chart.js";
import { h, setText } from "./dom.js";
import { EffectRow, marginOf } from "./effect.js";
import { radiusOf } from "./forest.js";
import * as format from "./format.js";
import { capWords, columnsOf, kindWords } from "./kinds.js";
import { METHODS, estimateOf, intervalOf, pointOf } from "./methods.js";
import { Fields, halfWidth, isFinal } from "./results.js";
import { isUnreadable } from "./split.js";
import { reasonOf } from "./verdict.js";
import { ROLE_WORDS } from "./words.js";

export class MetricCard {
  #fields = new Fields();
  #rows = [];
  #chart = null;
  #headlines = new Map();

  /** `looks`: this metric's results on each basis. `metric`: as the definition has it.
   * `method`: what is shown; `deciding`: whether the experiment is decided by it. */
  constructor({ metric, looks, alpha, method, deciding, getHistory, onVerdict }) {
    this.metric = metric;
    this.alpha = alpha;
    this.method = method;
    this.of = estimateOf(metric);
    this.deciding = deciding;
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
    const intervals = matured.effects.map((one) => intervalOf(one, this.method, this.of));
    const isGuarded = this.metric.role === "guardrail" && this.metric.margin;
    const margins = isGuarded ? matured.effects.map((one) => marginOf(one, this.metric)) : [];
    const radius = radiusOf(intervals, margins);
    const mismatch = isUnreadable(results);
    for (const row of this.#rows) {
      const effect = matured.effects.find((one) => one.variant === row.variant);
      const reason = reasonOf(results.verdict, this.metric.id, row.variant);
      const context = { radius, mismatch, final: isFinal(results), reason };
      if (effect) this.#tell(row, row.show(effect, context));
    }
    this.#append(results, matured);
    this.#showMaturity(results, matured);
  }

  /** A headline that changed is news for those who listen. */
  #tell(row, headline) {
    const before = this.#headlines.get(row.variant);
    if (before && before !== headline) this.onVerdict(`${this.metric.id}: ${headline}`);
    this.#headlines.set(row.variant, headline);
  }

  #title() {
    const { metric } = this;
    const wanted = metric.direction === "decrease" ? "lower is better" : "higher is better";
    const about = [kindWords(metric), wanted, capWords(metric)].filter(Boolean);
    return h(
      "header",
      {},
      h("h3", {}, metric.id),
      h("span", { class: `chip ${metric.role}` }, ROLE_WORDS[metric.role] ?? metric.role),
      h(
        "span",
        { class: "chip plain method" },
        METHODS[this.method].title,
        this.deciding ? "" : ", for comparison",
      ),
      h("p", { class: "muted" }, about.join(", ")),
    );
  }

  #matured(look) {
    const treatments = look.effects.map((effect) => effect.variant);
    this.#rows = look.effects.map(
      (effect) =>
        new EffectRow({
          effect,
          metric: this.metric,
          base: `metrics/${this.metric.id}/matured/effects/${effect.variant}`,
          fields: this.#fields,
          method: this.method,
          deciding: this.deciding,
          alpha: this.alpha,
        }),
    );
    this.maturity = h("span", { class: "muted" });
    this.#chart = new EffectChart({
      name: `Effect on ${this.metric.id} with its ${METHODS[this.method].title} interval`,
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
      look.cap?.quantile ? this.#cap() : null,
    );
  }

  /** Which cap was chosen, how many units it cuts, and whether it hits the variants alike. */
  #cap() {
    const base = `metrics/${this.metric.id}/matured/cap`;
    const bind = (field, as) => this.#fields.bind(`${base}/${field}`, as);
    return h(
      "p",
      { class: "cap muted" },
      "Totals above ",
      bind("cap", format.plain),
      " count as that. Units above it: ",
      bind("capped_units/0", format.integer),
      " and ",
      bind("capped_units/1", format.integer),
      "; p of an equal share ",
      bind("imbalance_p_value", format.pValue),
      ".",
    );
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
    const interval = intervalOf(effect, this.method, this.of);
    if (interval) this.chartHalfWidth = halfWidth(interval);
    this.#chart.append({
      tick: results.look.tick,
      at: Date.parse(results.look.as_of) / 1000,
      estimate: pointOf(effect, this.method, this.of),
      low: interval?.low ?? null,
      high: interval?.high ?? null,
    });
  }

  #choose(variant) {
    this.chosen = variant;
    this.#chart.clear();
    this.getHistory(this.metric.id, variant, this.method).then((past) => {
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
      h("div", { class: "table-title" }, h("h4", {}, "Open totals"), this.growing),
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
    const writers = { units: format.integer, mean: measured, std_error: measured };
    const columns = columnsOf(this.metric);
    const row = ({ variant }) => {
      const base = `metrics/${this.metric.id}/${look.basis}/variants/${variant}`;
      const cells = columns.map(([name]) =>
        this.#fields.bind(
          `${base}/${name}`,
          (value, flat) => (writers[name] ?? format.plain)(value, flat.get(`${base}/std_error`)),
          { tag: "td" },
        ),
      );
      return h("tr", {}, h("th", { scope: "row" }, variant), cells);
    };
    const head = ["Variant", ...columns.map(([, title]) => title)];
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
}

const halfWidthAt = (flat, path) =>
  halfWidth({ low: flat.get(`${path}/low`), high: flat.get(`${path}/high`) });
