// What a result says, in plain words. The numbers are decided elsewhere; this only reads them.

import * as format from "./format.js";
import { METHODS, estimateOf, intervalOf } from "./methods.js";

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
    "Too few units that count, or too few degrees of freedom, for a number: one unit alone says " +
      "nothing of the spread, nor do many if one of them makes up most of it.",
  ],
  invalid_prior: [
    "No number with this prior",
    "No posterior can be computed with a prior of its size. Post the definition anew, with another " +
      "prior or without one.",
  ],
  zero_variance: [
    "No variation yet",
    "All units have the same value, so there is no spread to measure a difference against.",
  ],
  few_expected: [
    "Too few units for the margin",
    "At the margin, 5 converted units and 5 others have to be expected in each variant.",
  ],
  one_variance_zero: [
    "No variation in one variant yet",
    "All units of one variant have the same value, and they are too few for that to mean anything.",
  ],
  sparse: [
    "Too few values yet",
    "Too few units of the smaller variant have a value for an interval that holds at every look.",
  ],
  undefined: [
    "Not defined yet",
    "The denominator of a variant is zero, or too near to it to divide by.",
  ],
  denominator_near_zero: [
    "Too near to dividing by zero",
    "The denominator of a variant is not clearly away from zero, so its ratio cannot be tested.",
  ],
  ties: [
    "Not testable this way",
    "Many units are equal at the quantile, or none lie around it. Ranks can test it, this cannot.",
  ],
  waiting_for_look: [
    "Wait for the planned look",
    "Before it nothing is decided: reading an interval now is peeking.",
  ],
  stopped_before_look: [
    "Stopped before the planned look",
    "No look was taken: what is seen at an end that was not planned decides nothing.",
  ],
  invalid_input: [
    "These sums contradict each other",
    "Nothing is concluded from them. Please look at the ledger and the logs.",
  ],
};

/** Return {tone, headline, detail} for one effect; tone is a CSS class.
 *
 * `reason`: what the verdict says of this effect, if it says anything; `method`: whose interval is
 * shown, `deciding`: whether the experiment is decided by it; `mismatch`: the sample-ratio alarm;
 * `final`: there will be no other look.
 */
export function reading(effect, metric, context = {}) {
  const { reason, method = "always_valid", deciding = true, mismatch = false } = context;
  if (mismatch) {
    return {
      tone: "alarm",
      headline: "Do not read this result",
      detail: "Units are not split as planned, so the groups may not be comparable.",
    };
  }
  if (!deciding) {
    const headline = "Shown for comparison: it decides nothing here";
    return { tone: "waiting", headline, detail: METHODS[method].warning ?? "" };
  }
  const said = reason && REASONS[reason.code];
  if (said) return said(effect, metric, context);
  const interval = intervalOf(effect, method, estimateOf(metric));
  const isDecided = (effect.decision?.status ?? "ok") === "ok";
  return interval && isDecided ? unread(effect, metric, interval) : withoutInterval(effect);
}

function withoutInterval(effect) {
  const decides = effect?.decision?.status ?? "ok";
  const status = decides === "ok" ? (effect?.status ?? "no_units") : decides;
  const [headline, detail] = STATUS_WORDS[status] ?? [
    `No interval: ${status.replaceAll("_", " ")}`,
    "The status says why; nothing is concluded from this metric now.",
  ];
  return { tone: "waiting", headline, detail };
}

/** An effect that no verdict speaks of: a secondary metric. */
function unread(effect, metric, interval) {
  const side = sideOf(interval);
  if (side === 0) {
    const headline = "No difference shown";
    return { tone: "open", headline, detail: "The interval includes 0." };
  }
  const tone = isWanted(side, metric) ? "good" : "bad";
  const survives = effect.adjusted?.rejects ?? true;
  if (survives) return { tone, headline: higherOrLower(effect, side), detail: "Not for deciding." };
  return {
    tone: "open",
    headline: `${higherOrLower(effect, side)}, taken alone`,
    detail: "Corrected for all metrics that are looked at, this is no finding.",
  };
}

const PROMISES = {
  always_valid: "This holds however often you have looked.",
  group_sequential: "This holds over all planned looks together.",
  fixed_horizon: "This was the planned look.",
  bayesian: "Posterior; not protected against repeated looks.",
};

const finding = (tone, wanted) => (effect, metric, { method = "always_valid" }) => ({
  tone,
  headline: higherOrLower(effect, wanted === (metric?.direction !== "decrease") ? 1 : -1),
  detail:
    `The interval excludes 0. ${PROMISES[method]}` +
    (wanted ? "" : " It is not the direction you hoped for."),
});

const words = (tone, headline, detail) => () => ({ tone, headline, detail });

const noDifference = (effect, metric, { method = "always_valid", final = false }) => ({
  tone: "open",
  headline: final ? "No difference shown" : "No difference shown yet",
  detail: isTakenAlone(effect, metric, method)
    ? "The interval excludes 0 taken alone, but not once it is corrected for all comparisons."
    : `The interval includes 0.${method === "always_valid" && !final ? " You may look at any time." : ""}`,
});

const isTakenAlone = (effect, metric, method) => {
  const interval = intervalOf(effect, method, estimateOf(metric));
  return interval !== null && sideOf(interval) !== 0;
};

/** What the verdict says of an effect, by the code of the reason. */
const REASONS = {
  decision_better: finding("good", true),
  decision_better_small: (effect, metric, context) => ({
    tone: "open",
    headline: `${finding("open", true)(effect, metric, context).headline}, but by too little`,
    detail:
      "The interval excludes 0, but all of it lies below the minimum effect that was agreed on. " +
      PROMISES[context.method ?? "always_valid"],
  }),
  decision_worse: finding("bad", false),
  decision_nothing: noDifference,
  decision_small: words(
    "open",
    "No difference worth having",
    "Whatever improvement there is, it is smaller than the minimum that was agreed on.",
  ),
  decision_planned: words(
    "waiting",
    "Wait for the planned look",
    "Between planned looks nothing is decided: reading this interval now is peeking.",
  ),
  decision_stopped: words(
    "waiting",
    "Stopped before the planned look",
    "No look was taken: what is seen at an end that was not planned decides nothing.",
  ),
  decision_inconsistent: words(
    "open",
    "The looks contradict each other",
    "The effect changed while the experiment ran, so no single number describes it.",
  ),
  decision_waiting: withoutInterval,
  decision_invalid: withoutInterval,
  guardrail_pass: (effect) => ({
    tone: "good",
    headline: "Within the margin",
    detail:
      (effect.guardrail?.passed_room ?? null) === null
        ? "The bound that decides lies inside the margin."
        : "It has passed at an earlier look, and no look since has contradicted it.",
  }),
  guardrail_fail: words(
    "bad",
    "The guardrail is broken",
    "The bound that decides lies outside the agreed margin.",
  ),
  guardrail_harm: words(
    "bad",
    "It got worse",
    "Worse than the control, though perhaps by less than the margin.",
  ),
  guardrail_undecided: (effect) =>
    effect.guardrail?.reason
      ? withoutInterval({ status: effect.guardrail.reason })
      : words("open", "Not settled yet", "The margin lies between the bounds that decide.")(),
  guardrail_untested: (effect) => withoutInterval({ status: effect.guardrail.reason }),
  guardrail_invalid: withoutInterval,
};

/** Say what the margin of a guardrail is, and where the effect stands to it. */
export function guardrailWords(effect, metric) {
  if (metric.role !== "guardrail" || !metric.margin) return "";
  const [[scale, margin]] = Object.entries(metric.margin);
  const size =
    scale === "relative"
      ? `${format.percent(margin, 2)} of the control`
      : format.difference(margin, metric.kind, margin).replace("+", "");
  const direction = metric.direction === "decrease" ? "higher" : "lower";
  return `Margin: at most ${size} ${direction} than ${effect.control}.`;
}

function sideOf({ low, high }) {
  if (low > 0) return 1;
  return high < 0 ? -1 : 0;
}

const higherOrLower = (effect, side) =>
  `${effect.variant} is ${side > 0 ? "higher" : "lower"} than ${effect.control}`;

const isWanted = (side, metric) => (metric?.direction === "decrease" ? side < 0 : side > 0);

export const ROLE_WORDS = {
  decision: "decides",
  guardrail: "guardrail",
  secondary: "secondary: not for deciding",
};

const FLAG_WORDS = {
  one_variance_zero: "All units of one variant have the same value.",
  control_negative: "The control's mean is below 0: relative numbers divide by its size.",
  small_cells: "Very few units converted, or did not: z is rough here.",
  ties: "Many equal values at the quantile, or none around it: tested by ranks, a wider interval.",
  interval_decides: "p-value and interval disagree at the edge: the interval decides.",
  covariate_constant: "All units did the same before: there is nothing to adjust by.",
  covariate_undefined: "Nobody had a denominator before: there is nothing to adjust by.",
};

/** Say what a reader should know besides. */
export function flagWords(effect, interval) {
  const notes = (effect.flags ?? []).map(
    (flag) => FLAG_WORDS[flag] ?? `${flag.replaceAll("_", " ")}.`,
  );
  if (interval && interval.running_low === null) {
    notes.push("The intervals of all looks no longer overlap, so the present one stands alone.");
  }
  return notes.join(" ");
}
