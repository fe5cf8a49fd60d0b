// A question: what was retrieved, what the Answer Agent kept of it, and what it answered.

import { post } from "./api.js";
import { button, h, instant, loading, notice, plural, problem } from "./dom.js";
import { row } from "./entries.js";
import { state } from "./state.js";

export function view() {
  const question = h("input", { id: "question", type: "text", placeholder: "What would you like to know?", autocomplete: "off", required: true, "aria-label": "Question", "data-search": true });
  const asOf = h("input", { type: "datetime-local", id: "ask-as-of" });
  const result = h("div", { class: "result", "aria-live": "polite" });
  const go = h("button", { type: "submit", class: "primary" }, "Ask");
  const node = h("section", { class: "narrow", "aria-labelledby": "ask-title" }, h("div", { class: "bar" }, h("h1", { id: "ask-title" }, "Ask")),
    h("form", { class: "askform", submit: (event) => { event.preventDefault(); ask(); } }, h("div", { class: "inline" }, question, go),
      h("details", {}, h("summary", {}, "As of another time"), h("label", { class: "field" }, "The memory as it was on", asOf))),
    result);
  let asked = 0;

  async function ask() {
    if (!question.value.trim()) return question.focus();
    const mine = ++asked;
    go.disabled = true;
    result.replaceChildren(loading("Retrieving, keeping what tells, answering…"));
    try {
      const body = { question: question.value, ...state.scope };
      if (asOf.value) body.as_of = instant(asOf.value);
      const answer = await post("ask", body);
      if (mine === asked) result.replaceChildren(...tell(answer));
    } catch (error) {
      if (mine === asked) result.replaceChildren(problem(error, ask));
    } finally {
      go.disabled = false;
    }
  }

  function load() {
    asked++;
    go.disabled = false;
    result.replaceChildren(notice("An answer shows its sources", "The Answer Agent retrieves up to 60 memories, keeps the few that tell, and answers briefly. You will see all three."));
  }
  return { node, load, once: true };
}

function tell({ answer, known, used, retrieved, dropped }) {
  const kept = new Set(used.map((entry) => entry.id));
  return [
    h("div", { class: known ? "answer" : "answer unknown" }, h("h2", { class: "label" }, "Answer"), h("p", { class: "said" }, answer),
      !known && h("p", { class: "soft" }, retrieved.length ? "None of the memories below told it." : "Nothing is remembered here yet.")),
    used.length > 0 && h("section", { class: "kept" }, h("h2", { class: "label" }, `Kept: ${plural(used.length, "memory", "memories")}`), h("ol", { class: "rows" }, used.map((entry) => row(entry)))),
    retrieved.length > 0 && h("section", {}, h("h2", { class: "label" }, `Retrieved: ${plural(retrieved.length, "memory", "memories")}, best first`),
      dropped > 0 && h("p", { class: "soft small" }, `The last ${dropped} did not fit the model's context and were not read.`),
      h("ol", { class: "rows" }, retrieved.map((entry) => row(entry, { mark: kept.has(entry.id) && h("span", { class: "tag kept" }, "kept") })))),
  ].filter(Boolean);
}
