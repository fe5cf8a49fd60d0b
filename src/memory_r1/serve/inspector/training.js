// Training runs: their curves, one run or several in the same panels.

import { get } from "./api.js";
import { chart, swatch } from "./chart.js";
import { button, dayOf, h, loading, notice, number, problem } from "./dom.js";

const MOST = 4;

export function view() {
  const list = h("div"), panels = h("div", { class: "panels", "aria-live": "polite" });
  const node = h("section", { "aria-labelledby": "training-title" }, h("div", { class: "bar" }, h("h1", { id: "training-title" }, "Training"), button("Refresh", () => load(), { class: "quiet", "data-refresh": true })), list, panels);
  let runs = [], chosen = [], asked = 0;

  async function load() {
    const mine = ++asked;
    if (!runs.length) list.replaceChildren(loading());
    try {
      runs = (await get("runs")).results;
      if (mine !== asked) return;
      chosen = chosen.filter((name) => runs.some((run) => run.name === name));
      if (!chosen.length) chosen = runs.filter((run) => run.steps > 0).slice(0, 1).map((run) => run.name);
      drawRuns();
      await drawPanels();
    } catch (error) {
      if (mine !== asked) return;
      panels.replaceChildren();
      list.replaceChildren(error.code === "runs_off" ? notice("No training runs are shown", "Start the server with the folder that your runs are in, and their curves will be here:", h("pre", {}, "memory-r1 serve --runs runs"))
        : error.code === "other_scope" ? notice("This key cannot see training runs", "They are made from everybody's memory. A key made with memory-r1 keys create --everybody can.") : problem(error, load));
    }
  }

  function drawRuns() {
    if (!runs.length) return list.replaceChildren(notice("No runs yet", "A run appears here with its first step:", h("pre", {}, "memory-r1 train manager --algo sft --data synthetic:200 --out runs/manager-sft")));
    return list.replaceChildren(h("ul", { class: "runs", "aria-label": "Training runs" }, runs.map((run) => {
      const on = chosen.indexOf(run.name);
      return h("li", {}, h("label", { class: on >= 0 ? "run on" : "run" }, h("input", { type: "checkbox", checked: on >= 0, disabled: !run.steps, "data-item": true, change: (event) => choose(run.name, event.target) }),
        h("span", { class: "run-name" }, run.name, on >= 0 && chosen.length > 1 && swatch({ colour: on + 1, dash: 0 })),
        h("span", { class: "soft small" }, run.problem ? run.problem : [run.agent, run.algo, run.model].filter(Boolean).join(" · ")),
        h("span", { class: "small run-state" }, `${number(run.steps)}${run.planned ? ` of ${number(run.planned)}` : ""} steps`, run.reward !== null && ` · reward ${number(run.reward, 3)}`, run.date && ` · ${dayOf(run.date)}`)));
    })));
  }

  function choose(name, input) {
    if (input.checked) chosen = [...chosen, name].slice(-MOST);
    else chosen = chosen.filter((one) => one !== name);
    drawRuns();
    list.querySelectorAll("input")[runs.findIndex((run) => run.name === name)]?.focus();
    drawPanels();
  }

  async function drawPanels() {
    const mine = ++asked;
    if (!chosen.length) return panels.replaceChildren(runs.length ? notice("Choose a run", "Tick one above, or several to see them in the same panels.") : "");
    try {
      const found = await Promise.all(chosen.map((name) => get(`runs/${encodeURIComponent(name)}`)));
      if (mine !== asked) return null;
      const titles = [...new Set(found.flatMap((run) => run.panels.map((panel) => panel.title)))];
      panels.replaceChildren(...titles.map((title) => chart(title, found.flatMap((run, i) => (run.panels.find((panel) => panel.title === title)?.series || []).map((one, j) => ({
        name: [found.length > 1 && run.name, one.name.replace(/^operations\//, "")].filter(Boolean).join(" "), points: one.points, colour: found.length > 1 ? i + 1 : j + 1, dash: found.length > 1 ? j % 4 : 0,
      }))))), found.length === 1 ? settings(found[0]) : "");
      if (!titles.length) panels.replaceChildren(notice("No curves yet", "The run has not finished its first step."));
    } catch (error) {
      if (mine === asked) panels.replaceChildren(problem(error, drawPanels));
    }
    return null;
  }
  return { node, load };
}

const settings = (run) => h("details", { class: "settings" }, h("summary", {}, "Settings of the run"), h("dl", { class: "facts" }, Object.entries(run.config).map(([name, value]) =>
  h("div", {}, h("dt", {}, name), h("dd", {}, value !== null && typeof value === "object" ? JSON.stringify(value) : String(value))))));
