// Litmus's live page: "#/" lists experiments, "#/experiments/{id}" watches one, "#/ledger" shows
// where every event went.

import { ExperimentView } from "./experiment.js";
import { LedgerView } from "./ledger.js";
import { ListView } from "./list.js";

const host = document.getElementById("main");
let view = null;

function route() {
  const { hash } = location;
  if (hash && !hash.startsWith("#/")) return; // An anchor inside the page.
  const id = /^#\/experiments\/([^/]+)$/.exec(hash)?.[1];
  view?.close();
  if (hash === "#/ledger") view = new LedgerView(host);
  else view = id ? new ExperimentView(host, decodeURIComponent(id)) : new ListView(host);
}

addEventListener("hashchange", () => {
  route();
  scrollTo(0, 0);
});
route();
