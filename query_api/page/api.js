// The query API, as this page uses it.

export class ApiError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

async function get(path) {
  let response;
  try {
    response = await fetch(path, { headers: { Accept: "application/json" }, cache: "no-store" });
  } catch {
    throw new ApiError("The query API does not answer.");
  }
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    const reason = problem.detail ?? problem.title ?? response.statusText;
    throw new ApiError(`${response.status}: ${reason}`, response.status);
  }
  return response.json();
}

const pathOf = (id) => `/v1/experiments/${encodeURIComponent(id)}`;

/** Return the definitions, newest first. */
export async function listExperiments() {
  const answer = await get("/v1/experiments");
  const definitions = Array.isArray(answer) ? answer : (answer.experiments ?? []);
  const started = (definition) => definition.started_at ?? definition.created_at ?? "";
  return definitions.toSorted((one, other) => started(other).localeCompare(started(one)));
}

export const getExperiment = (id) => get(pathOf(id));

/** Return the current look, or null when there is none yet. */
export async function getResults(id) {
  try {
    const results = await get(`${pathOf(id)}/results`);
    return results?.look ? results : null;
  } catch (error) {
    if ([404, 409].includes(error.status)) return null;
    throw error;
  }
}

/** Return the results of each value of an attribute, as of the present look. */
export async function getSegments(id, attribute) {
  const { segments } = await get(`${pathOf(id)}/results?segment=${encodeURIComponent(attribute)}`);
  return segments;
}

/** Return a plan by an experiment's own numbers; `query`: metric, relative_effect, power, method. */
export const getPlan = (id, query) => get(`${pathOf(id)}/plan?${new URLSearchParams(query)}`);

/** Return the ledger; of the history what is new is compared. */
export const getLedger = () => get("/v1/ledger");

const POINTS_WANTED = 600;

/** Return past effects of a metric's variant as [{tick, at, estimate, low, high}], oldest first.
 * `method`: whose interval; the past has no other than that which decided.
 * `spanMs`: how long the experiment has run, so that a long past comes in steps. */
export async function getTimeseries(id, { metric, variant, method, spanMs }) {
  const query = new URLSearchParams({ metric, variant, basis: "matured" });
  const seconds = Math.ceil(spanMs / 1000 / POINTS_WANTED);
  if (seconds > 1) query.set("step", `${seconds}s`);
  const { rows } = await get(`${pathOf(id)}/timeseries?${query}`);
  const ofMethod = rows.filter((row) => row.interval === method);
  return ofMethod.map(({ ts, tick, effect, low, high }) => ({
    tick,
    at: ts / 1000,
    estimate: effect,
    low,
    high,
  }));
}

export function liveAddress(id) {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  return `${scheme}//${location.host}${pathOf(id)}/live`;
}
