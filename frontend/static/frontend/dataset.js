/* One version of a dataset: its first rows. */

import { request } from "./api.js";
import { byId, copyText, focusScrollers, h, toast } from "./dom.js";
import { problem, sayWhatWasMade } from "./fixes.js";
import { startClock } from "./live.js";

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

async function showPreview() {
  const box = byId("preview");
  if (!box) return;
  try {
    box.replaceChildren(preview(await request(box.dataset.url)));
    focusScrollers(box, "td > div");
  } catch (error) {
    box.replaceChildren(h("div", { class: "note" }, problem(error)));
  }
}

startClock();
showPreview();
sayWhatWasMade();
document.querySelector("[data-copy]")?.addEventListener("click", async ({ currentTarget }) => {
  await copyText(byId(currentTarget.dataset.copy).textContent);
  toast("Copied.");
});
