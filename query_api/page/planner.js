// How many units an effect takes, by this experiment's own numbers: a plan, and its power curve.

import { getPlan } from "./api.js";
import { h, setText, svg } from "./dom.js";
import * as format from "./format.js";
import { METHODS } from "./methods.js";

const POWERS = [0.8, 0.9, 0.95];

export class Planner {
  #closed = false;
  #asked = 0;

  constructor({ id, definition }) {
    this.id = id;
    const metrics = definition.metrics.filter(({ window }) => window);
    this.metric = h(
      "select",
      {},
      metrics.map(({ id: name }) => h("option", { value: name }, name)),
    );
    this.effect = h("input", {
      type: "number",
      step: "any",
      placeholder: "smallest",
      "aria-label": "Effect to find, in percent of the control",
    });
    this.power = h(
      "select",
      {},
      POWERS.map((power) => h("option", { value: power }, format.percent(power, 0))),
    );
    for (const control of [this.metric, this.effect, this.power]) {
      control.addEventListener("change", () => this.#ask());
    }
    this.text = h("p", { class: "answer", role: "status" });
    this.plot = h("figure", { class: "power" });
    this.formula = h("p", { class: "muted formula" });
    this.element = h(
      "details",
      { class: "sheet planner", ontoggle: ({ target }) => target.open && this.#ask() },
      h("summary", {}, "How many units does it take?"),
      h(
        "p",
        { class: "choices" },
        h("label", {}, "Metric ", this.metric),
        h("label", {}, "Effect ", this.effect, " %"),
        h("label", {}, "Power ", this.power),
      ),
      this.text,
      this.plot,
      this.formula,
    );
  }

  close() {
    this.#closed = true;
  }

  async #ask() {
    const number = ++this.#asked;
    const effect = Number.parseFloat(this.effect.value);
    setText(this.text, "Working it out …");
    try {
      const plan = await getPlan(this.id, {
        metric: this.metric.value,
        power: this.power.value,
        ...(Number.isFinite(effect) ? { relative_effect: effect / 100 } : {}),
      });
      if (!this.#closed && number === this.#asked) this.#show(plan);
    } catch (error) {
      if (this.#closed || number !== this.#asked) return;
      setText(this.text, error.message);
      this.plot.replaceChildren();
      setText(this.formula, "");
    }
  }

  #show({ answer, units, question }) {
    setText(this.text, sentence(answer, units, question));
    this.plot.replaceChildren(answer.curve?.length ? curve(answer, units) : "");
    const { name, expression, source } = answer.formula;
    const notes = answer.notes.length ? ` ${answer.notes.join(". ")}.` : "";
    setText(this.formula, `By ${name}: ${expression} (${source}).${notes}`);
  }
}

function sentence(answer, units, question) {
  const method = METHODS[answer.method].title.toLowerCase();
  const effect = format.relative(answer.relative_effect);
  if (answer.status !== "ok") return "No number of units shows that.";
  const power = format.percent(answer.wanted_power, 0);
  if (answer.goal === "minimum_effect") {
    return `The ${format.integer(units)} units that count now show an effect of ${effect} with ` +
      `a power of ${power} (${method}); smaller ones less often.`;
  }
  const what = question.margin ? "being within the margin" : `an effect of ${effect}`;
  const average = answer.expected_units
    ? ` If it is there, one stops after ${format.integer(answer.expected_units)} on average.`
    : "";
  const days = answer.days
    ? ` That is about ${format.fixed(answer.days, answer.days < 10 ? 1 : 0)} days in all at ` +
      `${format.integer(question.units_per_day)} new units a day.`
    : "";
  return `${format.integer(answer.units)} matured units show ${what} with a power of ${power} ` +
    `(${method}). ${format.integer(units)} count now.${average}${days}`;
}

const WIDTH = 640;
const HEIGHT = 200;
const LEFT = 46;
const BOTTOM = 26;

/** Draw power against units, with the units that are there and those that are needed. */
function curve(answer, now) {
  const most = answer.curve.at(-1).units;
  const x = (units) => LEFT + ((WIDTH - LEFT - 8) * Math.min(units, most)) / most;
  const y = (power) => (HEIGHT - BOTTOM) * (1 - power) + 4;
  const line = answer.curve.map(({ units, power }) => `${x(units).toFixed(1)},${y(power).toFixed(1)}`);
  const upright = (units, name) =>
    svg("line", { class: name, x1: x(units), x2: x(units), y1: y(1), y2: y(0) });
  const text = (words, at, attributes) =>
    svg("text", { x: at[0], y: at[1], ...attributes }, words);
  const described =
    `Power against units: ${format.percent(answer.power, 0)} at ${format.integer(answer.units)}`;
  return svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": described },
    [0, 0.5, 0.8, 1].map((power) => [
      svg("line", { class: "grid", x1: LEFT, x2: WIDTH - 8, y1: y(power), y2: y(power) }),
      text(format.percent(power, 0), [LEFT - 6, y(power) + 4], { "text-anchor": "end" }),
    ]),
    upright(answer.units, "needed"),
    now <= most ? upright(now, "now") : null,
    svg("polyline", { class: "line", points: line.join(" ") }),
    text(`${format.integer(most)} units`, [WIDTH - 8, HEIGHT - 6], { "text-anchor": "end" }),
    text("0", [LEFT, HEIGHT - 6], {}),
  );
}
