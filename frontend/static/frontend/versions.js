/* What differs between two versions of a dataset. */

import { request } from "./api.js";
import { byId, focusScrollers, h } from "./dom.js";
import { problem, sayWhatWasMade } from "./fixes.js";
import { number } from "./format.js";
import { startClock } from "./live.js";

const SIGNS = { added: "+", removed: "−", changed: "±", unchanged: "=" };

const shown = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 1));

/** A text whose pieces that differ are marked. */
const marked = (pieces, tag) => pieces.map(([text, differs]) => (differs ? h(tag, {}, text) : text));

function cell(row, side, names) {
  const values = row[side];
  const tag = side === "before" ? "del" : "ins";
  const one = (name) => {
    const pieces = row.marks[name]?.[side] ?? [[shown(values[name]), false]];
    return h("div", { class: `diff-field ${side}` }, h("span", { class: "diff-name muted" }, name), h("span", { class: "diff-text" }, ...marked(pieces, tag)));
  };
  return h("td", {}, ...names.filter((name) => name in values).map(one));
}

function rowOf(row) {
  const names = [...new Set([...Object.keys(row.before), ...Object.keys(row.after)])];
  const numbers = [row.before_number, row.after_number].map((value) => h("td", { class: "number" }, number(value)));
  return h("tr", {}, ...numbers, cell(row, "before", names), cell(row, "after", names));
}

function rowsTable(kind, total, rows) {
  if (!total) return null;
  const title = `${kind[0].toUpperCase()}${kind.slice(1)} rows`;
  const head = ["Row before", "Row after"].map((name) => h("th", { scope: "col", class: "number" }, name));
  const texts = ["Before", "After"].map((name) => h("th", { scope: "col" }, name));
  const table = h("table", { class: "diff-rows", "data-kind": kind }, h("thead", {}, h("tr", {}, ...head, ...texts)), h("tbody", {}, ...rows.map(rowOf)));
  const heading = rows.length < total ? `${title}: the first ${number(rows.length)} of ${number(total)}` : `${title}: ${number(total)}`;
  return h("section", {}, h("h3", {}, heading), h("div", { class: "scroll-x", tabindex: "0", role: "region", "aria-label": title }, table));
}

function schemaTable(items) {
  if (!items.length) return null;
  const row = ({ name, before, after }) => h("tr", {}, h("th", { scope: "row", class: "mono" }, name), h("td", {}, before ?? h("span", { class: "muted" }, "not there")), h("td", {}, after ?? h("span", { class: "muted" }, "not there")));
  const head = ["Column or format", "Before", "After"].map((name) => h("th", { scope: "col" }, name));
  return h("section", {}, h("h3", {}, "Columns and formats"), h("div", { class: "scroll-x", tabindex: "0", role: "region", "aria-label": "Columns and formats" }, h("table", {}, h("thead", {}, h("tr", {}, ...head)), h("tbody", {}, ...items.map(row)))));
}

function difference({ before, after, columns, formats, rows }) {
  const counts = ["unchanged", "changed", "added", "removed"].map((kind) => h("div", { "data-kind": kind }, h("dt", {}, `${SIGNS[kind]} ${kind}`), h("dd", {}, number(rows[kind]), h("small", {}, rows[kind] === 1 ? " row" : " rows"))));
  const isSame = !rows.changed && !rows.added && !rows.removed && !columns.length && !formats.length;
  return [
    h("h3", { class: "visually-hidden" }, `Rows from version ${before} to ${after}`),
    h("dl", { class: "figure-strip" }, ...counts),
    isSame ? h("p", { class: "muted" }, "Both versions have the same rows, columns and formats.") : null,
    schemaTable([...formats, ...columns]),
    ...["changed", "added", "removed"].map((kind) => rowsTable(kind, rows[kind], rows[`${kind}_rows`])),
  ].filter(Boolean);
}

async function compare(form) {
  const [box, button] = [byId("diff"), form.querySelector("button")];
  const query = new URLSearchParams(new FormData(form));
  history.replaceState(null, "", `?${query}`);
  button.disabled = true;
  box.hidden = false;
  box.replaceChildren(h("p", { class: "muted" }, "Comparing every row…"));
  try {
    box.replaceChildren(...difference(await request(`${form.dataset.url}?${query}`)));
    focusScrollers(box, ".diff-field");
  } catch (error) {
    box.replaceChildren(problem(error));
  }
  button.disabled = false;
}

startClock();
sayWhatWasMade();
const form = byId("compare");
form?.addEventListener("submit", (event) => {
  event.preventDefault();
  compare(form);
});
if (form && "asked" in form.dataset) compare(form);
