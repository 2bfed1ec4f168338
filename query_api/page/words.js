// What a result says, in plain words. The numbers are decided elsewhere; this only reads them.

import { alwaysValid } from "./results.js";

const STATUS_WORDS = {
  warming_up: [
    "Warming up: no interval yet",
    "Too few matured units so far for an interval that holds at every look. It appears by " +
      "itself once every variant has enough; until then there is nothing to conclude.",
  ],
  no_units: [
    "No units yet",
    "A variant has no unit that counts. Matured units are those whose window has passed.",
  ],
  insufficient: [
    "Not enough units yet",
    "A variant has fewer than two units that count, so its spread is unknown.",
  ],
  zero_variance: [
    "No variation yet",
    "All units have the same value, so there is no spread to measure a difference against.",
  ],
  invalid_input: [
    "These sums contradict each other",
    "Nothing is concluded from them. Please look at the ledger and the logs.",
  ],
};

/** Return {tone, headline, detail} for one effect; tone is a CSS class.
 *
 * `metric` is the definition's metric (direction, margin); `mismatch` the sample-ratio alarm;
 * `final`: there will be no other look.
 */
export function reading(effect, metric, { mismatch = false, final = false } = {}) {
  if (mismatch) {
    return {
      tone: "alarm",
      headline: "Do not read this result",
      detail: "Units are not split as planned, so the groups may not be comparable.",
    };
  }
  const interval = alwaysValid(effect);
  if (!interval) return withoutInterval(effect);
  return metric?.role === "guardrail" && metric.margin
    ? guardrailReading(effect, metric)
    : decisionReading(effect, interval, { metric, final });
}

function withoutInterval(effect) {
  const status = effect?.status ?? "no_units";
  const [headline, detail] = STATUS_WORDS[status] ?? [
    `No interval: ${status.replaceAll("_", " ")}`,
    "The status says why; nothing is concluded from this metric now.",
  ];
  return { tone: "waiting", headline, detail };
}

function decisionReading(effect, interval, { metric, final }) {
  const side = sideOf(interval.low, interval.high);
  if (side !== 0) {
    return {
      tone: toneOf(side, metric),
      headline: `${effect.variant} is ${side > 0 ? "higher" : "lower"} than ${effect.control}`,
      detail:
        "The interval excludes 0. This holds however often you have looked" +
        `${isWanted(side, metric) ? "" : ", and it is not the direction you hoped for"}.`,
    };
  }
  const earlier = sideOf(interval.running_low, interval.running_high);
  if (earlier !== 0) {
    return {
      tone: toneOf(earlier, metric),
      headline: `Earlier looks showed ${effect.variant} ${earlier > 0 ? "higher" : "lower"}`,
      detail:
        "The looks taken together exclude 0, which is a valid finding; the present interval " +
        "alone includes 0 again.",
    };
  }
  if (final) {
    const headline = "No difference shown";
    return { tone: "open", headline, detail: "The interval of the final look includes 0." };
  }
  return {
    tone: "open",
    headline: "No difference shown yet",
    detail: "The interval includes 0. You may look at any time.",
  };
}

/** A margin is absolute or relative, and is held against the interval of its own kind. */
function guardrailReading(effect, metric) {
  const [[basis, margin]] = Object.entries(metric.margin);
  const interval = effect[basis]?.always_valid;
  if (typeof interval?.low !== "number" || typeof interval.high !== "number") {
    const headline = `No ${basis} interval, so the margin cannot be checked`;
    return { tone: "waiting", headline, detail: "It appears by itself when there is one." };
  }
  const [best, worst] =
    metric.direction === "decrease"
      ? [interval.low, interval.high]
      : [-interval.high, -interval.low];
  if (worst < margin) {
    return {
      tone: "good",
      headline: "Within the margin",
      detail: "The whole interval lies inside the agreed margin, however often you have looked.",
    };
  }
  if (best > margin) {
    return {
      tone: "bad",
      headline: "The guardrail is broken",
      detail: "The whole interval lies outside the agreed margin.",
    };
  }
  return {
    tone: "open",
    headline: "Not settled yet",
    detail: "The interval reaches across the margin. You may look at any time.",
  };
}

function sideOf(low, high) {
  if (low === null || high === null || low === undefined || high === undefined) return 0;
  if (low > 0) return 1;
  return high < 0 ? -1 : 0;
}

const isWanted = (side, metric) => (metric?.direction === "decrease" ? side < 0 : side > 0);

const toneOf = (side, metric) => (isWanted(side, metric) ? "good" : "bad");

export const ROLE_WORDS = {
  decision: "decides",
  guardrail: "guardrail",
  secondary: "secondary: not for deciding",
};

/** Say what a unit's total is. */
export function kindWords(metric) {
  return (
    {
      conversion: `share of units with at least one ${metric.event ?? metric.id}`,
      count: `number of ${metric.event ?? metric.id} events per unit`,
      sum: `total of ${metric.event ?? metric.id} per unit`,
    }[metric.kind] ?? metric.kind
  );
}
