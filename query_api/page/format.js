// Numbers and times for people. The exact values stand in data-value beside them.

const MINUS = "−";
const NONE = "–";

const formats = new Map();

function decimal(digits, significant) {
  const key = `${digits}:${significant}`;
  if (!formats.has(key)) {
    const options = significant
      ? { maximumSignificantDigits: digits }
      : { minimumFractionDigits: digits, maximumFractionDigits: digits };
    formats.set(key, new Intl.NumberFormat(undefined, options));
  }
  return formats.get(key);
}

function withSign(text, value, signed) {
  const bare = text.replace("-", MINUS);
  return signed && value > 0 ? `+${bare}` : bare;
}

export const integer = (value) =>
  value === null || value === undefined ? NONE : decimal(0, false).format(value);

/** A magnitude on its own: four significant digits, or all of them for a large whole number. */
export function plain(value) {
  if (value === null || value === undefined) return NONE;
  if (Number.isInteger(value) || Math.abs(value) >= 10_000) return withSign(integer(value), value);
  return withSign(decimal(4, true).format(value), value);
}

export function percent(value, digits = null) {
  if (value === null || value === undefined) return NONE;
  const text = digits === null ? plain(value * 100) : decimal(digits, false).format(value * 100);
  return `${text} %`;
}

export function pValue(value) {
  if (value === null || value === undefined) return NONE;
  return value > 0 && value < 0.0001 ? "< 0.0001" : decimal(4, false).format(value);
}

/** Decimals that show a quantity of this size with two significant digits, or three. */
function decimalsFor(size) {
  if (!(size > 0)) return 2;
  return Math.min(8, Math.max(0, 1 - Math.floor(Math.log10(size))));
}

/** A difference of means: percentage points for conversions, the metric's own unit otherwise.
 * `halfWidth` of its interval decides how many digits mean something. */
export function difference(value, kind, halfWidth) {
  if (value === null || value === undefined) return NONE;
  const scale = kind === "conversion" ? 100 : 1;
  const digits = decimalsFor(halfWidth === null ? Math.abs(value) * scale : halfWidth * scale);
  const rounded = decimal(digits, false).format(value * scale);
  return withSign(rounded, value, true) + (kind === "conversion" ? " pp" : "");
}

/** A difference of means divided by the control's mean. */
export function relative(value) {
  if (value === null || value === undefined) return NONE;
  return `${withSign(decimal(1, false).format(value * 100), value, true)} %`;
}

export const mean = (value, kind) => (kind === "conversion" ? percent(value) : plain(value));

const clock = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

export const moment = (iso) => clock.format(new Date(iso));

const span = (value, unit) =>
  new Intl.NumberFormat(undefined, { style: "unit", unit, unitDisplay: "long" }).format(value);

/** "0.2 s ago", "3 min ago", "2 days ago". */
export function age(milliseconds) {
  const seconds = Math.max(0, milliseconds) / 1000;
  if (seconds < 10) return `${decimal(1, false).format(seconds)} s ago`;
  if (seconds < 120) return `${Math.floor(seconds)} s ago`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h ago`;
  return `${span(Math.floor(seconds / 86_400), "day")} ago`;
}

export { NONE };
