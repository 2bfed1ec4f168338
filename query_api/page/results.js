// A results object as a flat map, and the elements that show its values.

import { h, setAttribute, setText } from "./dom.js";

/** Return path → value: "metrics/conversion/matured/effects/treatment/absolute/estimate".
 * Ids hold no slash, so paths are unambiguous. */
export function flatten(results) {
  const flat = new Map();
  walk(results, "", flat);
  return flat;
}

function walk(value, path, flat) {
  if (Array.isArray(value)) {
    value.forEach((item, index) => walk(item, `${path}/${keyOf(item, index)}`, flat));
  } else if (value !== null && typeof value === "object") {
    for (const [name, inner] of Object.entries(value)) {
      walk(inner, path ? `${path}/${name}` : name, flat);
    }
  } else {
    flat.set(path, value);
  }
}

function keyOf(item, index) {
  if (item?.basis !== undefined) return `${item.metric_id}/${item.basis}`;
  if (item?.code !== undefined) return index; // A reason of the verdict: several may name a variant.
  return item?.variant ?? item?.value ?? index;
}

/** Elements bound to paths. Made once; a look then only changes texts and attributes. */
export class Fields {
  #bound = [];

  /** Return an element that shows the value at `path`, raw in data-value, formatted as text. */
  bind(path, format, { tag = "span", ...attributes } = {}) {
    const element = h(tag, { "data-field": path, "data-value": "null", ...attributes });
    this.#bound.push({ path, element, format });
    return element;
  }

  show(flat) {
    for (const { path, element, format } of this.#bound) {
      const value = flat.get(path) ?? null;
      setAttribute(element, "data-value", String(value));
      setText(element, format(value, flat));
    }
  }
}

/** Return what the layout of a view depends on: it is rebuilt only when this changes. */
export function structureOf(results) {
  const names = (list) => list.map((item) => item.variant);
  return JSON.stringify([
    results.version,
    names(results.variants),
    results.metrics.map((metric) => [
      metric.metric_id,
      metric.basis,
      metric.role,
      names(metric.effects ?? []),
    ]),
  ]);
}

/** Return whether nothing can change any more. */
export const isFinal = (results) => (results.final ?? results.look?.final) === true;

/** Return half the width of {low, high}, or null when an end is missing. */
export function halfWidth(interval) {
  const isWhole = typeof interval?.low === "number" && typeof interval.high === "number";
  return isWhole ? (interval.high - interval.low) / 2 : null;
}
