// Calls of this server's API. The key lives in this tab's sessionStorage and goes into a header, never into a URL.

const KEY = "memory-r1 key";
let key = null;
try { key = sessionStorage.getItem(KEY); } catch { /* storage is off: the key lasts as long as the page */ }

export function useKey(text) {
  key = text || null;
  try { if (key) sessionStorage.setItem(KEY, key); else sessionStorage.removeItem(KEY); } catch { /* as above */ }
}
export const hasKey = () => key !== null;

// What went wrong, and what to do about it.
export class Problem extends Error {
  constructor(status, { code = "failed", message, remedy = "" }, more = {}) {
    super(message);
    Object.assign(this, { status, code, remedy, more });
  }
}

async function send(method, path, { query = {}, body, headers = {}, signal } = {}) {
  const url = new URL(path, document.baseURI);
  for (const [name, value] of Object.entries(query)) if (value !== null && value !== undefined && value !== "") url.searchParams.set(name, value);
  const all = { ...headers };
  if (body !== undefined) all["Content-Type"] = "application/json";
  if (key) all["X-API-Key"] = key;
  let reply;
  try {
    reply = await fetch(url, { method, headers: all, signal, credentials: "omit", cache: "no-store", body: body === undefined ? undefined : JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { code: "offline", message: "The server does not answer.", remedy: "See whether memory-r1 serve is still running, then try again." });
  }
  if (reply.ok) return reply;
  const told = await reply.json().catch(() => ({}));
  if (reply.status === 401) document.dispatchEvent(new CustomEvent("key-needed", { detail: { known: key !== null } }));
  const { error, ...more } = told;
  throw new Problem(reply.status, error || { message: `The server answered with status ${reply.status}.`, remedy: "Look at the server's log." }, more);
}

export const get = async (path, query, signal) => (await send("GET", path, { query, signal })).json();
export const post = async (path, body, signal) => (await send("POST", path, { body, signal })).json();
export const put = async (path, body) => (await send("PUT", path, { body })).json();
export const remove = async (path) => (await send("DELETE", path)).json();

// POST /memories, telling each operation when it is done. Returns what the event `done` holds.
export async function add(body, told) {
  const reply = await send("POST", "memories", { query: { stream: "true" }, body });
  let waiting = "", result = null;
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const blocks = (waiting + value).split("\n\n");
    waiting = blocks.pop();
    for (const block of blocks) {
      const line = (name) => block.split("\n").find((one) => one.startsWith(`${name}: `))?.slice(name.length + 2);
      const event = line("event");
      if (!event) continue; // a comment: it is still at it
      const data = JSON.parse(line("data"));
      if (event === "operation") told(data);
      else if (event === "done") result = data;
      else throw new Problem(503, data.error, data);
    }
  }
  if (result === null) throw new Problem(0, { message: "The connection was lost before the end.", remedy: "What was begun goes on in the server: look at the timeline." });
  return result;
}
