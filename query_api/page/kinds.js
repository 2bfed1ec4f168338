// What the kinds of metrics are: what a unit counts for, which columns a table has.

import * as format from "./format.js";

/** Say what is measured. */
export function kindWords(metric) {
  const event = metric.event ?? metric.id;
  return (
    {
      conversion: `share of units with at least one ${event}`,
      count: `number of ${event} events per unit`,
      sum: `total of ${event} per unit`,
      mean: `mean value of one ${event} event`,
      ratio: `total of ${metric.numerator} over total of ${metric.denominator}`,
      quantile: `${quantileName(metric)} of ${quantileOf[metric.of]} ${event}`,
    }[metric.kind] ?? metric.kind
  );
}

const quantileOf = { units: "units' totals of", events: "the values of" };

/** "90 % quantile", "99.9 % quantile": no more digits than it has. */
const quantileName = ({ quantile }) =>
  `${Number((quantile * 100).toPrecision(6))}\u00a0% quantile`;

const UNITS = ["units", "Units"];
const STD_ERROR = ["std_error", "Std error"];

/** Return [field, title] of the columns that a table of the variants has. */
export function columnsOf(metric) {
  switch (metric.kind) {
    case "conversion":
      return [UNITS, ["total", "Converted"], ["mean", "Rate"], STD_ERROR];
    case "ratio":
      return [
        UNITS,
        ["total", metric.numerator ?? "Numerator"],
        ["denominator", metric.denominator ?? "Denominator"],
        ["mean", "Ratio"],
        STD_ERROR,
      ];
    case "mean":
      return [UNITS, ["total", "Total"], ["denominator", "Events"], ["mean", "Mean"], STD_ERROR];
    case "quantile":
      return [UNITS, ["mean", quantileName(metric)], STD_ERROR];
    default:
      return [UNITS, ["total", "Total"], ["mean", "Mean"], STD_ERROR];
  }
}

/** Say what a total is cut off at, or null. */
export function capWords(metric) {
  if (metric.cap === null || metric.cap === undefined) return null;
  if (typeof metric.cap === "number") return `unit totals capped at ${format.plain(metric.cap)}`;
  const share = format.percent(metric.cap.quantile, 2);
  return `unit totals capped just above the ${share} quantile of all variants together`;
}
