// Making elements. Text reaches the page only as text nodes and attribute values, never as markup.

const HTML = "http://www.w3.org/1999/xhtml", SVG = "http://www.w3.org/2000/svg";

function make(space, name, attributes, children) {
  const node = document.createElementNS(space, name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(key, value);
    else if (key === "style") for (const [property, set] of Object.entries(value)) node.style.setProperty(property, set);
    else if (key === "value") node.value = value;
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== false && child !== undefined));
  return node;
}
export const h = (name, attributes, ...children) => make(HTML, name, attributes, children);
export const s = (name, attributes, ...children) => make(SVG, name, attributes, children);

export const button = (text, click, attributes = {}) => h("button", { type: "button", click, ...attributes }, text);
export const kbd = (...keys) => keys.map((key, i) => [i ? " " : "", h("kbd", {}, key)]);

// -- times: the log's are in UTC, people read theirs

const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const midnight = /T00:00(:00)?(\.0+)?(Z|\+00:00)?$/;

export const dayOf = (iso) => day.format(new Date(iso));
export const clockOf = (iso) => clock.format(new Date(iso));
export function time(iso, { onlyClock = false } = {}) {
  const text = midnight.test(iso) ? day.format(new Date(iso.slice(0, 10) + "T12:00"))
    : onlyClock ? clockOf(iso) : `${dayOf(iso)}, ${clockOf(iso)}`;
  return h("time", { datetime: iso, title: iso }, text);
}
// What a date or time field holds, as the API takes it: with the zone that the reader means.
export const instant = (field) => field ? new Date(field).toISOString() : null;

export const number = (value, digits = 0) =>
  Number(value).toLocaleString("en", { minimumFractionDigits: 0, maximumFractionDigits: digits });
export const plural = (n, one, many = `${one}s`) => `${number(n)} ${n === 1 ? one : many}`;
export const shown = (value) => typeof value === "string" ? value : JSON.stringify(value);

// Where an item that had the focus has been drawn anew, the focus goes to what stands in its place.
export const itemInFocus = () => document.activeElement?.closest("[data-item][data-id]");
export function refocus(item) {
  if (item && !item.isConnected && document.activeElement === document.body) document.querySelector(`[data-item][data-id="${CSS.escape(item.dataset.id)}"]`)?.focus({ preventScroll: true });
}
export function redraw(draw) {
  const item = itemInFocus();
  draw();
  refocus(item);
}

// -- what a view says when it has nothing to show

export const notice = (title, text, ...more) => h("div", { class: "empty" }, h("h2", {}, title), text && h("p", {}, text), more);
export const loading = (text = "Loading…") => h("p", { class: "loading", role: "status" }, h("span", { class: "spinner", "aria-hidden": "true" }), text);
export function problem(error, retry) {
  return h("div", { class: "problem", role: "alert" }, h("strong", {}, error.message), error.remedy && h("p", {}, error.remedy),
    retry && button("Try again", retry));
}

export function toast(text, { bad = false, action = null } = {}) {
  const gone = () => box.remove();
  const box = h("div", { class: bad ? "toast bad" : "toast" }, h("span", {}, text),
    action && button(action.text, () => { gone(); action.run(); }), button("×", gone, { class: "icon", "aria-label": "Close" }));
  const place = document.getElementById("toasts");
  while (place.children.length > 2) place.firstChild.remove();
  place.append(box);
  setTimeout(gone, action ? 12000 : 6000);
}
