/* One dataset: its first rows and its report, each loaded beside the page. */

import { explain, request } from "./api.js";
import { byId, h, icon } from "./dom.js";
import { startClock } from "./live.js";
import { render } from "./report.js";
import { fixes, listenForComparisons, sayWhatWasFixed } from "./versions.js";

const problem = (error) => h("div", { class: "notice bad" }, icon("failed"), h("p", {}, explain(error)));
const isChat = (value) => Array.isArray(value) && value.every((turn) => typeof turn?.role === "string" && typeof turn.content === "string");

function cellText(value) {
  if (typeof value === "string") return value;
  if (value === null || value === undefined) return "–";
  if (isChat(value)) return value.map(({ role, content }) => `${role}: ${content}`).join("\n");
  return JSON.stringify(value, null, 1);
}

function preview({ rows }) {
  if (!rows.length) return h("p", { class: "loading muted" }, "The file has no rows.");
  const columns = [...new Set(rows.flatMap(Object.keys))];
  const head = h("tr", {}, ...columns.map((name) => h("th", { scope: "col" }, name)));
  const body = rows.map((row) => h("tr", {}, ...columns.map((name) => h("td", {}, h("div", {}, cellText(row[name]))))));
  return h("div", { class: "scroll-x", tabindex: "0", role: "region", "aria-label": "First rows" }, h("table", {}, h("thead", {}, head), h("tbody", {}, ...body)));
}

async function show(id, build) {
  const box = byId(id);
  if (!box) return;
  try {
    box.replaceChildren(...[build(await request(box.dataset.url))].flat());
  } catch (error) {
    box.replaceChildren(problem(error));
  }
}

startClock();
show("preview", preview);
show("dataset-report", render);
show("fixes", (found) => fixes(found, byId("fixes").dataset.url));
listenForComparisons();
sayWhatWasFixed();
