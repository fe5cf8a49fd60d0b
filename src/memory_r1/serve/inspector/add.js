// Remembering something new, and watching what each fact does.

import { add } from "./api.js";
import { button, h, instant, loading, plural, problem } from "./dom.js";
import { badge } from "./operations.js";
import { diff } from "./diff.js";
import { changed, idsOf, state } from "./state.js";

// Paragraphs are messages. A first line "Name: …" says who speaks.
export function messages(text, speaker) {
  return text.split(/\n\s*\n/).map((part) => part.trim()).filter(Boolean).map((part) => {
    const named = /^([\p{L}][\p{L} .'-]{0,30}): (.+)$/su.exec(part);
    const name = named ? named[1] : speaker;
    return { role: "user", content: named ? named[2] : part, ...(name ? { name } : {}) };
  });
}

export function view() {
  const text = h("textarea", { id: "new-text", rows: 6, required: true, "data-search": true, placeholder: "I moved to Lisbon in May, and my sister Ana came along." });
  const speaker = h("input", { id: "new-speaker", type: "text", autocomplete: "off", placeholder: "user" });
  const when = h("input", { id: "new-when", type: "datetime-local" });
  const topic = h("input", { id: "new-topic", type: "text", autocomplete: "off", placeholder: "none" });
  const infer = h("input", { type: "checkbox", id: "new-infer", checked: true });
  const dry = h("input", { type: "checkbox", id: "new-dry" });
  const who = Object.fromEntries(["user_id", "agent_id", "run_id"].map((name) => [name, h("input", { type: "text", id: `new-${name}`, autocomplete: "off", spellcheck: "false" })]));
  const whose = h("fieldset", { class: "whose" });
  const result = h("div", { class: "result", "aria-live": "polite" });
  const go = h("button", { type: "submit", class: "primary" }, "Remember");
  const field = (name, input, hint) => h("label", { class: "field", for: input.id }, name, input, hint && h("span", { class: "hint" }, hint));
  const node = h("section", { class: "narrow", "aria-labelledby": "add-title" }, h("div", { class: "bar" }, h("h1", { id: "add-title" }, "Add a memory")),
    h("form", { class: "addform", submit: (event) => { event.preventDefault(); send(); }, keydown: (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) send(); } },
      whose,
      field("What was said", text, "A blank line begins the next message, and “Ana: …” says who speaks. Ctrl-Enter sends."),
      h("div", { class: "fields" }, field("Who speaks", speaker), field("When it was said", when, "Default: now"), field("Topic", topic, "Kept as metadata")),
      h("label", { class: "check" }, infer, h("span", {}, "Let the manager decide what to keep", h("span", { class: "hint" }, "Otherwise each message is stored as it is, and no model is asked."))),
      h("label", { class: "check" }, dry, h("span", {}, "Only show what would happen")),
      h("div", { class: "inline" }, go)),
    result);

  async function send() {
    const scope = state.scope || idsOf(Object.fromEntries(Object.entries(who).map(([name, input]) => [name, input.value.trim()])));
    if (!Object.keys(scope).length) return result.replaceChildren(problem({ message: "Whose memory is this?", remedy: "Fill in at least one of the three ids above." }));
    if (!text.value.trim()) return text.focus();
    const list = messages(text.value, speaker.value.trim()), lines = h("ol", { class: "operations" });
    const trying = dry.checked, state_ = loading(`Reading ${plural(list.length, "message")}…`);
    const body = { messages: list, ...scope, infer: infer.checked, dry_run: trying };
    if (when.value) body.timestamp = instant(when.value);
    if (topic.value.trim()) body.metadata = { topic: topic.value.trim() };
    go.disabled = true;
    result.replaceChildren(h("h2", { class: "label" }, trying ? "What would happen" : "What it did"), lines, state_);
    try {
      const done = await add(body, (one) => lines.append(line(one, trying)));
      state_.replaceWith(summary(done, trying));
      if (!trying) {
        text.value = "";
        if (!state.scope) document.dispatchEvent(new CustomEvent("first-scope", { detail: scope }));
        changed();
      }
    } catch (error) {
      state_.replaceWith(problem(error, send));
      if (lines.children.length && !trying) changed();
    } finally {
      go.disabled = false;
    }
    return null;
  }

  function load() {
    whose.hidden = state.scope !== null;
    whose.replaceChildren(h("legend", {}, "Whose memory is it?"), h("div", { class: "fields" }, Object.entries(who).map(([name, input]) => field({ user_id: "User", agent_id: "Agent", run_id: "Run" }[name], input))), h("p", { class: "hint" }, "One is enough: a person's name, say."));
    if (!result.children.length) result.replaceChildren();
  }
  return { node, load, once: true };
}

function summary(done, trying) {
  const counts = {};
  for (const { event } of done.results) counts[event] = (counts[event] || 0) + 1;
  const said = Object.entries(counts).map(([kind, n]) => `${n} ${kind}`).join(", ");
  return h("div", { class: "notice" }, h("p", {}, done.queued ? `The model is down: ${plural(done.queued, "message")} kept on the disk, to be remembered once it is back.`
    : done.results.length ? `${trying ? "Nothing was changed. It would be" : "Done"}: ${said}.` : "There was nothing worth keeping in it."),
    done.unreadable > 0 && h("p", { class: "soft" }, `${plural(done.unreadable, "reply", "replies")} of the model could not be read and changed nothing.`),
    !trying && done.results.length > 0 && h("p", {}, h("a", { href: "#/timeline" }, "See the timeline")));
}

function line(one, trying) {
  const before = one.previous_memory;
  return h("li", { class: "operation arrived", tabindex: 0, "data-item": true, "data-open": one.id && !trying ? `#/memories/${encodeURIComponent(one.id)}` : null },
    h("div", { class: "head" }, badge(one.event), one.reason && h("span", { class: "soft" }, one.reason), !trying && h("span", { class: "at soft" }, `#${one.operation}`)),
    one.event === "UPDATE" && before ? diff(before, one.memory) : h("p", { class: "diff alone" }, h(one.event === "DELETE" ? "del" : one.event === "ADD" ? "ins" : "span", {}, one.memory || before || "")));
}
