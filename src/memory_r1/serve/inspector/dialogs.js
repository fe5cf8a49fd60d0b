// What the page asks for, and what it explains.

import { hasKey, useKey } from "./api.js";
import { button, h, itemInFocus, kbd, number, refocus } from "./dom.js";
import { choose, heldBy, idsOf, sameScope, scopeName, state } from "./state.js";

// Shows a dialog; returns what closes it. It is gone at once, and not at its `close` event, which comes later: until then
// the focus could still be in it, and the keys that are pressed next would be lost there. What had the focus before has
// it again, also where the page below was drawn anew.
function dialog(title, ...children) {
  const item = itemInFocus();
  const close = () => {
    if (!box.isConnected) return;
    box.close();
    box.remove();
    refocus(item);
  };
  const box = h("dialog", { "aria-label": title, cancel: (event) => { event.preventDefault(); close(); }, close, click: (event) => { if (event.target === box) close(); } },
    h("div", { class: "sheet" }, h("div", { class: "bar" }, h("h2", {}, title), button("×", close, { class: "icon", "aria-label": "Close" })), children));
  document.body.append(box);
  box.showModal();
  return close;
}
const open = () => document.querySelector("dialog[open]") !== null;

export function askForKey(known, done) {
  if (open()) return;
  const input = h("input", { type: "password", id: "key", autocomplete: "off", spellcheck: "false", required: true, "aria-label": "API key" });
  const close = dialog("This server needs a key",
    h("form", { submit: (event) => { event.preventDefault(); useKey(input.value.trim()); close(); done(); } },
      known ? h("p", { class: "problem", role: "alert" }, "The key is unknown or was revoked.") : "",
      h("p", {}, "Paste a key of yours. It stays in this tab until you close it, and goes to this server only."),
      h("div", { class: "inline" }, input, h("button", { type: "submit", class: "primary" }, "Open")),
      h("p", { class: "soft small" }, "No key yet? Whoever runs the server makes one: ", h("code", {}, "memory-r1 keys create --user ann"))));
  input.focus();
}

export function askForScope() {
  if (open()) return;
  const MOST = 100, find = h("input", { type: "search", autocomplete: "off", placeholder: "Find", "aria-label": "Find whose memory" });
  const list = h("ul", { class: "scopes" }), more = h("p", { class: "soft small" });
  const own = Object.fromEntries(["user_id", "agent_id", "run_id"].map((name) => [name, h("input", { type: "text", id: `scope-${name}`, value: state.scope?.[name] || "", disabled: Boolean(state.bound?.[name]), autocomplete: "off", spellcheck: "false" })]));
  const pick = (scope) => { close(); choose(scope); };
  const names = { user_id: "User", agent_id: "Agent", run_id: "Run" };
  function draw() {
    const wanted = find.value.trim().toLowerCase(), found = state.scopes.filter((one) => scopeName(one).toLowerCase().includes(wanted));
    list.replaceChildren(...found.slice(0, MOST).map((one) => h("li", {}, h("button", { type: "button", click: () => pick(idsOf(one)), "aria-current": sameScope(one, state.scope) ? "true" : null }, h("span", {}, scopeName(one)), h("span", { class: "soft" }, number(one.memories))))));
    more.textContent = found.length > MOST ? `…and ${number(found.length - MOST)} more: type to find them.` : found.length ? "" : state.scopes.length ? "Nobody of that name." : "There are no memories yet.";
  }
  find.addEventListener("input", draw);
  const close = dialog("Whose memory?", state.bound ? h("p", { class: "soft" }, `Your key opens ${scopeName(state.bound)}.`) : "", find, list, more,
    h("details", { open: !state.scopes.length }, h("summary", {}, "By its ids"), h("form", { class: "ids", submit: (event) => { event.preventDefault(); pick(Object.fromEntries(Object.entries(own).map(([name, input]) => [name, input.value.trim()]))); } },
      Object.entries(own).map(([name, input]) => h("label", { class: "field", for: input.id }, names[name], input)), h("button", { type: "submit" }, "Show"))),
    hasKey() ? h("p", {}, button("Forget the key", () => { useKey(null); location.reload(); }, { class: "quiet" })) : "");
  draw();
  find.focus();
}

export function showHelp() {
  if (open()) return;
  const lines = [[["1", "…", "6"], "the views"], [["/"], "search, or write"], [["j", "k"], "next and previous (arrows, too)"], [["Enter"], "open"], [["u"], "undo the operation in focus"], [["n"], "show more"], [["r"], "refresh"], [["a"], "add a memory"], [["s"], "whose memory"], [["t"], "light or dark"], [["Esc"], "back, or leave a field"], [["?"], "this help"]];
  dialog("Keys", h("dl", { class: "keys" }, lines.map(([keys, text]) => h("div", {}, h("dt", {}, kbd(...keys)), h("dd", {}, text)))),
    h("p", { class: "soft small" }, `${scopeName(state.scope) || "Nobody"}: ${number(heldBy(state.scope))} memories. `, h("a", { href: "docs" }, "The API, described")));
}
