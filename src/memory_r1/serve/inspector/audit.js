// What is worth a look in a bank.

import { get } from "./api.js";
import { button, h, loading, notice, number, plural, problem } from "./dom.js";
import { row } from "./entries.js";
import { heldBy, state } from "./state.js";

const EACH = 50, LARGE = 5000;
const ABOUT = {
  "exact duplicate": "The same words twice: one of them can go.",
  "near duplicate": "Two ways to say the same.",
  "possible contradiction": "A guess from the words: the same statement with a negation, another number or one other word.",
  expired: "Past its date, and no longer found by searches.",
  stale: "Not changed or recalled for half a year.",
  "never recalled": "No search has returned it yet.",
};

export function view() {
  const result = h("div", { class: "result", "aria-live": "polite" });
  const node = h("section", { class: "narrow", "aria-labelledby": "audit-title" }, h("div", { class: "bar" }, h("h1", { id: "audit-title" }, "Audit"), button("Run again", () => run(), { class: "quiet", "data-refresh": true })), result);
  let asked = 0;

  async function run() {
    const mine = ++asked;
    result.replaceChildren(loading("Comparing the memories with each other…"));
    try {
      const found = await get("audit", { ...state.scope, top_k: EACH });
      if (mine === asked) result.replaceChildren(...tell(found));
    } catch (error) {
      if (mine === asked) result.replaceChildren(problem(error, run));
    }
  }

  function load() {
    const held = heldBy(state.scope);
    if (held <= LARGE) return run();
    asked++;
    result.replaceChildren(notice("This is a large bank", `Each of its ${number(held)} memories is compared with every other, which takes minutes and keeps the server busy.`, button("Run the audit", run, { class: "primary" })));
    return null;
  }
  return { node, load };
}

function tell({ findings, counts }) {
  if (!findings.length) return [notice("Nothing to look at", "No duplicates, contradictions, stale or forgotten memories were found.")];
  const total = Object.values(counts).reduce((sum, n) => sum + n, 0);
  return [h("p", { class: "soft" }, `${plural(total, "finding")}, the most certain first. Nothing is changed: open a memory to edit or delete it.`),
    ...Object.entries(counts).map(([kind, n]) => {
      const own = findings.filter((one) => one.kind === kind);
      return h("details", { class: "findings", open: kind !== "never recalled" || total === n }, h("summary", {}, h("h2", {}, kind), h("span", { class: "count" }, number(n)), h("span", { class: "soft" }, ABOUT[kind] || "")),
        h("ul", { class: "pairs" }, own.map((one) => h("li", {}, one.entries.length > 1 && h("p", { class: "why" }, one.why), h("ol", { class: "rows" }, one.entries.map((entry) => row(entry)))))),
        n > own.length && h("p", { class: "soft small" }, `…and ${number(n - own.length)} more: memory-r1 audit lists them all.`));
    })];
}
