// What changed between two texts, word by word: a longest common subsequence, which is short for memories.

import { h } from "./dom.js";

const MOST = 400; // words; longer texts are shown whole, one after the other
const wordsOf = (text) => text.match(/\s+|[\p{L}\p{N}_'’-]+|[^\s\p{L}\p{N}_]/gu) || [];

// [["same" | "gone" | "new", text], …]
export function changes(before, after) {
  const a = wordsOf(before), b = wordsOf(after);
  if (a.length > MOST || b.length > MOST) return [["gone", before], ["new", after]];
  const common = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      common[i][j] = a[i] === b[j] ? common[i + 1][j + 1] + 1 : Math.max(common[i + 1][j], common[i][j + 1]);
  const found = [];
  const say = (kind, text) => {
    if (found.length && found.at(-1)[0] === kind) found.at(-1)[1] += text;
    else found.push([kind, text]);
  };
  let i = 0, j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) { say("same", a[i]); i++; j++; }
    else if (j >= b.length || (i < a.length && common[i + 1][j] >= common[i][j + 1])) say("gone", a[i++]);
    else say("new", b[j++]);
  }
  return joined(found);
}

// A lone space or comma between two changes is no island of sameness: it reads better as part of them.
function joined(parts) {
  const merged = [];
  let gone = "", fresh = "";
  const flush = () => {
    if (gone) merged.push(["gone", gone]);
    if (fresh) merged.push(["new", fresh]);
    gone = fresh = "";
  };
  parts.forEach(([kind, text], place) => {
    if (kind === "gone") gone += text;
    else if (kind === "new") fresh += text;
    else if (/^[\s,;.]*$/.test(text) && text.trim() === "" && (gone || fresh) && place < parts.length - 1) { gone += text; fresh += text; }
    else { flush(); merged.push([kind, text]); }
  });
  flush();
  return merged;
}

export function diff(before, after) {
  const names = { same: "span", gone: "del", new: "ins" };
  return h("p", { class: "diff" }, changes(before, after).map(([kind, text]) => h(names[kind], {}, text)));
}
