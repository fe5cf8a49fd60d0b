// The bank of a scope: searched, filtered, as of any time; and one entry with its history.

import { get, post, put, remove } from "./api.js";
import { button, h, instant, loading, notice, number, plural, problem, redraw, shown, time, toast } from "./dom.js";
import { chip, extras, row } from "./entries.js";
import { operation, reversals } from "./operations.js";
import { changed, heldBy, idsOf, scopeName, state } from "./state.js";

const PAGE = 50;
const COLUMNS = new Set(["id", "text", "memory", "data", "speaker", "created_at", "updated_at", "event_time", "expires_at"]);
const OPERATORS = { is: "is", not: "is not", icontains: "contains", gte: "at least", lte: "at most" };

export function view({ open }) {
  // -- what is looked for

  const filters = []; // [{ key, op, value }]; a value from a chip keeps its JSON type
  const query = h("input", { id: "search", type: "search", placeholder: "Search by meaning or by words", autocomplete: "off", "aria-label": "Search the memories", "data-search": true });
  const key = h("input", { id: "filter-key", type: "text", value: "topic", list: "filter-keys", autocomplete: "off", spellcheck: "false" });
  const keys = h("datalist", { id: "filter-keys" });
  const op = h("select", { id: "filter-op" }, Object.entries(OPERATORS).map(([name, text]) => h("option", { value: name }, text)));
  const value = h("input", { id: "filter-value", type: "text", autocomplete: "off" });
  const which = h("select", { id: "filter-time" }, [["event_time", "happened"], ["created_at", "written"], ["updated_at", "changed"]].map(([name, text]) => h("option", { value: name }, text)));
  const from = h("input", { type: "date", id: "filter-from" }), until = h("input", { type: "date", id: "filter-until" });
  const asOf = h("input", { type: "datetime-local", id: "as-of" });
  const expired = h("input", { type: "checkbox", id: "show-expired" });
  const chips = h("div", { class: "chips", "aria-label": "Filters" });
  const field = (name, input) => h("label", { class: "field", for: input.id }, name, input);
  const seen = new Set(["topic", "speaker"]);

  const more = h("details", { class: "filters" }, h("summary", {}, "Filters"), h("div", { class: "fields" },
    h("form", { class: "inline rule", submit: (event) => { event.preventDefault(); addRule(); } }, field("Field", key), field("Condition", op), field("Value", value), keys, h("button", { type: "submit" }, "Add filter")),
    h("div", { class: "inline" }, field("When it", which), field("from", from), field("to", until)),
    h("div", { class: "inline" }, field("As it was on", asOf), h("label", { class: "check" }, expired, "also what has expired"))));
  for (const input of [which, from, until, asOf, expired]) input.addEventListener("change", () => load());
  let typing = 0;
  query.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(() => load(), 250); });

  function addRule() {
    if (!key.value.trim() || !value.value.trim()) return (key.value.trim() ? value : key).focus();
    filters.push({ key: key.value.trim(), op: op.value, value: value.value.trim() });
    value.value = "";
    return load();
  }
  function only(name, found) {
    filters.push({ key: COLUMNS.has(name) ? `metadata.${name}` : name, op: "eq", value: found });
    load();
  }

  function filter() {
    const all = filters.map(condition);
    if (from.value) all.push({ [which.value]: { gte: instant(`${from.value}T00:00`) } });
    if (until.value) all.push({ [which.value]: { lte: instant(`${until.value}T23:59:59`) } });
    return all.length ? { AND: all } : null;
  }
  function draw() {
    const drop = (text, gone) => h("button", { type: "button", class: "chip on", click: () => { gone(); load(); }, "aria-label": `Remove the filter ${text}` }, text, " ×");
    chips.replaceChildren(...filters.map((one, place) => drop(`${one.key} ${OPERATORS[one.op] || "is"} ${shown(one.value)}`, () => filters.splice(place, 1))),
      ...(asOf.value ? [drop(`as of ${asOf.value.replace("T", " ")}`, () => { asOf.value = ""; })] : []),
      ...(from.value || until.value ? [drop(`${which.selectedOptions[0].text} ${from.value || "…"} to ${until.value || "…"}`, () => { from.value = until.value = ""; })] : []));
  }

  // -- the list

  const list = h("ol", { class: "rows", id: "memory-list" }), foot = h("div", { class: "more" }), count = h("p", { class: "soft small", role: "status" });
  const detail = h("aside", { class: "detail", "aria-label": "One memory", "aria-live": "polite" });
  const node = h("section", { class: "split", "aria-labelledby": "memories-title" },
    h("div", { class: "side" }, h("div", { class: "bar" }, h("h1", { id: "memories-title" }, "Memories"), button("Refresh", () => load(true), { class: "quiet", "data-refresh": true })),
      h("div", { class: "searchbox" }, query), more, chips, count, list, foot),
    detail);
  let entries = [], opened = null, asked = 0, pages = 1, told = 0;

  async function page(skip, size) {
    const text = query.value.trim(), chosen = filter(), then = asOf.value ? instant(asOf.value) : null;
    if (text) {
      const { results } = await post("search", { query: text, ...state.scope, top_k: size * pages, filters: chosen, as_of: then, show_expired: expired.checked });
      return { results, whole: true, over: results.length < size * pages };
    }
    const { results } = await get("memories", { ...state.scope, top_k: size, skip, order: "newest", filters: chosen && JSON.stringify(chosen), as_of: then, show_expired: expired.checked || null });
    return { results, whole: false, over: results.length < size };
  }

  async function fill(first, size = PAGE) {
    const mine = ++asked;
    foot.replaceChildren(loading(asOf.value ? "Rebuilding the bank as it was…" : "Loading…"));
    try {
      const found = await page(first ? 0 : entries.length, size);
      if (mine !== asked) return;
      const begun = found.whole || first ? 0 : entries.length;
      entries = begun ? [...entries, ...found.results] : found.results;
      for (const entry of entries.slice(begun)) for (const [name] of extras(entry)) if (!seen.has(name)) seen.add(name);
      keys.replaceChildren(...[...seen].map((name) => h("option", { value: name })));
      const rows = entries.slice(begun).map((entry) => row(entry, { current: entry.id === opened }));
      redraw(() => begun ? list.append(...rows) : list.replaceChildren(...rows));
      tell(found);
    } catch (error) {
      if (mine !== asked) return;
      if (first) { list.replaceChildren(); count.textContent = ""; }
      foot.replaceChildren(problem(error, () => fill(first, size)));
    }
  }

  function tell({ over }) {
    const narrowed = query.value.trim() || filters.length || from.value || until.value || asOf.value;
    const all = heldBy(state.scope);
    count.textContent = !entries.length ? "" : query.value.trim() ? `${plural(entries.length, "memory", "memories")}, the best first`
      : narrowed || over ? `${plural(entries.length, "memory", "memories")}${over ? "" : " so far"}, newest first` : `${number(entries.length)} of ${number(Math.max(all, entries.length))} memories, newest first`;
    foot.replaceChildren();
    if (!entries.length) foot.replaceChildren(narrowed
      ? notice("Nothing found", asOf.value ? "At that time there was nothing like this here." : "Try other words, or remove a filter.", button("Show all", clear))
      : notice("Nothing is remembered yet", `${state.scope ? `${scopeName(state.scope)} has` : "There are"} no memories here. Tell it something, or choose whose memory to look at.`, h("a", { class: "button primary", href: "#/add" }, "Add a memory"), " ", button("Whose memory…", () => document.getElementById("scope").click())));
    else if (!over) foot.append(button(`Show ${PAGE} more`, () => { pages++; fill(false); }, { "data-more": true }));
  }
  function clear() {
    filters.length = 0;
    for (const input of [query, from, until, asOf]) input.value = "";
    load();
  }

  // `same`: what is looked for is as before, and so many entries stay on the page as there were.
  function load(same = false) {
    const searching = query.value.trim() !== "";
    if (!same) pages = 1;
    draw();
    return Promise.all([fill(true, same && !searching ? Math.min(10_000, Math.max(PAGE, entries.length)) : PAGE), opened ? look() : null]);
  }

  // -- one entry

  async function look() {
    const mine = ++told, id = opened;
    node.classList.toggle("opened", id !== null);
    for (const link of list.querySelectorAll("a[aria-current]")) link.removeAttribute("aria-current");
    list.querySelector(`a[data-id="${CSS.escape(id ?? "")}"]`)?.setAttribute("aria-current", "true");
    if (id === null) return detail.replaceChildren(h("div", { class: "empty quiet" }, h("p", {}, "Choose a memory to see all of it, and how it came to be.")));
    if (detail.dataset.id !== id) detail.replaceChildren(loading());
    detail.dataset.id = id;
    const path = `memories/${encodeURIComponent(id)}`;
    try {
      const history = await get(`${path}/history`);
      const gone = history.findLast((one) => one.event !== "NOOP")?.event === "DELETE" || history.every((one) => one.event === "PURGE");
      const entry = gone ? null : await get(path);
      if (mine === told) redraw(() => detail.replaceChildren(...tellOf(id, entry, history)));
    } catch (error) {
      if (mine === told) detail.replaceChildren(back(), error.code === "not_found" ? notice("This memory is not here", "It was erased for good, or belongs to a scope that is not yours.") : problem(error, look));
    }
    return null;
  }
  const back = () => h("a", { class: "back", href: "#/memories" }, "← All memories");

  function tellOf(id, entry, history) {
    const by = reversals(history), last = history.findLast((one) => one.old_memory ?? one.new_memory);
    const text = h("p", { class: entry ? "whole" : "whole gone" }, entry ? entry.memory : last?.old_memory ?? last?.new_memory ?? "");
    const lines = entry ? [
      ["happened", entry.event_time && Math.abs(new Date(entry.event_time) - new Date(entry.created_at)) > 60000 && time(entry.event_time)], ["told by", entry.speaker], ["written", time(entry.created_at)],
      ["changed", entry.updated_at !== entry.created_at && time(entry.updated_at)], ["expires", entry.expiration_date && time(entry.expiration_date)], ["belongs to", scopeName(idsOf(entry))],
    ] : [];
    lines.push(["id", h("code", {}, id)]);
    return [back(), h("h2", { class: "visually-hidden" }, "Memory"), text,
      !entry && h("p", { class: "notice" }, "This memory was removed. Undo its removal below to bring it back."),
      entry && extras(entry).length > 0 && h("div", { class: "chips" }, extras(entry).map(([name, found]) => chip(name, found, typeof found === "object" ? null : () => only(name, found)))),
      h("dl", { class: "facts" }, lines.filter(([, found]) => found).map(([name, found]) => h("div", {}, h("dt", {}, name), h("dd", {}, found)))),
      entry && h("div", { class: "inline actions" }, button("Edit", () => edit(entry, text)), button("Delete", () => erase(entry), { class: "danger" })),
      h("h2", { class: "label" }, "History"),
      h("ol", { class: "operations" }, history.toReversed().map((one) => operation(one, { undoneBy: by[one.id] ?? null, link: false })))].filter(Boolean);
  }

  function edit(entry, text) {
    const area = h("textarea", { rows: 4, value: entry.memory, "aria-label": "The memory's text" }), told_ = h("div");
    const form = h("form", { class: "edit", submit: (event) => { event.preventDefault(); save(); }, keydown: (event) => { if (event.key === "Escape") { event.stopPropagation(); look(); } } },
      area, h("div", { class: "inline" }, h("button", { type: "submit", class: "primary" }, "Save"), button("Cancel", () => look())), told_);
    text.replaceWith(form);
    area.focus();
    async function save() {
      try {
        await put(`memories/${encodeURIComponent(entry.id)}`, { text: area.value });
        changed();
      } catch (error) {
        told_.replaceChildren(problem(error));
      }
    }
  }
  async function erase(entry) {
    try {
      const { operation: done } = await remove(`memories/${encodeURIComponent(entry.id)}`);
      toast("Deleted. Its history stays.", { action: { text: "Undo", run: async () => {
        try { await post("undo", { operation: done }); changed(); } catch (error) { toast(`${error.message}. ${error.remedy}`, { bad: true }); }
      } } });
      changed();
    } catch (error) {
      toast(`${error.message}. ${error.remedy}`, { bad: true });
    }
  }

  let above = 0; // where the list stood, on a phone, where the entry takes its place
  function show(id) {
    if (id === opened && detail.children.length) return null;
    if (opened === null) above = scrollY;
    if (matchMedia("(max-width: 820px)").matches) requestAnimationFrame(() => scrollTo(0, id === null ? above : 0));
    opened = id;
    return look();
  }
  return { node, load, show, leave: () => open("#/memories") };
}

function condition({ key, op, value }) {
  if (op === "eq") return { [key]: { eq: value } };
  const typed = value === "true" ? true : value === "false" ? false : value !== "" && Number.isFinite(Number(value)) ? Number(value) : value;
  const both = typed === value ? [value] : [value, typed]; // typed in a field: "5" may mean the text or the number
  if (op === "is") return { [key]: { in: both } };
  if (op === "not") return { [key]: { nin: both } };
  return { [key]: { [op]: op === "icontains" ? value : typed } };
}
