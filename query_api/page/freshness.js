// How old the shown look is: counted by this machine's own clock from the age that the API
// gave with it, so that two clocks that differ do no harm.

import { h, setAttribute, setText } from "./dom.js";
import { age, duration } from "./format.js";
import { isFinal } from "./results.js";

const AMBER_MS = 3_000;
const RED_MS = 15_000;
const PERIOD_MS = 200;
const SETTLED_LAG_MS = 10_000; // From here on it is said that windows close late.

export class Freshness {
  #look = null;
  #running = true;
  #final = false;
  #seenAt = 0;
  #connected = false;

  constructor() {
    this.text = h("span", {}, "waiting for the first look");
    this.note = h("span", { class: "note" });
    this.element = h(
      "p",
      { class: "freshness", "data-state": "waiting" },
      h("span", { class: "dot", "aria-hidden": "true" }),
      this.text,
      this.note,
    );
    this.timer = setInterval(() => this.#paint(), PERIOD_MS);
  }

  close() {
    clearInterval(this.timer);
  }

  show(results) {
    this.#look = results.look;
    this.#final = isFinal(results);
    this.#running = results.status === "running";
    this.#seenAt = performance.now();
    this.#paint();
  }

  connection(state) {
    this.#connected = state === "open";
    this.#paint();
  }

  #paint() {
    const { state, text, note } = this.#reading();
    setAttribute(this.element, "data-state", state);
    setText(this.text, text);
    setText(this.note, note);
  }

  #reading() {
    const lost = this.#connected ? "" : "connection lost, trying again";
    if (!this.#look) {
      return {
        state: this.#connected ? "waiting" : "amber",
        text: "waiting for the first look",
        note: lost,
      };
    }
    const old = (this.#look.age_ms ?? 0) + performance.now() - this.#seenAt;
    if (this.#final) return { state: "final", text: "final look", note: "" };
    const behind = this.#look.behind?.length ?? 0;
    const state = this.#stateAt(old, behind);
    const quiet = state === "fresh" ? "" : "no tick has been merged since";
    const lag = this.#look.settled_lag_ms ?? 0;
    const late = lag > SETTLED_LAG_MS ? `windows close ${duration(lag)} late: a Kafka door is behind` : "";
    const waiting = behind ? `${behind} partition${behind > 1 ? "s" : ""} behind` : late || quiet;
    return { state, text: age(old), note: lost || (this.#running ? waiting : "") };
  }

  #stateAt(old, behind) {
    if (!this.#connected) return old > RED_MS ? "red" : "amber";
    if (!this.#running) return "still";
    if (old > RED_MS) return "red";
    const late = (this.#look.settled_lag_ms ?? 0) > SETTLED_LAG_MS;
    return old > AMBER_MS || behind || late ? "amber" : "fresh";
  }
}
