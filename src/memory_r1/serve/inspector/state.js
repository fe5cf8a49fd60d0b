// Whose memory is shown, and whether something has changed since a view was filled.

import { get } from "./api.js";

const NAMES = ["user_id", "agent_id", "run_id"], KEY = "memory-r1 scope";

export const state = { scope: null, bound: null, scopes: [], version: 0 };

export const scopeName = (scope) => NAMES.filter((name) => scope?.[name]).map((name) => name === "user_id" ? scope[name] : `${name.replace("_id", "")} ${scope[name]}`).join(" · ");
export const sameScope = (one, other) => NAMES.every((name) => (one?.[name] ?? null) === (other?.[name] ?? null));
export const idsOf = (entry) => Object.fromEntries(NAMES.filter((name) => entry?.[name]).map((name) => [name, entry[name]]));
export const heldBy = (scope) => state.scopes.filter((one) => NAMES.every((name) => !scope?.[name] || scope[name] === one[name])).reduce((sum, one) => sum + one.memories, 0);

export function choose(scope) {
  state.scope = scope && Object.keys(idsOf(scope)).length ? idsOf(scope) : null;
  state.version++;
  try { sessionStorage.setItem(KEY, JSON.stringify(state.scope)); } catch { /* storage is off */ }
  document.dispatchEvent(new Event("scope"));
}

export function changed() {
  state.version++;
  document.dispatchEvent(new Event("changed"));
}

// Which scopes there are. Keeps the chosen one where the key opens it, else takes the one with the most entries.
export async function readScopes() {
  const { results, bound } = await get("scopes");
  state.scopes = results;
  state.bound = bound;
  if (state.scope === null) {
    try { state.scope = JSON.parse(sessionStorage.getItem(KEY)); } catch { state.scope = null; }
  }
  const opened = state.scope && Object.entries(bound || {}).every(([name, value]) => state.scope[name] === value);
  if (!opened) state.scope = bound || (results.length ? idsOf(results[0]) : null);
}
