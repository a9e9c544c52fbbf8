/* Figures of what rows are like: lengths as a histogram, shares as bars. */

import { chart } from "./chart.js";
import { byId, h } from "./dom.js";
import { number, threeDigits } from "./format.js";

/** Draw rows by length, in steps that double; `figures` are pairs of a name and a length. */
export function histogram({ edges, rows, unit, figures }) {
  const box = h("div", { class: "drawing small" });
  const first = rows.findIndex((count) => count > 0);
  const from = Math.max(0, first);
  const points = rows.slice(from).map((count, index) => ({ x: edges[from + index], y: count }));
  chart(box, { title: `Rows by ${unit}`, type: "histogram", series: [{ name: "rows", points }], xLabel: `${unit}, from`, yLabel: "rows" });
  const pairs = figures.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, number(value))));
  return [box, h("dl", { class: "quantiles" }, ...pairs)];
}

/** Draw shares of `total` as a list with bars, the most first. */
export function shareList(counts, total, nameOf) {
  const most = Math.max(...Object.values(counts));
  const entries = Object.entries(counts).sort(([, one], [, other]) => other - one);
  const item = ([name, count]) => h("li", {}, h("span", { class: "share-name" }, nameOf(name)), h("progress", { class: "share-bar", max: most, value: count, "aria-hidden": "true" }), h("span", { class: "number" }, `${threeDigits((100 * count) / total)} %`, h("span", { class: "muted" }, ` ${number(count)}`)));
  return h("ul", { class: "shares" }, ...entries.map(item));
}

/** Show the lengths in characters that the import has counted. */
export function showCharacters({ length_histogram: lengths, row_characters: characters }) {
  const box = byId("characters");
  if (!lengths || !characters || !("median" in characters)) {
    box.replaceChildren(h("p", { class: "muted" }, "Not counted: no row is fit to train on."));
    return;
  }
  const figures = [["half up to", characters.median], ["90 %", characters.p90], ["99 %", characters.p99], ["longest", characters.longest]];
  box.replaceChildren(...histogram({ edges: lengths.edges, rows: lengths.rows, unit: "characters", figures }));
}
