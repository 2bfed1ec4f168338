// Where every event went: doors, log, engine, looks, history, and what is between two of them.

import { getLedger } from "./api.js";
import { announce, h, setAttribute, setText } from "./dom.js";
import * as format from "./format.js";
import { Fields, flatten } from "./results.js";
import { showError } from "./states.js";

const PERIOD_MS = 2_000;

const VERDICTS = {
  balanced: ["Everything counted", "Every row has exactly one fate, and every stage has every row."],
  catching_up: ["Catching up", "Nothing differs. Something has yet to be read; see below."],
  unbalanced: ["Does not balance", "Something was lost or counted twice; see below."],
};

const FATES = ["fresh", "duplicate", "conflict", "stale", "refused"];
const FATE_WORDS = {
  fresh: "first of its id",
  duplicate: "the same event sent again: counted once",
  conflict: "a known id that says something else: the first stays",
  stale: "so old that its id may be forgotten: kept, not counted",
  refused: "names no experiment or variant there is",
};
const ATTRIBUTION = ["counted", "outside_window", "excluded", "no_assignment"];
const ATTRIBUTION_WORDS = {
  counted: "within a window of a metric",
  outside_window: "after the window, or after the stop",
  excluded: "of a unit that was given two variants",
  no_assignment: "the unit was not exposed before the event",
};

const DOORS = ["received", "late", "rejected"];
const FLIGHT_WORDS = {
  engine: ["row on its way to the engine", "rows on their way to the engine"],
  clickhouse: ["row on its way to ClickHouse", "rows on their way to ClickHouse"],
  imports: ["row of a batch under way", "rows of batches under way"],
};

const IMPORTS = [
  ["batches", "batches", "that every partition has, as their sender was told"],
  ["rows", "rows", "of these batches"],
  ["log_rows", "rows in the log", "of these batches; what was sent again counts once"],
  ["rows_in_flight", "in flight", "of the batch that is agreed on and not in every partition yet"],
  ["parts_missing", "parts missing", "a batch has a part for every partition, also an empty one"],
  ["difference", "difference", "rows in the log less rows that are done"],
  ["engine_rows", "engine", "rows that the engine has taken, of the batch under way too"],
  ["engine_difference", "engine's difference", "rows taken less those below the engine's offsets"],
];

const plainName = (name) => name.replaceAll("_", " ");

export class LedgerView {
  #closed = false;
  #loading = false;
  #fields = null;
  #structure = "";
  #verdict = "";

  constructor(host) {
    document.title = "Ledger · Litmus";
    this.verdict = h("span", { class: "ledger-verdict" });
    this.why = h("p", { class: "muted" });
    this.age = h("span", { class: "muted" });
    this.notice = h("div", { class: "notice", role: "alert", hidden: true });
    this.body = h("div", {}, h("p", { class: "state" }, "Loading …"));
    host.replaceChildren(
      h(
        "header",
        { class: "page-head" },
        h("div", { class: "title-line" }, h("h1", {}, "Ledger"), this.verdict, this.age),
        this.why,
      ),
      this.notice,
      this.body,
    );
    this.timer = setInterval(() => document.hidden || this.#load(), PERIOD_MS);
    this.#load();
  }

  close() {
    this.#closed = true;
    clearInterval(this.timer);
  }

  async #load() {
    if (this.#loading) return;
    this.#loading = true;
    try {
      const ledger = await getLedger();
      if (!this.#closed) this.#show(ledger);
    } catch (error) {
      if (!this.#closed) this.#fail(error);
    } finally {
      this.#loading = false;
    }
  }

  #fail(error) {
    const again = () => this.#load();
    if (!this.#fields) {
      showError(this.body, { title: "The ledger cannot be read", detail: error.message, again });
      return;
    }
    this.body.classList.add("stale");
    this.notice.hidden = false;
    this.notice.replaceChildren(
      `${error.message} What is below is old. Trying again. `,
      h("button", { type: "button", onclick: again }, "Try now"),
    );
  }

  #show(ledger) {
    this.notice.hidden = true;
    this.body.classList.remove("stale");
    const [headline, why] = VERDICTS[ledger.status];
    setAttribute(this.verdict, "data-status", ledger.status);
    setText(this.verdict, headline);
    setText(this.why, why);
    setText(this.age, ageOf(ledger));
    if (this.#verdict && this.#verdict !== ledger.status) announce(headline);
    this.#verdict = ledger.status;
    const structure = structureOf(ledger);
    if (structure !== this.#structure) {
      this.#structure = structure;
      this.#build(ledger);
    }
    this.#fields.show(flatten(ledger));
    this.#showStages(ledger);
  }

  #build(ledger) {
    this.#fields = new Fields();
    this.links = new Map();
    this.body.replaceChildren(
      reasonsOf(ledger.reasons),
      this.#chain(),
      this.#experiments(ledger),
      this.#imports(ledger),
      this.#partitions(ledger),
      help(),
    );
  }

  #count(path) {
    return this.#fields.bind(path, format.integer, { class: "count" });
  }

  #facts(pairs) {
    return h(
      "dl",
      { class: "fates" },
      pairs.map(([label, value, title]) => [h("dt", { title }, label), h("dd", {}, value)]),
    );
  }

  #chain() {
    const doors = DOORS.map((name) => [
      { received: "to the log", late: "late", rejected: "refused" }[name],
      this.#count(`doors/${name}`),
    ]);
    const fates = FATES.map((name) => [name, this.#count(`rows/${name}`), FATE_WORDS[name]]);
    const seconds = (ms) => (ms === null ? format.NONE : `${format.fixed(ms / 1000, 1)} s`);
    const looks = [
      ["age of the account", this.#fields.bind("looks/age_ms", seconds)],
      ["settled behind by", this.#fields.bind("looks/settled_lag_ms", seconds)],
      ["conflicting", this.#count("looks/conflicting")],
    ];
    const stored = ["missing", "extra"].map((name) => [name, this.#count(`clickhouse/${name}`)]);
    return h(
      "ol",
      { class: "chain", "aria-label": "The way of every event" },
      this.#stage(0, "doors", "Doors", "events came in", doors),
      this.#stage(1, "log", "Log", "rows in litmus.events", []),
      this.#stage(2, "engine", "Engine", "rows accounted for", fates),
      this.#stage(3, "looks", "Looks", "looks published", looks),
      this.#stage(4, "clickhouse", "ClickHouse", "rows stored", stored),
    );
  }

  #stage(index, id, name, what, facts) {
    const link = h("p", { class: "link" });
    const element = h(
      "li",
      { class: "stage", "data-stage": id },
      h("h2", {}, name),
      h("p", { class: "total" }, this.#count(`stages/${index}/count`)),
      h("p", { class: "muted" }, what),
      this.#facts(facts),
      link,
    );
    this.links.set(id, { element, link });
    return element;
  }

  #showStages(ledger) {
    for (const stage of ledger.stages) {
      const { element, link } = this.links.get(stage.stage);
      setAttribute(element, "data-status", stage.status);
      setAttribute(element, "data-difference", stage.difference);
      setText(link, linkWords(stage));
    }
  }

  #experiments(ledger) {
    const names = Object.keys(ledger.experiments);
    const row = (name) => [
      h("th", { scope: "row" }, h("a", { href: `#/experiments/${encodeURIComponent(name)}` }, name)),
      ...ATTRIBUTION.map((what) => h("td", {}, this.#count(`experiments/${name}/${what}`))),
    ];
    const heads = [["experiment", ""], ...ATTRIBUTION.map((n) => [plainName(n), ATTRIBUTION_WORDS[n]])];
    return section(
      "Metric events by experiment",
      names.length
        ? table(heads, names.map(row))
        : h("p", { class: "muted" }, "No experiment has had a tick yet."),
    );
  }

  /** Imported rows fill day totals and are no events: they are beside the chain. */
  #imports(ledger) {
    const link = h("p", { class: "link muted" });
    const rows = ledger.imports.map(({ import_id: name, balanced }, index) => {
      const at = ([path]) => h("td", {}, this.#count(`imports/${index}/${path}`));
      const cells = [h("th", { scope: "row" }, name), ...IMPORTS.map(at)];
      return Object.assign(cells, { tone: balanced ? "" : "off" });
    });
    const heads = [["import", ""], ...IMPORTS.map(([, label, title]) => [label, title])];
    const shown = rows.length
      ? table(heads, rows)
      : h("p", { class: "muted" }, "Nothing was imported.");
    const total = h(
      "p",
      { class: "muted" },
      this.#count("stages/5/count"),
      " rows of batches whose senders were told that they are done",
    );
    const element = section("Imported rows", rows.length ? total : "", shown, link);
    setAttribute(element, "data-stage", "imports");
    this.links.set("imports", { element, link });
    return element;
  }

  #partitions(ledger) {
    const columns = [
      ["log_rows", "rows in the log", "below the engine's offset"],
      ["received", "received", "by the engine"],
      ...FATES.map((fate) => [fate, fate, FATE_WORDS[fate]]),
      ["rows_in_flight", "in flight", "rows above the engine's offset"],
      ["history_rows_behind", "history behind", "rows that the engine has and ClickHouse not yet"],
      ["difference", "difference", "received less what the log holds"],
    ];
    const heads = [["partition", ""], ["offset", ""], ...columns.map(([, l, title]) => [l, title])];
    const rows = ledger.partitions.map(({ partition, balanced }, index) => {
      const at = (name) => h("td", {}, this.#count(`partitions/${index}/${name}`));
      const cells = [h("th", { scope: "row" }, String(partition)), at("offset")];
      const element = [...cells, ...columns.map(([name]) => at(name))];
      return Object.assign(element, { tone: balanced ? "" : "off" });
    });
    return section("Partitions of litmus.events", table(heads, rows));
  }
}

function linkWords(stage) {
  const parts = [];
  if (stage.difference) parts.push(`difference ${format.integer(stage.difference)}`);
  else if (stage.stage !== "doors") parts.push("difference 0");
  if (stage.in_flight && FLIGHT_WORDS[stage.stage]) {
    const [one, many] = FLIGHT_WORDS[stage.stage];
    parts.push(`${format.integer(stage.in_flight)} ${stage.in_flight === 1 ? one : many}`);
  }
  return parts.join(" · ");
}

function ageOf(ledger) {
  if (!ledger.as_of) return "no account yet";
  return `tick ${format.integer(ledger.tick)}, as of ${format.moment(ledger.as_of)}`;
}

/** What the layout depends on: it is rebuilt only when this changes. */
function structureOf({ experiments, imports, partitions, reasons }) {
  return JSON.stringify([
    Object.keys(experiments),
    imports.map(({ import_id: name, balanced }) => [name, balanced]),
    partitions.map(({ partition, balanced }) => [partition, balanced]),
    reasons,
  ]);
}

function reasonsOf(reasons) {
  return h(
    "ul",
    { class: "reasons" },
    reasons.map(({ code, message, advice, is_lag: isLag }) =>
      h(
        "li",
        { class: isLag ? "notice" : "alarm", "data-code": code, role: isLag ? null : "alert" },
        h("strong", {}, message),
        h("p", {}, `${advice}.`),
      ),
    ),
  );
}

function section(title, ...children) {
  return h("section", { class: "sheet" }, h("h2", {}, title), ...children);
}

function table(heads, rows) {
  return h(
    "div",
    { class: "scroll", tabindex: 0 },
    h(
      "table",
      {},
      h("thead", {}, h("tr", {}, heads.map(([label, title]) => h("th", { scope: "col", title }, label)))),
      h("tbody", {}, rows.map((cells) => h("tr", { class: cells.tone || null }, cells))),
    ),
  );
}

function help() {
  return h(
    "details",
    { class: "sheet" },
    h("summary", {}, "What these numbers promise"),
    h(
      "p",
      {},
      "Doors: events received, too late, or refused, counted from what they wrote to Kafka. " +
        "Engine: each row of the log has one fate: received = fresh + duplicate + conflict + " +
        "stale + refused. ClickHouse: each row of the log is stored once. Imports: the rows of " +
        "every batch whose sender was told that it is done are in the log, in every partition.",
    ),
    h(
      "p",
      {},
      "Two counts are compared below an offset that both have passed. What is above it is in " +
        "flight: lag, no difference. A difference never heals by itself: it is shown in red with " +
        "what to do. To follow one event: ",
      h("code", {}, "litmus trace UNIT EVENT"),
      ". To recompute all sums: ",
      h("code", {}, "litmus audit"),
      ".",
    ),
  );
}
