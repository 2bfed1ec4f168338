// What the experiment says as a whole, in plain language, with what is promised of it.

import { h, setAttribute, setText } from "./dom.js";

/** Reading → [CSS tone, a few words for a list]. */
const READINGS = {
  invalid: ["alarm", "The sums contradict each other"],
  sample_ratio_mismatch: ["alarm", "Sample-ratio mismatch: do not read"],
  improvement: ["good", "Improvement"],
  improvement_guardrails_open: ["open", "Improvement; guardrails not settled"],
  guardrail_failed: ["bad", "A guardrail is broken"],
  harm: ["bad", "Harm"],
  mixed: ["open", "Better on one metric, worse on another"],
  inconsistent: ["open", "The looks contradict each other"],
  improvement_below_minimum: ["open", "Better, but by less than the minimum"],
  smaller_than_minimum: ["open", "No difference worth having"],
  stopped_before_look: ["open", "Stopped before the planned look"],
  no_effect_found_at_end: ["open", "No difference shown"],
  running_no_evidence: ["open", "No difference shown yet"],
  too_few_units_at_end: ["waiting", "Too few units"],
  not_tested_at_end: ["waiting", "Nothing could be tested"],
  waiting_for_look: ["waiting", "Waiting for the planned look"],
  warming_up: ["waiting", "Warming up"],
  no_decision_metric: ["waiting", "No decision metric"],
};

const toneOfReading = (reading) => READINGS[reading]?.[0] ?? "open";

/** Return treatments by reading: more than one where they read differently. */
const byReading = (verdict) => {
  const found = new Map();
  for (const { variant, reading } of verdict?.treatments ?? []) {
    found.set(reading, [...(found.get(reading) ?? []), variant]);
  }
  return found;
};

/** Return the CSS tone of a verdict; without colour where its reading is a new one, or where one
 * treatment is a success and another does damage. */
export const toneOf = (verdict) => {
  const tone = toneOfReading(verdict?.reading);
  const others = [...byReading(verdict).keys()].map(toneOfReading);
  return tone === "good" && others.some((one) => one === "bad" || one === "alarm") ? "open" : tone;
};

/** Return a verdict in a few words: what holds for whom, where treatments read differently. */
export const shortly = (verdict) => {
  const groups = [...byReading(verdict)];
  if (groups.length < 2) return READINGS[verdict?.reading]?.[1] ?? verdict?.text ?? "";
  return groups
    .map(([reading, variants]) => `${variants.join(", ")}: ${READINGS[reading]?.[1] ?? reading}`)
    .join(" · ");
};

/** Return what a verdict says of one metric and variant, or null. */
export const reasonOf = (verdict, metricId, variant) =>
  verdict?.reasons.find((one) => one.metric_id === metricId && one.variant === variant) ?? null;

export class Verdict {
  constructor() {
    this.text = h("p", { class: "headline" });
    this.reasons = h("ul", { class: "reasons" });
    this.guarantee = h("p", { class: "guarantee" });
    this.element = h(
      "section",
      { class: "card overall", "aria-label": "Verdict", hidden: true },
      this.text,
      this.reasons,
      this.guarantee,
    );
  }

  /** Show a verdict; null hides it. Return whether its text is news. */
  show(verdict) {
    this.element.hidden = !verdict;
    if (!verdict) return false;
    const before = this.text.textContent;
    setAttribute(this.element, "data-tone", toneOf(verdict));
    setAttribute(this.element, "data-reading", verdict.reading);
    setText(this.text, verdict.text);
    setText(this.guarantee, verdict.guarantee ?? "");
    this.#showReasons(verdict.reasons ?? []);
    return before !== "" && before !== verdict.text;
  }

  #showReasons(reasons) {
    while (this.reasons.children.length > reasons.length) this.reasons.lastChild.remove();
    reasons.forEach((reason, index) => {
      const item = this.reasons.children[index] ?? this.reasons.appendChild(h("li"));
      setText(item, reason.text);
      setAttribute(item, "data-code", reason.code);
    });
  }
}
