// All experiments, each with a line that says where it stands.

import { getResults, listExperiments } from "./api.js";
import { h, setAttribute, setText, time } from "./dom.js";
import { Forest, radiusOf } from "./forest.js";
import * as format from "./format.js";
import { estimateOf, intervalOf, pointOf } from "./methods.js";
import { halfWidth, isFinal } from "./results.js";
import { emptyState, showError } from "./states.js";
import { reasonOf, shortly, toneOf } from "./verdict.js";

const PERIOD_MS = 3_000;
const READ_AT_ONCE = 6;
const READ_MAX = 60;

export class ListView {
  #rows = new Map();
  #closed = false;
  #loading = false;

  constructor(host) {
    document.title = "Experiments · Litmus";
    this.notice = h("div", { class: "notice", role: "alert", hidden: true });
    this.list = h("ul", { class: "list" });
    this.body = h("div", {}, h("p", { class: "state" }, "Loading …"));
    host.replaceChildren(
      h("header", { class: "page-head" }, h("h1", {}, "Experiments")),
      this.notice,
      this.body,
    );
    this.timer = setInterval(() => document.hidden || this.#load(), PERIOD_MS);
    this.#load();
  }

  close() {
    this.#closed = true;
    clearInterval(this.timer);
  }

  async #load() {
    if (this.#loading) return;
    this.#loading = true;
    try {
      const definitions = await listExperiments();
      if (this.#closed) return;
      this.#showDefinitions(definitions);
      await this.#readAll(definitions);
    } catch (error) {
      if (!this.#closed) this.#fail(error);
    } finally {
      this.#loading = false;
    }
  }

  #fail(error) {
    const again = () => this.#load();
    if (!this.#rows.size) {
      const title = "Experiments cannot be read";
      showError(this.body, { title, detail: error.message, again });
      return;
    }
    this.list.classList.add("stale");
    this.notice.hidden = false;
    this.notice.replaceChildren(
      `${error.message} What is below is old. Trying again. `,
      h("button", { type: "button", onclick: again }, "Try now"),
    );
  }

  #showDefinitions(definitions) {
    this.notice.hidden = true;
    this.list.classList.remove("stale");
    if (!definitions.length) {
      this.#rows.clear();
      if (!this.body.querySelector("[data-state=empty]")) this.body.replaceChildren(emptyState());
      return;
    }
    const rows = definitions.map((definition) => this.#rowOf(definition).element);
    const same = rows.length === this.list.children.length &&
      rows.every((row, index) => row === this.list.children[index]);
    if (!same) this.list.replaceChildren(...rows);
    if (this.list.parentNode !== this.body) this.body.replaceChildren(this.list);
  }

  #rowOf(definition) {
    const known = this.#rows.get(definition.id);
    if (known?.version === definition.version && known.status === definition.status) return known;
    const row = buildRow(definition);
    this.#rows.set(definition.id, row);
    return row;
  }

  async #readAll(definitions) {
    const waiting = definitions
      .filter(({ status }) => status !== "draft")
      .slice(0, READ_MAX)
      .map((definition) => this.#rows.get(definition.id))
      .filter((row) => !row.isFinal);
    const worker = async () => {
      for (let row = waiting.shift(); row && !this.#closed; row = waiting.shift()) {
        showResults(row, await getResults(row.definition.id));
      }
    };
    await Promise.all(Array.from({ length: READ_AT_ONCE }, worker));
  }
}

function buildRow(definition) {
  const forest = new Forest({ describe: () => "Interval of a decision metric", ticks: false });
  const row = {
    definition,
    forest,
    version: definition.version,
    status: definition.status,
    units: h("span", { class: "count", "data-field": "units", "data-value": "null" }, format.NONE),
    headline: h("span", { class: "headline" }, definition.status === "draft" ? "Not started" : ""),
    numbers: h("span", { class: "muted" }),
    isFinal: false,
  };
  row.element = h(
    "li",
    { "data-experiment": definition.id, "data-tone": "waiting" },
    h(
      "a",
      { href: `#/experiments/${encodeURIComponent(definition.id)}` },
      h(
        "span",
        { class: "name" },
        h("strong", {}, definition.name || definition.id),
        h("span", { class: `status ${definition.status}` }, definition.status),
        h(
          "span",
          { class: "muted" },
          definition.started_at
            ? ["started ", time(definition.started_at, format.moment)]
            : "not started",
        ),
      ),
      h("span", { class: "units" }, row.units, h("span", { class: "muted" }, " units")),
      forest.element,
      h("span", { class: "reading" }, row.headline, row.numbers),
    ),
  );
  return row;
}

function showResults(row, results) {
  if (!results) return setText(row.headline, "No look yet");
  const units = results.variants.reduce((total, variant) => total + variant.units, 0);
  setText(row.units, format.integer(units));
  setAttribute(row.units, "data-value", units);
  row.isFinal = isFinal(results);
  setAttribute(row.element, "data-tone", toneOf(results.verdict));
  setText(row.headline, shortly(results.verdict));
  return showComparison(row, comparisonsOf(row, results));
}

/** All comparisons that decide, findings first. */
function comparisonsOf(row, results) {
  const looks = results.metrics.filter(
    ({ role, basis }) => role === "decision" && basis === "matured",
  );
  const comparisons = looks.flatMap((look) => look.effects.map((effect) => ({ look, effect })));
  const rank = ({ look, effect }) => {
    const reason = reasonOf(results.verdict, look.metric_id, effect.variant);
    return FINDINGS.includes(reason?.code) ? 0 : 1;
  };
  return comparisons.toSorted((one, other) => rank(one) - rank(other));
}

const FINDINGS = ["decision_better", "decision_worse"];

function showComparison(row, [first, ...others]) {
  if (!first) return setText(row.numbers, "");
  const { look, effect } = first;
  const of = estimateOf(row.definition.metrics.find(({ id }) => id === look.metric_id));
  const method = row.definition.analysis?.method ?? "always_valid";
  const interval = effect.decision?.status === "ok" ? intervalOf(effect, method, of) : null;
  const show = (value) => format.difference(value, look.kind, halfWidth(interval));
  const point = pointOf(effect, method, of);
  row.forest.show(point, interval, {
    radius: radiusOf([interval]),
    tone: row.element.dataset.tone,
  });
  const more = others.length ? `; ${others.length} more inside` : "";
  const numbers = interval
    ? `${look.metric_id}, ${effect.variant}: ${show(point)} ` +
      `(${show(interval.low)} to ${show(interval.high)})${more}`
    : `${look.metric_id}${more}`;
  return setText(row.numbers, row.isFinal ? `final: ${numbers}` : numbers);
}
