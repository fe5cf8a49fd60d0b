// Lines over steps, as SVG of our own.

import { h, number, s } from "./dom.js";

const DASHES = ["", "6 3", "2 3", "8 3 2 3"];

export function ticks(low, high, count) {
  const rough = (high - low || 1) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one >= rough * 0.999);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-6; at += step) found.push(Number(at.toPrecision(12)));
  return found;
}

const digits = (value) => { const size = Math.abs(value); return size >= 100 ? 0 : size >= 1 ? 2 : size >= 0.01 ? 3 : 5; };
export const short = (value) => Math.abs(value) >= 10000 ? `${number(value / 1000, 1)}k` : number(value, digits(value));

// `lines`: [{ name, colour (1 to 8), dash (0 to 3), points: [[x, y], …] }]. Draws itself for the width it gets.
export function chart(title, lines) {
  const place = h("div", { class: "plot" }), legend = h("ul", { class: "legend" });
  const values = lines.map((line) => {
    const told = h("span", { class: "value" });
    legend.append(h("li", {}, swatch(line), line.name, " ", told));
    return told;
  });
  const ends = () => lines.forEach((line, i) => { values[i].textContent = short(line.points.at(-1)[1]); });
  const all = lines.flatMap((line) => line.points), xs = all.map(([x]) => x), ys = all.map(([, y]) => y);
  const left = Math.min(...xs), right = Math.max(...xs);
  let low = Math.min(...ys), high = Math.max(...ys);
  if (low >= 0 && low < high / 2) low = 0;
  if (low === high) { low -= 0.5; high += 0.5; }
  const name = `${title}: ${lines.map((line) => `${line.name} from ${short(line.points[0][1])} at step ${number(line.points[0][0])} to ${short(line.points.at(-1)[1])} at step ${number(line.points.at(-1)[0])}`).join("; ")}`;

  function draw() {
    const width = Math.max(place.clientWidth, 220), height = 180, edge = { left: 46, right: 10, top: 8, bottom: 24 };
    const x = (at) => edge.left + (width - edge.left - edge.right) * (right === left ? 0.5 : (at - left) / (right - left));
    const y = (at) => height - edge.bottom - (height - edge.top - edge.bottom) * (at - low) / (high - low);
    const rule = s("line", { class: "rule", y1: edge.top, y2: height - edge.bottom, visibility: "hidden" });
    const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": name },
      ticks(low, high, 4).map((at) => [s("line", { class: "grid", x1: edge.left, x2: width - edge.right, y1: y(at), y2: y(at) }), s("text", { x: edge.left - 6, y: y(at) + 4, "text-anchor": "end" }, short(at))]),
      ticks(left, right, width < 330 ? 3 : 5).filter((at) => Number.isInteger(at)).map((at) => s("text", { x: x(at), y: height - 6, "text-anchor": "middle" }, number(at))),
      lines.map((line) => line.points.length > 1
        ? s("path", { class: `line c${line.colour}`, "stroke-dasharray": DASHES[line.dash] || null, d: line.points.map(([at, value], i) => `${i ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`).join("") })
        : s("circle", { class: `dot c${line.colour}`, cx: x(line.points[0][0]), cy: y(line.points[0][1]), r: 3 })),
      rule);
    svg.addEventListener("pointermove", (event) => {
      const at = left + (right - left) * ((event.clientX - svg.getBoundingClientRect().left) / svg.clientWidth * width - edge.left) / (width - edge.left - edge.right);
      const near = lines.map((line) => line.points.reduce((best, point) => Math.abs(point[0] - at) < Math.abs(best[0] - at) ? point : best));
      rule.setAttribute("x1", x(near[0][0]));
      rule.setAttribute("x2", x(near[0][0]));
      rule.setAttribute("visibility", "visible");
      near.forEach((point, i) => { values[i].textContent = `${short(point[1])} at ${number(point[0])}`; });
    });
    svg.addEventListener("pointerleave", () => { rule.setAttribute("visibility", "hidden"); ends(); });
    place.replaceChildren(svg);
  }
  ends();
  new ResizeObserver(draw).observe(place);
  return h("figure", { class: "panel" }, h("figcaption", {}, title), place, legend);
}

export const swatch = ({ colour, dash }) => s("svg", { class: "swatch", viewBox: "0 0 22 8", "aria-hidden": "true" }, s("line", { class: `line c${colour}`, x1: 1, x2: 21, y1: 4, y2: 4, "stroke-dasharray": DASHES[dash] || null }));
