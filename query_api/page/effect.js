// One treatment against the control: what it says, its interval, its numbers, by one method.

import { h, setAttribute, setText } from "./dom.js";
import { Forest } from "./forest.js";
import * as format from "./format.js";
import { METHODS, confidenceOf, estimateOf, intervalOf, pointOf, written } from "./methods.js";
import { halfWidth } from "./results.js";
import { flagWords, guardrailWords, reading } from "./words.js";

const unsigned = (text) => text.replace("+", "");

export class EffectRow {
  #fields;

  /** `fields` binds elements to paths below `base`; `method`: the one that is shown;
   * `deciding`: whether it is the one that decides. */
  constructor({ effect, metric, base, fields, method, deciding, alpha }) {
    this.#fields = fields;
    this.metric = metric;
    this.method = method;
    this.deciding = deciding;
    this.variant = effect.variant;
    this.shown = METHODS[method];
    this.confidence = confidenceOf(alpha);
    this.of = estimateOf(metric);
    this.source = `${base}/${this.of}`;
    this.relative = this.of === "cuped" ? `${this.source}/relative` : `${base}/relative`;
    this.path = `${this.source}/${this.shown.field}`;
    const own = this.shown.estimate;
    this.estimate = own ? `${this.path}/${own}` : `${this.source}/estimate`;
    this.base = base;
    this.forest = new Forest({
      margins: metric.role === "guardrail" && metric.margin ? [0] : [],
      describe: (estimate, interval) => this.#describe(effect, estimate, interval),
    });
    this.headline = h("p", { class: "headline" });
    this.detail = h("p", { class: "detail" });
    this.scale = [h("span"), h("span", {}, "0"), h("span")];
    this.note = h("p", { class: "note" });
    this.corrected = h("p", { class: "corrected" });
    this.margin = h("p", { class: "margin-state" });
    this.element = this.#build(effect);
  }

  /** Show an effect; return its headline. `radius`: half the width of the scale. */
  show(effect, { radius, mismatch, final, reason }) {
    const { method, metric, deciding } = this;
    const context = { method, deciding, mismatch, final, reason };
    const { tone, headline, detail } = reading(effect, metric, context);
    const interval = intervalOf(effect, method, this.of);
    setText(this.headline, headline);
    setText(this.detail, detail);
    setAttribute(this.element, "data-tone", tone);
    setAttribute(this.element, "data-status", effect.status);
    if (this.forest.margins.length) this.forest.margins = [marginOf(effect, metric)];
    this.forest.show(pointOf(effect, method, this.of), interval, { radius, tone });
    const edge = (value) => format.difference(value, metric.kind, radius);
    setText(this.scale[0], interval ? edge(-radius) : "");
    setText(this.scale[2], interval ? edge(radius) : "");
    setText(this.note, flagWords(effect, interval));
    setText(this.corrected, deciding ? correctedWords(effect.adjusted) : "");
    setText(this.margin, guardrailWords(effect, metric));
    return headline;
  }

  #describe(effect, estimate, interval) {
    const pair = `${effect.variant} against ${effect.control}`;
    if (!interval) return `${pair}: no interval yet`;
    const show = (value) => format.difference(value, this.metric.kind, halfWidth(interval));
    const [low, high] = [show(interval.low), show(interval.high)];
    return `${pair}: ${show(estimate)}, ${this.shown.title} interval ${low} to ${high}`;
  }

  #build(effect) {
    return h(
      "section",
      { class: "effect", "data-variant": effect.variant, "data-method": this.method },
      h("p", { class: "pair" }, effect.variant, h("span", {}, " against "), effect.control),
      h("div", { class: "verdict" }, this.headline, this.detail),
      this.forest.element,
      h("p", { class: "scale", "aria-hidden": "true" }, this.scale),
      h(
        "dl",
        { class: "numbers" },
        h("dt", {}, this.of === "cuped" ? "Adjusted difference" : "Difference"),
        h("dd", { class: "big" }, this.#bind(this.estimate)),
        h("dt", {}, h("i", { class: "swatch" }), this.shown.interval(this.confidence)),
        h("dd", { class: "big" }, this.#range(this.path, ["low", "high"])),
      ),
      h(
        "dl",
        { class: "more-numbers" },
        this.shown.numbers.map((number) => this.#number(number)),
        h("div", {}, h("dt", {}, "Relative difference"), h("dd", {}, this.#relative())),
        this.metric.role === "guardrail" ? this.#guardrail() : null,
      ),
      this.of === "cuped" ? this.#cuped() : null,
      this.corrected,
      this.metric.role === "guardrail" ? this.margin : null,
      this.note,
      h("p", { class: this.shown.warning ? "fixed" : "visually-hidden" }, this.shown.warning),
    );
  }

  #number({ label, field, fields, range, as, dark }) {
    const swatch = dark ? h("i", { class: "swatch dark" }) : null;
    const bind = (name) =>
      this.#fields.bind(`${this.path}/${name}`, (value, flat) =>
        written(value, as, (one) => this.#difference(one, flat)),
      );
    const value = range
      ? this.#range(this.path, range)
      : (fields ?? [field]).map((name, index) => [index ? " / " : "", bind(name)]);
    return h("div", {}, h("dt", {}, swatch, label), h("dd", {}, value));
  }

  /** Write a difference with the digits that the interval gives meaning to; `finer`: times. */
  #difference(value, flat, finer = 1) {
    const half = halfWidth({ low: flat.get(`${this.path}/low`), high: flat.get(`${this.path}/high`) });
    return format.difference(value, this.metric.kind, half === null ? null : half / finer);
  }

  #bind(path, as = (text) => text) {
    return this.#fields.bind(path, (value, flat) => as(this.#difference(value, flat)));
  }

  #range(path, [low, high]) {
    return [
      this.#bind(`${path}/${low}`),
      h("span", { class: "to" }, " to "),
      this.#bind(`${path}/${high}`),
    ];
  }

  /** How far from the margin, by bounds that each are wrong with α at most. */
  #guardrail() {
    const path = `${this.base}/guardrail`;
    const end = (opening, closing) => (text) =>
      text === format.NONE ? "" : `${opening}${text}${closing}`;
    return h(
      "div",
      {},
      h("dt", {}, "Room to the margin, with its bounds"),
      h(
        "dd",
        {},
        this.#bind(`${path}/room`),
        this.#bind(`${path}/room_low`, end(" (at least ", ",")),
        this.#bind(`${path}/room_high`, end(" at most ", ")")),
      ),
    );
  }

  #relative() {
    const base = this.relative;
    const end = (opening, closing) => (value) =>
      value === null ? "" : `${opening}${format.relative(value)}${closing}`;
    const { field } = this.shown;
    return [
      this.#fields.bind(`${base}/estimate`, format.relative),
      this.#fields.bind(`${base}/${field}/low`, end(" (", " to "), { class: "muted" }),
      this.#fields.bind(`${base}/${field}/high`, end("", ")"), { class: "muted" }),
    ];
  }

  /** The adjusted estimate under the unadjusted one, by the same method. */
  #cuped() {
    // One digit more than elsewhere: this table is there to compare two close numbers.
    const finely = (path, as = (text) => text) =>
      this.#fields.bind(path, (value, flat) => as(this.#difference(value, flat, 10)));
    const end = (opening, missing) => (text) => (text === format.NONE ? missing : opening + text);
    const line = (title, base) =>
      h(
        "tr",
        {},
        h("th", { scope: "row" }, title),
        h("td", {}, finely(`${base}/estimate`)),
        h(
          "td",
          {},
          finely(`${base}/${this.shown.field}/low`, end("", "of what decides only")),
          finely(`${base}/${this.shown.field}/high`, end(" to ", "")),
        ),
        h("td", {}, finely(`${base}/std_error`, unsigned)),
      );
    const reduction = this.#fields.bind(`${this.base}/cuped/variance_reduction`, (value) =>
      value === null ? "no units with a past yet" : `${format.percent(value, 1)} less variance`,
    );
    return h(
      "div",
      { class: "scroll cuped" },
      h(
        "table",
        {},
        h("caption", {}, "Adjusted by what units did before (CUPED): ", reduction),
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            ["", "Difference", this.shown.interval(this.confidence), "Std error"].map((title) =>
              h("th", { scope: "col" }, title),
            ),
          ),
        ),
        h(
          "tbody",
          {},
          line("Adjusted (decides)", `${this.base}/cuped`),
          line("Unadjusted", `${this.base}/absolute`),
        ),
      ),
    );
  }
}

/** Return where the margin of a guardrail lies, in the metric's unit: as the look says. */
export function marginOf(effect, metric) {
  const margin = effect.guardrail?.margin ?? metric.margin?.absolute ?? 0;
  return metric.direction === "decrease" ? margin : -margin;
}

/** Say what the correction for several comparisons leaves of a finding. */
function correctedWords(adjusted) {
  if (!adjusted || adjusted.family_size < 2) return "";
  if (adjusted.p_value === null && adjusted.e_value === null) return "";
  const value =
    typeof adjusted.e_value === "number"
      ? `e ${format.fixed(adjusted.e_value, 1)}`
      : `p ${format.pValue(adjusted.p_value ?? null)}`;
  const outcome = adjusted.rejects ? "still a finding" : "no finding";
  const method = CORRECTIONS[adjusted.method] ?? adjusted.method;
  const family = FAMILIES[adjusted.family] ?? "are looked at";
  return `Corrected for ${adjusted.family_size} comparisons that ${family} (${method}): ` +
    `${value}, ${outcome}.`;
}

const CORRECTIONS = {
  holm: "Holm",
  benjamini_hochberg: "Benjamini–Hochberg",
  benjamini_yekutieli: "Benjamini–Yekutieli",
  e_bh: "e-BH",
};

const FAMILIES = { decision: "decide", guardrail: "guard", secondary: "are looked at" };
