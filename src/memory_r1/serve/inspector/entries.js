// One memory in a list, and all that is known of one.

import { h, number, shown, time } from "./dom.js";
import { idsOf, sameScope, scopeName, state } from "./state.js";

const KNOWN = new Set(["id", "memory", "hash", "metadata", "created_at", "updated_at", "event_time", "expiration_date", "speaker", "user_id", "agent_id", "run_id", "score", "similarity"]);

// Metadata, and whatever a later server says of an entry beside the fields known here.
export const extras = (entry) => [...Object.entries(entry).filter(([name, value]) => !KNOWN.has(name) && value !== null && value !== false), ...Object.entries(entry.metadata || {})];

export function chip(name, value, click) {
  const text = value === true ? name : `${name}: ${shown(value)}`;
  const kind = ["quarantined", "flagged", "suspicious"].includes(name) && value ? "chip warn" : "chip";
  return click ? h("button", { type: "button", class: kind, click, title: `Show only ${text}` }, text) : h("span", { class: kind }, text);
}

// A link to the entry. `mark` stands before its text; `score` shows how near it is to what was looked for.
export function row(entry, { mark = null, current = false, score = true } = {}) {
  const bits = [
    entry.speaker && h("span", {}, entry.speaker),
    h("span", {}, time(entry.event_time || entry.created_at)),
    !sameScope(idsOf(entry), state.scope) && h("span", {}, scopeName(entry)),
    entry.expiration_date && h("span", {}, "until ", time(entry.expiration_date)),
    ...extras(entry).slice(0, 4).map(([name, value]) => chip(name, value)),
    score && entry.score !== undefined && bar(entry),
  ];
  return h("li", { class: "row" }, h("a", { href: `#/memories/${encodeURIComponent(entry.id)}`, "data-item": true, "data-id": entry.id, "aria-current": current ? "true" : null },
    h("span", { class: "text" }, mark, entry.memory),
    h("span", { class: "meta" }, bits)));
}

function bar(entry) {
  return h("span", { class: "score", title: `fused rank ${entry.score}, cosine ${entry.similarity}` },
    h("span", { class: "track", "aria-hidden": "true" }, h("span", { class: "fill", style: { width: `${Math.round(100 * entry.score)}%` } })),
    h("span", { class: "visually-hidden" }, "score "), number(entry.score, 2));
}
