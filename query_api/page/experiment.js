// One experiment, live.

import { getExperiment, getResults, getTimeseries } from "./api.js";
import { MetricCard } from "./card.js";
import { announce, h, setAttribute, setText, time, utcTitle } from "./dom.js";
import * as format from "./format.js";
import { Freshness } from "./freshness.js";
import { hypothesisOf } from "./hypothesis.js";
import { LiveLooks } from "./live.js";
import { METHODS, methodsOf } from "./methods.js";
import { Planner } from "./planner.js";
import { Fields, flatten, isFinal, structureOf } from "./results.js";
import { Segments } from "./segments.js";
import { SplitAlarm, isUnreadable } from "./split.js";
import { showError } from "./states.js";
import { Verdict } from "./verdict.js";

const POLL_MS = 3_000;
const SILENT_MS = 15_000;
const ROLES = ["decision", "guardrail", "secondary"];

export class ExperimentView {
  #cards = [];
  #fields = new Fields();
  #structure = null;
  #definition = null;
  #results = null;
  #connected = false;
  #polling = false;
  #heardAt = performance.now();
  #closed = false;
  #method = null;
  #segments = null;
  #planner = null;

  constructor(host, id) {
    this.id = id;
    this.host = host;
    this.freshness = new Freshness();
    this.verdict = new Verdict();
    this.header = h("header", { class: "page-head" });
    this.split = new SplitAlarm();
    this.body = h("div", { class: "body" }, h("p", { class: "state" }, "Loading …"));
    this.element = h("div", { class: "experiment" }, this.header, this.split.box, this.body);
    host.replaceChildren(this.element);
    this.#start();
  }

  close() {
    this.#closed = true;
    clearInterval(this.timer);
    clearTimeout(this.retry);
    this.live?.close();
    this.freshness.close();
    this.#segments?.close();
    this.#planner?.close();
    this.#cards.forEach((card) => card.close());
  }

  async #start() {
    clearTimeout(this.retry);
    try {
      this.#setDefinition(await getExperiment(this.id));
    } catch (error) {
      if (!this.#closed) this.#fail(error);
      return;
    }
    if (this.#closed) return;
    this.#showWaiting();
    this.live = new LiveLooks(this.id, {
      onLook: (results, isFirst) => {
        this.#heardAt = performance.now();
        this.#onLook(results, isFirst);
      },
      onState: (state) => this.#onState(state),
    });
    this.timer = setInterval(() => this.#poll(), POLL_MS);
  }

  /** Say so and try again: an experiment made a moment ago may not have arrived yet. */
  #fail(error) {
    this.retry = setTimeout(() => this.#start(), POLL_MS);
    const missing = error.status === 404;
    const again = () => this.#start();
    const title = missing ? `There is no experiment “${this.id}”` : "The results cannot be read";
    showError(this.body, { title, detail: error.message, again });
  }

  /** Read the definition, and the look over HTTP while the socket is down or silent: a socket
   * may be dead without saying so. */
  async #poll() {
    if (document.hidden || this.#polling) return;
    this.#polling = true;
    try {
      this.#setDefinition(await getExperiment(this.id));
      const silent = performance.now() - this.#heardAt > SILENT_MS;
      if (this.#connected && !silent) return;
      const results = await getResults(this.id);
      if (!results || this.#closed) return;
      if (this.#connected && results.look.tick > this.#results?.look.tick) this.live.renew();
      this.#onLook(results, false);
    } catch {
      // The freshness badge says it: the socket is down too, and both try again.
    } finally {
      this.#polling = false;
    }
  }

  #setDefinition(definition) {
    if (this.#closed) return;
    const known = this.#definition;
    this.#definition = definition;
    if (known?.version === definition.version && known?.status === definition.status) return;
    this.#structure = null;
    this.#showHeader(definition);
    if (known) announce(`${definition.name || definition.id} is ${definition.status}`);
    if (this.#results) this.#show(this.#results);
    else if (known) this.#showWaiting();
  }

  #onState(state) {
    const wasConnected = this.#connected;
    this.#connected = state === "open";
    this.freshness.connection(state);
    if (wasConnected && !this.#connected) announce("Live connection lost. Trying again.");
    if (!wasConnected && this.#connected) announce("Live connection is open.");
  }

  #onLook(results, isFirst) {
    const known = this.#definition;
    if (results.version !== known.version || results.status !== known.status) this.#poll();
    if (!results.look) return;
    const shown = this.#results?.look;
    if (!isFirst && shown && results.look.tick < shown.tick) return;
    if (!isFirst && shown?.tick === results.look.tick) this.freshness.show(results);
    else this.#show(results);
  }

  #show(results) {
    this.freshness.show(results);
    this.#results = results;
    const structure = `${structureOf(results)} ${methodsOf(results, this.#deciding)}`;
    if (structure !== this.#structure) {
      this.#structure = structure;
      this.#build(results);
    }
    const flat = flatten(results);
    this.#fields.show(flat);
    this.#cards.forEach((card) => card.show(results, flat));
    this.#segments?.show(results);
    if (this.verdict.show(results.verdict)) announce(results.verdict.text);
    this.#showShares(results);
    this.split.show(results);
    setAttribute(this.element, "data-mismatch", isUnreadable(results) ? "true" : null);
    setText(this.asOf, format.moment(results.look.as_of));
    setAttribute(this.asOf, "datetime", results.look.as_of);
    setAttribute(this.asOf, "title", utcTitle(results.look.as_of));
    this.finalNote.hidden = !isFinal(results);
    setAttribute(this.element, "data-tick", results.look.tick);
    setAttribute(this.element, "data-final", isFinal(results) ? "true" : null);
  }

  #showHeader(definition) {
    const { hypothesis } = definition;
    const started = definition.started_at
      ? ["started ", time(definition.started_at, format.moment)]
      : ["created ", time(definition.created_at, format.moment)];
    const stopped = definition.stopped_at
      ? [", stopped ", time(definition.stopped_at, format.moment)]
      : [];
    document.title = `${definition.name || definition.id} · Litmus`;
    this.header.replaceChildren(
      h("p", { class: "crumb" }, h("a", { href: "#/" }, "All experiments")),
      h(
        "div",
        { class: "title-line" },
        h("h1", {}, definition.name || definition.id),
        h("span", { class: `status ${definition.status}` }, definition.status),
        this.freshness.element,
      ),
      h(
        "p",
        { class: "muted facts" },
        h("code", {}, definition.id),
        ` · version ${definition.version} · `,
        ...started,
        ...stopped,
      ),
      hypothesis ? hypothesisOf(hypothesis) : "",
    );
  }

  #showWaiting() {
    const draft = this.#definition.status === "draft";
    this.body.replaceChildren(
      h(
        "section",
        { class: "state" },
        h("h2", {}, draft ? "Not started yet" : "No look yet"),
        h(
          "p",
          {},
          draft
            ? "Results appear here by themselves once the experiment runs. Start it with:"
            : "The first look appears here by itself, a moment after the first events.",
        ),
        draft
          ? h(
              "pre",
              {},
              "curl -X POST http://127.0.0.1:8000/v1/experiments/" +
                `${encodeURIComponent(this.id)}/start`,
            )
          : null,
      ),
    );
  }

  get #deciding() {
    return this.#definition.analysis?.method ?? "always_valid";
  }

  /** Show the numbers of another method: of one at a time, never of two. */
  #choose(method) {
    this.#method = method;
    this.#structure = null;
    this.#show(this.#results);
  }

  #build(results) {
    this.#cards.forEach((card) => card.close());
    this.#segments?.close();
    this.#fields = new Fields();
    const methods = methodsOf(results, this.#deciding);
    if (!methods.includes(this.#method)) this.#method = this.#deciding;
    this.#cards = this.#metricsOf(results).map((one) => this.#card(one, results));
    this.asOf = h("time");
    this.finalNote = h(
      "p",
      { class: "final-note" },
      "This is the final look: the experiment is over and its numbers will not change again.",
    );
    this.#segments = this.#segmentsOf();
    this.body.replaceChildren(
      this.finalNote,
      this.verdict.element,
      this.#unitsSection(results),
      this.#methodSection(methods),
      ...this.#cards.map((card) => card.element),
      this.#segments?.element ?? "",
      this.#planned().element,
      h(
        "footer",
        { class: "muted foot" },
        "Look of tick ",
        this.#fields.bind("look/tick", format.integer),
        " at ",
        this.asOf,
        ". Every number here is the query API's, unchanged: ",
        h("a", { href: `/v1/experiments/${encodeURIComponent(this.id)}/results` }, "as JSON"),
        ".",
      ),
    );
  }

  /** Which method's numbers are shown, what they promise, and the choice of another one. */
  #methodSection(methods) {
    const alpha = this.#definition.analysis?.alpha ?? 0.05;
    const option = (method) => {
      const decides = method === this.#deciding ? " (decides)" : " (for comparison)";
      const attributes = { value: method, selected: method === this.#method };
      return h("option", attributes, `${METHODS[method].title}${decides}`);
    };
    const choose = ({ target }) => this.#choose(target.value);
    return h(
      "section",
      { class: "method-line", "aria-label": "Method" },
      h("label", {}, "Read by ", h("select", { onchange: choose }, methods.map(option))),
      h("p", { class: "muted" }, METHODS[this.#method].promise(alpha)),
    );
  }

  /** The planner stays as it is when the rest is built anew. */
  #planned() {
    this.#planner ??= new Planner({ id: this.id, definition: this.#definition });
    return this.#planner;
  }

  #segmentsOf() {
    const { segments } = this.#definition;
    if (!Object.keys(segments ?? {}).length) return null;
    return new Segments({ id: this.id, definition: this.#definition, method: this.#method });
  }

  /** The metrics of the look in the order of their roles, each with its bases. */
  #metricsOf(results) {
    const ids = [...new Set(results.metrics.map((look) => look.metric_id))];
    const ofMetric = ids.map((id) => results.metrics.filter((look) => look.metric_id === id));
    const rank = (looks) => ROLES.indexOf(looks[0].role ?? "secondary");
    return ofMetric.toSorted((one, other) => rank(one) - rank(other));
  }

  #card(looks) {
    const { metric_id: id, kind, role, window } = looks[0];
    const defined = this.#definition.metrics.find((metric) => metric.id === id);
    return new MetricCard({
      metric: { id, kind, role, window, ...defined },
      looks,
      alpha: this.#definition.analysis?.alpha ?? 0.05,
      method: this.#method,
      deciding: this.#method === this.#deciding,
      getHistory: (metric, variant, method) => this.#past(metric, variant, method),
      onVerdict: announce,
    });
  }

  /** The past of an effect; without it the chart begins now. */
  async #past(metric, variant, method) {
    const { started_at: from } = this.#definition;
    const spanMs = Date.parse(this.#results.look.as_of) - Date.parse(from);
    return getTimeseries(this.id, { metric, variant, method, spanMs }).catch(() => []);
  }

  #unitsSection(results) {
    const bind = (path, as, attributes) => this.#fields.bind(path, as, attributes);
    this.shares = results.variants.map(({ variant }) => this.#share(variant));
    return h(
      "section",
      { class: "card units", "aria-label": "Units" },
      h("header", {}, h("h2", {}, "Units"), this.split.chip),
      h("div", { class: "shares" }, this.shares.map((share) => share.element)),
      h(
        "dl",
        { class: "numbers" },
        h("dt", {}, "Sample ratio, p at any look"),
        h("dd", {}, bind("sample_ratio/sequential_p_value", format.pValue)),
        h("dt", {}, "Crossovers, left out"),
        h("dd", {}, bind("crossovers", format.integer)),
        h("dt", { class: "faint" }, "Chi-square, one planned look"),
        h(
          "dd",
          { class: "faint" },
          bind("sample_ratio/chi_square", (value) => format.fixed(value, 2)),
          " on ",
          bind("sample_ratio/degrees_of_freedom", format.integer),
          ", p ",
          bind("sample_ratio/p_value", format.pValue),
        ),
      ),
    );
  }

  #share(variant) {
    const defined = this.#definition.variants.find((one) => one.id === variant);
    const bar = h("progress", { max: 1, value: 0, "aria-label": `Share of ${variant}` });
    const share = h("span");
    const planned = defined ? ` (planned ${format.percent(defined.weight, 1)})` : "";
    const isNamedOtherwise = defined?.is_control && variant !== "control";
    const element = h(
      "div",
      { class: "share" },
      h("strong", {}, variant, isNamedOtherwise ? h("em", {}, "control") : null),
      this.#fields.bind(`variants/${variant}/units`, format.integer, { class: "count" }),
      bar,
      h("span", { class: "muted" }, share, planned),
    );
    return { variant, bar, share, element };
  }

  #showShares({ variants }) {
    const all = variants.reduce((total, { units }) => total + units, 0);
    for (const { variant, bar, share } of this.shares) {
      const units = variants.find((one) => one.variant === variant)?.units ?? 0;
      setAttribute(bar, "value", all ? units / all : 0);
      setText(share, all ? format.percent(units / all, 1) : format.NONE);
    }
  }
}
