// The inspector: its views, its keys, and who is looked at.

import { view as add } from "./add.js";
import { get } from "./api.js";
import { view as ask } from "./ask.js";
import { view as audit } from "./audit.js";
import { askForKey, askForScope, showHelp } from "./dialogs.js";
import { h, loading, notice, problem } from "./dom.js";
import { view as memories } from "./memories.js";
import { choose, readScopes, scopeName, state } from "./state.js";
import { view as timeline } from "./timeline.js";
import { view as training } from "./training.js";

const VIEWS = { memories, timeline, ask, add, audit, training }, NAMES = Object.keys(VIEWS);
const WHOLE = new Set(["add", "training"]); // shown also where nobody is chosen
const main = document.getElementById("main");
const made = {}; // name: the view, kept with what it shows while one looks elsewhere
let current = null, ready = false;

// Shows it at once, not when the browser tells that the address has changed: the next key is meant for what is opened.
const open = (hash) => {
  location.hash = hash;
  show();
};

function route() {
  const [, name, rest] = /^#\/([a-z]+)(?:\/(.+))?$/.exec(location.hash) || [];
  let id = null;
  try { id = rest ? decodeURIComponent(rest) : null; } catch { /* no id then */ }
  return { name: name in VIEWS ? name : "memories", id };
}

function show() {
  if (!ready) return;
  const { name, id } = route();
  for (const link of document.querySelectorAll("[data-view]")) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.getElementById("scope-name").textContent = scopeName(state.scope) || "nobody yet";
  document.title = `${name[0].toUpperCase()}${name.slice(1)} · memory-r1`;
  if (state.scope === null && !WHOLE.has(name)) {
    current = null;
    main.replaceChildren(notice("Nothing is remembered yet", "This bank is empty. Tell it something about somebody, or let an agent do it through the API.",
      h("a", { class: "button primary", href: "#/add" }, "Add the first memory"), " ", h("a", { class: "button", href: "docs" }, "The API")));
    return;
  }
  const view = made[name] ??= { ...VIEWS[name]({ open }), seen: -1 };
  if (current !== view) {
    if (current) current.scroll = scrollY;
    main.replaceChildren(view.node);
    scrollTo(0, view.scroll || 0);
    if (current) main.focus({ preventScroll: true });
  }
  current = view;
  view.show?.(id);
  const same = view.seen >= 0 && view.scope === state.scope;
  if (view.seen !== state.version && !(view.once && same)) {
    view.seen = state.version;
    view.scope = state.scope;
    view.load(same);
  }
}

async function begin() {
  ready = false;
  main.replaceChildren(loading());
  try {
    await readScopes();
    ready = true;
    current = null;
    show();
  } catch (error) {
    main.replaceChildren(problem(error, begin));
  }
}

document.addEventListener("key-needed", (event) => askForKey(event.detail.known, begin));
document.addEventListener("scope", () => { if (route().id) open("#/memories"); else show(); });
document.addEventListener("first-scope", (event) => choose(event.detail));
document.addEventListener("changed", async () => {
  try {
    const { results } = await get("scopes");
    state.scopes = results;
  } catch { /* only the counts beside the names: the view that is loaded next tells what is wrong */ }
  show();
});
addEventListener("hashchange", show);

// -- keys

const items = () => [...main.querySelectorAll("[data-item]")].filter((one) => one.offsetParent !== null && !one.disabled);

function step(by) {
  const all = items(), at = all.indexOf(document.activeElement.closest("[data-item]"));
  const next = all[at < 0 ? (by > 0 ? 0 : all.length - 1) : at + by];
  if (!next) return by > 0 && main.querySelector("[data-more]")?.focus();
  next.focus({ preventScroll: true });
  return next.scrollIntoView({ block: "nearest" });
}

const seen = (selector) => [...main.querySelectorAll(selector)].find((one) => one.offsetParent !== null);
const press = (selector) => seen(selector)?.click();
function write() {
  const field = seen("[data-search]");
  field?.focus();
  return field !== undefined;
}
function openToWrite(hash) {
  open(hash);
  write();
}

function theme() {
  const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  try { localStorage.setItem("memory-r1 theme", document.documentElement.dataset.theme); } catch { /* storage is off */ }
}

const KEYS = {
  "/": () => write() || openToWrite("#/memories"), a: () => openToWrite("#/add"),
  j: () => step(1), ArrowDown: () => step(1), k: () => step(-1), ArrowUp: () => step(-1),
  u: () => document.activeElement.closest("[data-item]")?.querySelector("[data-undo]")?.click(),
  n: () => press("[data-more]"), r: () => press("[data-refresh]"), s: askForScope, t: theme, "?": showHelp,
  Escape: () => current?.leave?.(),
};
NAMES.forEach((name, i) => { KEYS[i + 1] = () => open(`#/${name}`); });

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || document.querySelector("dialog[open]")) return;
  const at = event.target, typing = at.matches("input:not([type=checkbox]), textarea, select");
  if (typing) {
    if (event.key === "Escape") at.blur();
    if (event.key === "ArrowDown" && at.matches("[type=search]")) { event.preventDefault(); step(1); }
    return;
  }
  if (event.key === "Enter" && at.matches("[data-open]")) return open(at.dataset.open);
  const act = Object.hasOwn(KEYS, event.key) ? KEYS[event.key] : null;
  if (!act) return;
  event.preventDefault();
  act();
});

document.getElementById("scope").addEventListener("click", askForScope);
document.getElementById("theme").addEventListener("click", theme);
document.getElementById("help").addEventListener("click", showHelp);
begin();
