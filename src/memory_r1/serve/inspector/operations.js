// One line of the operation log, with its before and after, and undoing it.

import { post } from "./api.js";
import { diff } from "./diff.js";
import { button, h, number, problem, time, toast } from "./dom.js";
import { changed } from "./state.js";

const SAID = { ADD: "added", UPDATE: "changed", DELETE: "removed", NOOP: "left as it was", PURGE: "erased for good", REEMBED: "embedded anew" };
const UNDOABLE = new Set(["ADD", "UPDATE", "DELETE"]);

export const badge = (kind) => h("span", { class: `kind ${kind.toLowerCase()}` }, kind);

function body(one) {
  const { old_memory: before, new_memory: after } = one;
  if (before !== null && after !== null && one.event !== "ADD")
    return before === after ? h("p", { class: "diff" }, after, h("span", { class: "soft" }, " (the words stayed; its date, expiry or metadata changed)")) : diff(before, after);
  if (one.event === "DELETE" && before !== null) return h("p", { class: "diff alone" }, h("del", {}, before));
  if (after !== null) return h("p", { class: "diff alone" }, h("ins", {}, after));
  if (one.fact !== null) return h("p", { class: "diff soft" }, one.fact);
  return null;
}

// How sure the manager was: the probability of its whole reply.
function confidence(one) {
  if (one.logprob === null) return null;
  const share = Math.exp(one.logprob), text = share < 0.01 ? "under 1 %" : `${number(100 * share)} %`;
  return h("span", { class: "confidence", title: `Probability of the manager's whole reply: exp(${number(one.logprob, 3)})` },
    h("span", { class: "track", "aria-hidden": "true" }, h("span", { class: "fill", style: { width: `${Math.round(100 * share)}%` } })), `${text} sure`);
}

function provenance(one) {
  const lines = [["model", one.model], ["adapter", one.adapter], ["prompt", one.prompt_version], ["turn", one.turn_id], ["log-probability", one.logprob], ["entry", one.memory_id]].filter(([, value]) => value !== null);
  if (!lines.length) return null;
  return h("details", { class: "how" }, h("summary", {}, "How it came about"), h("dl", {}, lines.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, String(value))))));
}

// `undoneBy`: the number of the operation that reversed this one. `link`: whether Enter opens the entry.
export function operation(one, { undoneBy = null, link = true } = {}) {
  const told = h("div", { class: "told" });
  const undo = UNDOABLE.has(one.event) && undoneBy === null && button("Undo", () => reverse(one, undo, told), { class: "undo", "data-undo": true, "aria-label": `Undo operation ${one.id}` });
  const about = one.fact !== null && one.fact !== one.new_memory && one.event !== "NOOP";
  return h("li", { class: undoneBy === null ? "operation" : "operation undone", tabindex: 0, "data-item": true, "data-id": one.id, "data-open": link && one.memory_id ? `#/memories/${encodeURIComponent(one.memory_id)}` : null,
    "aria-label": `Operation ${one.id}: ${SAID[one.event] || one.event}` },
    h("div", { class: "head" }, badge(one.event), h("span", { class: "soft" }, SAID[one.event] || ""), confidence(one),
      one.reason && h("span", { class: "soft" }, one.reason),
      one.undoes !== null && h("span", { class: "tag" }, `undoes #${one.undoes}`),
      undoneBy !== null && h("span", { class: "tag" }, `undone by #${undoneBy}`),
      h("span", { class: "at soft" }, `#${one.id} `, time(one.created_at, { onlyClock: link }))),
    body(one),
    about && h("p", { class: "fact" }, h("span", { class: "soft" }, "told: "), one.fact),
    h("div", { class: "foot" }, provenance(one), link && one.memory_id && h("a", { href: `#/memories/${encodeURIComponent(one.memory_id)}` }, "History"), undo),
    told);
}

// {number of an operation: number of the one that reversed it and still stands}
export function reversals(operations) {
  const by = {};
  for (const one of [...operations].sort((a, b) => b.id - a.id)) if (one.undoes !== null && !(one.id in by)) by[one.undoes] = one.id;
  return by;
}

async function reverse(one, control, told) {
  control.disabled = true;
  told.replaceChildren();
  try {
    const done = await post("undo", { operation: one.id });
    const says = { ADD: "It is there again", DELETE: "It is gone again", UPDATE: "It says again" }[done.event];
    const text = done.new_memory ?? done.old_memory ?? "";
    toast(`Operation ${one.id} is undone. ${says}: ${text.length > 90 ? text.slice(0, 90) + "…" : text}`, { action: { text: "Redo", run: () => redo(done.id) } });
    changed();
  } catch (error) {
    control.disabled = false;
    const title = error.code === "conflict" ? "The memory has been changed since, so this was not undone." : "This was not undone.";
    told.replaceChildren(h("div", { class: "problem", role: "alert" }, h("strong", {}, title), h("p", {}, error.message), h("p", {}, error.remedy)));
  }
}

async function redo(id) {
  try {
    await post("undo", { operation: id });
    toast("Done again.");
    changed();
  } catch (error) {
    toast(`${error.message}. ${error.remedy}`, { bad: true });
  }
}
