// The API's description (openapi.json) as a page: each path with what goes in, what comes out, and a curl command.

import { h, loading, problem } from "./dom.js";

const main = document.getElementById("main");

async function begin() {
  main.replaceChildren(loading());
  try {
    const reply = await fetch(new URL("openapi.json", document.baseURI), { credentials: "omit" });
    if (!reply.ok) throw new Error(`The server answered with status ${reply.status}.`);
    main.replaceChildren(...page(await reply.json()));
    if (location.hash) document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
  } catch (error) {
    main.replaceChildren(problem(error, begin));
  }
}

function page(api) {
  const groups = {};
  for (const [path, methods] of Object.entries(api.paths))
    for (const [method, one] of Object.entries(methods)) (groups[one.tags?.[0] || "other"] ??= []).push({ path, method: method.toUpperCase(), ...one });
  return [h("h1", {}, `${api.info.title} ${api.info.version}`), h("p", {}, api.info.description),
    h("nav", { class: "toc", "aria-label": "Paths" }, Object.entries(groups).map(([tag, all]) => h("div", {}, h("h2", { class: "label" }, tag), all.map((one) => h("a", { href: `#${slug(one)}` }, h("span", { class: `method ${one.method.toLowerCase()}` }, one.method), one.path))))),
    ...Object.entries(groups).flatMap(([tag, all]) => [h("h2", { class: "group" }, tag), ...all.map((one) => path(api, one))])];
}
const slug = ({ method, path }) => `${method.toLowerCase()}${path.replace(/[{}]/g, "").replaceAll("/", "-")}`;

function path(api, one) {
  const body = one.requestBody?.content?.["application/json"]?.schema, ok = one.responses?.[200]?.content || {};
  return h("article", { id: slug(one), class: "path" },
    h("h3", {}, h("span", { class: `method ${one.method.toLowerCase()}` }, one.method), h("code", {}, one.path)),
    one.description && h("p", {}, one.description),
    one.parameters?.length > 0 && table("Parameters", one.parameters.map((each) => [each.name, each.schema, each.required, each.description, each.in])),
    body && table("Body", fields(api, body)),
    h("pre", { class: "curl", tabindex: 0, "aria-label": "curl command" }, curl(api, one, body)),
    Object.entries(ok).map(([kind, { schema }]) => h("details", {}, h("summary", {}, `Answer: ${kind}`), schema && answer(api, schema))));
}

const resolved = (api, schema) => schema?.$ref ? api.components.schemas[schema.$ref.split("/").at(-1)] : schema || {};
const fields = (api, schema) => {
  const { properties = {}, required = [] } = resolved(api, schema);
  return Object.entries(properties).map(([name, one]) => [name, one, required.includes(name), one.description]);
};

function table(title, rows) {
  if (!rows.length) return null;
  return h("div", { class: "wide" }, h("table", {}, h("caption", {}, title), h("tbody", {}, rows.map(([name, schema, required, text, where]) =>
    h("tr", {}, h("th", { scope: "row" }, h("code", {}, name), required && h("span", { class: "tag" }, "required")), h("td", {}, type(schema), where && where !== "query" && h("span", { class: "soft" }, ` in ${where}`), schema?.default !== undefined && schema.default !== null && h("span", { class: "soft" }, ` = ${JSON.stringify(schema.default)}`)), h("td", {}, text || ""))))));
}

function answer(api, schema) {
  const inner = schema.type === "array" ? schema.items : schema, rows = fields(api, inner);
  return rows.length ? table(schema.type === "array" ? "a list, each" : "", rows) : h("p", { class: "soft" }, type(schema));
}

function type(schema = {}) {
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  if (schema.anyOf) return schema.anyOf.map(type).filter((one) => one !== "null").join(" or ");
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return `list of ${type(schema.items)}`;
  return schema.type || "anything";
}

function sample(api, schema, name) {
  const one = resolved(api, schema);
  if (one.examples?.length) return one.examples[0];
  if (one.default !== undefined && one.default !== null) return one.default;
  if (one.anyOf) return sample(api, one.anyOf[0], name);
  if (one.type === "object") return Object.fromEntries(fields(api, one).filter(([, , required]) => required).map(([each, inner]) => [each, sample(api, inner, each)]));
  if (one.type === "array") return [sample(api, one.items, name)];
  if (one.type === "integer" || one.type === "number") return 1;
  return one.type === "boolean" ? true : { question: "Where does Alice live?", query: "Where does Alice live?", model: "any", content: "Hello", role: "user" }[name] ?? "…";
}

function curl(api, one, body) {
  const given = body && sample(api, body), ids = body && resolved(api, body).properties?.user_id && { user_id: "alice" };
  const asks = one.parameters?.some((each) => each.name === "user_id") ? "?user_id=alice" : "";
  const url = `${location.origin}${one.path.replace(/\{(\w+)\}/g, (_, name) => `$${name.toUpperCase()}`)}${asks}`;
  return [`curl ${one.method === "GET" ? "" : `-X ${one.method} `}"${url}"`, ...(body ? ['-H "Content-Type: application/json"', `-d '${JSON.stringify({ ...given, ...ids }).replaceAll("'", "'\\''")}'`] : [])].join(" \\\n  ");
}

begin();
