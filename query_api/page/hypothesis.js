// What the experiment is to find out, as it was written down before the start.

import { h } from "./dom.js";
import * as format from "./format.js";

/** Return a hypothesis as a list, or "" where nothing was written down. */
export function hypothesisOf(hypothesis) {
  const written = [
    ["If nothing changes", hypothesis.null],
    ["We expect", hypothesis.alternative],
    ["Worth having from", hypothesis.minimum_effect && smallestWords(hypothesis.minimum_effect)],
  ].filter(([, text]) => text);
  if (!written.length) return "";
  return h(
    "dl",
    { class: "hypothesis" },
    written.flatMap(([title, text]) => [h("dt", {}, title), h("dd", {}, text)]),
  );
}

const smallestWords = (share) => `${format.percent(share, 2)} of the control`;
