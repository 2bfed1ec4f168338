// The ways to read a comparison. A display shows one of them: p-values of two are never mixed.

import * as format from "./format.js";

/** What is shown of a method: `field` of an effect's `absolute` and `relative`, and which of its
 * numbers stand below the interval. `estimate`: where it has one of its own; `as`: how a number is
 * written; `range`: two ends. */
export const METHODS = {
  always_valid: {
    field: "always_valid",
    title: "Always valid",
    interval: (confidence) => `Always-valid ${confidence} interval`,
    promise: (alpha) =>
      `Errs with probability ${alpha} at most over all looks together: watch it, and stop when ` +
      "you like.",
    warning: null,
    numbers: [
      { label: "Interval over all looks", range: ["running_low", "running_high"], dark: true },
      { label: "Always-valid p", field: "p_value", as: "p" },
      { label: "p over all looks", field: "running_p_value", as: "p" },
    ],
  },
  group_sequential: {
    field: "group_sequential",
    estimate: "estimate",
    title: "Group sequential",
    interval: (confidence) => `Repeated ${confidence} interval`,
    promise: (alpha) =>
      `Errs with probability ${alpha} at most over the planned looks together; what lies between ` +
      "them decides nothing.",
    warning: null,
    numbers: [
      { label: "Interval over all looks", range: ["running_low", "running_high"], dark: true },
      { label: "Planned look", field: "look", as: "integer" },
      { label: "Information at it", field: "information", as: "percent" },
      { label: "z", field: "statistic", as: "number" },
      {
        label: "z to reach alone / among the others",
        fields: ["boundary", "family_boundary"],
        as: "number",
      },
      { label: "Repeated p", field: "p_value", as: "p" },
      { label: "Estimate corrected for stopping", field: "stagewise/estimate", as: "difference" },
      { label: "Its interval", range: ["stagewise/low", "stagewise/high"] },
    ],
  },
  fixed_horizon: {
    field: "fixed_horizon",
    title: "Fixed horizon",
    interval: (confidence) => `Fixed-horizon ${confidence} interval`,
    promise: (alpha) => `Errs with probability ${alpha} at one look that was planned in advance.`,
    warning: "Fixed horizon: only valid at one look planned in advance. Not for watching.",
    numbers: [
      { label: "Test", field: "test", as: "text" },
      { label: "Statistic", field: "statistic", as: "number" },
      { label: "p at this look alone", field: "p_value", as: "p" },
    ],
  },
  bayesian: {
    field: "posterior",
    estimate: "mean",
    title: "Bayesian",
    interval: (confidence) => `Credible ${confidence} interval`,
    promise: () => "Posterior; not protected against repeated looks.",
    warning: "Posterior; not protected against repeated looks.",
    numbers: [
      { label: "Chance to be better", field: "chance", as: "percent" },
      { label: "Loss if shipped", field: "loss_treatment", as: "difference" },
      { label: "Loss if not", field: "loss_control", as: "difference" },
    ],
  },
};

/** Return which estimate is read: the one that is adjusted by a covariate, where there is one. */
export const estimateOf = (metric) =>
  metric?.covariate_days && metric.role !== "guardrail" ? "cuped" : "absolute";

/** Return the interval of a method, or null while it has none; `of`: of which estimate. */
export function intervalOf(effect, method, of = "absolute") {
  const interval = effect?.[of]?.[METHODS[method].field];
  if (typeof interval?.low === "number" && typeof interval.high === "number") return interval;
  // A look may have no interval of its own; what was found at earlier ones stays.
  const isKept = [interval?.running_low, interval?.running_high].every(Number.isFinite);
  return isKept ? { ...interval, low: interval.running_low, high: interval.running_high } : null;
}

/** Return what the interval of a method is around: its own estimate, where it has one. */
export function pointOf(effect, method, of = "absolute") {
  const { field, estimate } = METHODS[method];
  return (estimate ? effect?.[of]?.[field]?.[estimate] : effect?.[of]?.estimate) ?? null;
}

/** Return the methods that a look has numbers of, the one that decides first. */
export function methodsOf(results, deciding) {
  const effects = results.metrics
    .filter(({ basis }) => basis === "matured")
    .flatMap((look) => look.effects);
  const isThere = (method) =>
    effects.some((one) => intervalOf(one, method) ?? intervalOf(one, method, "cuped"));
  return [deciding, ...Object.keys(METHODS).filter((one) => one !== deciding && isThere(one))];
}

/** Write a number of a method. */
export function written(value, as, difference) {
  if (value === null || value === undefined) return format.NONE;
  switch (as) {
    case "p":
      return format.pValue(value);
    case "percent":
      return format.percent(value, 1);
    case "integer":
      return format.integer(value);
    case "difference":
      return difference(value);
    case "text":
      return String(value).replaceAll("_", " ");
    default:
      return format.fixed(value, 3);
  }
}

/** "95 %", "99.9 %": no more digits than α has. */
export const confidenceOf = (alpha) => `${Number(((1 - alpha) * 100).toPrecision(6))} %`;
