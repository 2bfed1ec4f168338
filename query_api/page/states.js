// What is shown when there is nothing to show.

import { h } from "./dom.js";

const EXAMPLE = `curl -X POST http://127.0.0.1:8000/v1/experiments \\
  -H 'Content-Type: application/json' -d '{
    "id": "checkout-color",
    "variants": [{"id": "control"}, {"id": "treatment"}],
    "metrics": [{"id": "purchase", "kind": "conversion", "window": "30m"}]}'

curl -X POST http://127.0.0.1:8000/v1/experiments/checkout-color/start`;

export function emptyState() {
  return h(
    "section",
    { class: "state", "data-state": "empty" },
    h("h2", {}, "No experiments yet"),
    h("p", {}, "Create the first one and start it. It appears here by itself."),
    h("pre", { tabindex: 0, "aria-label": "Commands that create an experiment" }, EXAMPLE),
    h("p", { class: "muted" }, "Or watch real data: ", h("code", {}, "make demo"), "."),
  );
}

/** Show an error in `host`; the same error again leaves it, its focus and its listeners alone. */
export function showError(host, { title, detail, again }) {
  const shown = host.querySelector("[data-state=error] p");
  if (shown?.textContent === detail) return;
  host.replaceChildren(
    h(
      "section",
      { class: "state error", role: "alert", "data-state": "error" },
      h("h2", {}, title),
      h("p", {}, detail),
      h("button", { type: "button", onclick: again }, "Try again"),
    ),
  );
}
