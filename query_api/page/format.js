// Numbers and times for people. The exact values stand in data-value beside them.

const MINUS = "−";
const NONE = "–";
const GAP = "\u00a0"; // A number and its unit stay on one line.

const formats = new Map();

/** Write a number with so many decimals; `sign`: as Intl's signDisplay. Zero has no sign. */
function written(value, digits, sign = "negative") {
  const key = `${digits}:${sign}`;
  if (!formats.has(key)) {
    const decimals = { minimumFractionDigits: digits, maximumFractionDigits: digits };
    formats.set(key, new Intl.NumberFormat(undefined, { ...decimals, signDisplay: sign }));
  }
  return formats.get(key).format(value).replace("-", MINUS);
}

const isMissing = (value) => value === null || value === undefined;

export const fixed = (value, digits) => (isMissing(value) ? NONE : written(value, digits));

export const integer = (value) => fixed(value, 0);

/** A total: whole when it is whole, else with four significant digits or two decimals. */
export function plain(value) {
  if (isMissing(value)) return NONE;
  if (Number.isInteger(value)) return integer(value);
  return written(value, Math.abs(value) >= 100 ? 2 : decimalsFor(Math.abs(value) / 100));
}

export const percent = (value, digits) =>
  isMissing(value) ? NONE : `${written(value * 100, digits)}${GAP}%`;

export function pValue(value) {
  if (isMissing(value)) return NONE;
  return value < 0.0001 ? `< ${written(0.0001, 4)}` : written(value, 4);
}

/** Decimals that show a quantity of this size with two significant digits. */
function decimalsFor(size) {
  if (!(size > 0)) return 1;
  return Math.min(8, Math.max(0, 1 - Math.floor(Math.log10(size))));
}

/** A difference of means: percentage points for conversions, the metric's own unit otherwise.
 * `halfWidth` of its interval decides how many digits mean something. */
export function difference(value, kind, halfWidth) {
  if (isMissing(value)) return NONE;
  const scale = kind === "conversion" ? 100 : 1;
  const digits = decimalsFor((halfWidth ?? Math.abs(value)) * scale);
  const text = written(value * scale, digits, "exceptZero");
  return kind === "conversion" ? `${text}${GAP}pp` : text;
}

/** A difference of means divided by the control's mean. */
export const relative = (value) =>
  isMissing(value) ? NONE : `${written(value * 100, 1, "exceptZero")}${GAP}%`;

/** A mean or its standard error: as many digits as the standard error gives meaning to. */
export function mean(value, kind, standardError) {
  if (isMissing(value)) return NONE;
  const scale = kind === "conversion" ? 100 : 1;
  const text = written(value * scale, decimalsFor((standardError || Math.abs(value)) * scale));
  return kind === "conversion" ? `${text}${GAP}%` : text;
}

const clock = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

export const moment = (iso) => clock.format(new Date(iso));

/** "0.2 s ago", "3 min ago", "2 days ago". */
export function age(milliseconds) {
  const seconds = Math.max(0, milliseconds) / 1000;
  if (seconds < 10) return `${written(seconds, 1)} s ago`;
  if (seconds < 120) return `${Math.floor(seconds)} s ago`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86_400)} days ago`;
}

/** "12 s", "3 min", "2 h". */
export const duration = (milliseconds) => age(milliseconds).replace(" ago", "");

export { NONE };
