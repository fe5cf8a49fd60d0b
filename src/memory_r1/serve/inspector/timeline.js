// The operation log, latest first.

import { get } from "./api.js";
import { button, dayOf, h, loading, notice, plural, problem, redraw } from "./dom.js";
import { operation, reversals } from "./operations.js";
import { state } from "./state.js";

const PAGE = 50, KINDS = ["ADD", "UPDATE", "DELETE", "NOOP"];

export function view() {
  const kinds = new Set(KINDS), list = h("div", { class: "days" }), foot = h("div", { class: "more" });
  const count = h("p", { class: "soft small", role: "status" });
  let operations = [], over = false, asked = 0;
  const node = h("section", { class: "narrow", "aria-labelledby": "timeline-title" },
    h("div", { class: "bar" }, h("h1", { id: "timeline-title" }, "Timeline"), h("fieldset", { class: "kinds" }, h("legend", { class: "visually-hidden" }, "Which operations"),
      KINDS.map((kind) => h("label", {}, h("input", { type: "checkbox", checked: true, change: (event) => { kinds[event.target.checked ? "add" : "delete"](kind); draw(); } }), h("span", { class: `kind ${kind.toLowerCase()}` }, kind)))),
      button("Refresh", () => load(), { class: "quiet", "data-refresh": true })),
    count, list, foot);
  const LATEST = 10_000; // what the API gives at once

  function draw() {
    const by = reversals(operations), shown = operations.filter((one) => !KINDS.includes(one.event) || kinds.has(one.event)), days = new Map();
    for (const one of shown) {
      const day = dayOf(one.created_at);
      days.set(day, [...(days.get(day) || []), one]);
    }
    list.replaceChildren(...[...days].map(([day, ones]) => h("section", {}, h("h2", { class: "day" }, day), h("ol", { class: "operations" }, ones.map((one) => operation(one, { undoneBy: by[one.id] ?? null }))))));
    count.textContent = !operations.length ? "" : `${shown.length < operations.length ? `${shown.length} of ${over ? "all" : "the latest"}` : over ? "All" : "The latest"} ${plural(operations.length, "operation")}`;
    foot.replaceChildren();
    if (!operations.length && over) list.replaceChildren(notice("No operations yet", "Whatever is added, changed or removed will stand here with its before and after.", h("a", { class: "button", href: "#/add" }, "Add a memory")));
    else if (operations.length && !shown.length) list.replaceChildren(notice("None of these kinds", "Tick another kind above, or read on further back."));
    if (!over && operations.length) foot.append(button(`Show ${PAGE} older`, () => more(), { "data-more": true }));
  }

  async function read(before, top_k, again) {
    const mine = ++asked;
    foot.replaceChildren(loading());
    try {
      const { results } = await get("operations", { ...state.scope, top_k, before });
      if (mine !== asked) return;
      operations = [...(before ? operations : []), ...results];
      over = results.length < top_k;
      redraw(draw);
    } catch (error) {
      if (mine === asked) foot.replaceChildren(problem(error, again));
    }
  }
  const more = () => read(operations.at(-1).id, PAGE, more);

  // `same`: the scope is as before, and so many operations stay on the page as there were.
  function load(same = true) {
    if (!same) {
      operations = [];
      list.replaceChildren();
      count.textContent = "";
    }
    return read(null, Math.min(LATEST, Math.max(PAGE, operations.length)), () => load(same));
  }
  return { node, load };
}
