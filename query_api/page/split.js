// Whether the split forbids reading: of all units, or of those within a segment.

import { h, setAttribute, setText } from "./dom.js";

/** Return whether nothing may be read: as the verdict has it, which knows of every alarm. */
export const isUnreadable = (results) => results.verdict?.reading === "sample_ratio_mismatch";

/** Return where the split is off, "country US"; empty where it is off over all units. */
function segmentsOff(results) {
  if (results.sample_ratio?.mismatch === true) return [];
  return Object.entries(results.sample_ratio_by_segment ?? {}).flatMap(([attribute, segments]) =>
    segments.filter((one) => one.mismatch).map((one) => `${attribute} ${one.value}`),
  );
}

function chipWords(off) {
  if (!off.length) return "sample-ratio mismatch";
  return `sample-ratio mismatch: ${off.length > 1 ? `in ${off.length} segments` : off[0]}`;
}

/** The chip beside the units, and the box above everything. */
export class SplitAlarm {
  constructor() {
    this.chip = h("span", { class: "chip" });
    this.where = h("span");
    this.box = h("div", { class: "alarm", role: "alert", hidden: true });
  }

  show(results) {
    const mismatch = isUnreadable(results);
    const off = segmentsOff(results);
    const within = off.join(", ");
    setText(this.chip, mismatch ? chipWords(off) : "split as planned");
    setAttribute(this.chip, "class", mismatch ? "chip alarm-chip" : "chip good-chip");
    setText(
      this.where,
      within
        ? `Units with ${within} are not split between the variants as planned, far beyond chance. `
        : "Units are not split between the variants as planned, far beyond chance. ",
    );
    if (mismatch === !this.box.hidden) return;
    this.box.hidden = !mismatch;
    this.box.replaceChildren(
      ...(mismatch
        ? [
            h("strong", {}, "Sample-ratio mismatch: do not read the results. "),
            this.where,
            "Something in assignment or logging loses or adds units of one variant; find it first.",
          ]
        : []),
    );
  }
}
