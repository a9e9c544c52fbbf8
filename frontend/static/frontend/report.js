/* The report viewer: a report.json of any agent as summary, tables, drawings and samples. */

import { explain, request } from "./api.js";
import { chart } from "./chart.js";
import { byId, h, icon, s } from "./dom.js";
import { label, measured, number, threeDigits } from "./format.js";

const MAX_TABLE_ROWS = 500;
const MAX_SAMPLES = 50;

function summary(report) {
  const entries = Object.entries(report.summary || {});
  if (!entries.length) return null;
  const pairs = entries.map(([name, value]) => h("div", {}, h("dt", {}, label(name)), h("dd", {}, measured(value, name))));
  return h("section", {}, h("dl", { class: "figures-of-report" }, ...pairs));
}

function table({ title, columns, rows }) {
  const isNumber = columns.map((_, index) => rows.length > 0 && rows.every((row) => row[index] === null || typeof row[index] === "number"));
  const head = columns.map((name, index) => h("th", { scope: "col", class: isNumber[index] ? "number" : null }, name));
  // JSON writes 1.0 as 1: where one value of a column has decimals, all get them.
  const hasDecimals = isNumber.map((isOne, index) => isOne && rows.some((row) => row[index] !== null && !Number.isInteger(row[index])));
  const text = (value, index) => (hasDecimals[index] && Number.isInteger(value) ? threeDigits(value) : measured(value, columns[index]));
  const cell = (value, index) => h("td", { class: isNumber[index] ? "number" : null }, text(value, index));
  const body = rows.slice(0, MAX_TABLE_ROWS).map((row) => h("tr", {}, ...row.map(cell)));
  const more = rows.length > MAX_TABLE_ROWS ? h("p", { class: "muted" }, `The first ${MAX_TABLE_ROWS} of ${number(rows.length)} rows; download the report for all.`) : null;
  const whole = h("table", {}, h("thead", {}, h("tr", {}, ...head)), h("tbody", {}, ...body));
  return h("section", {}, h("h3", {}, title), h("div", { class: "scroll-x", tabindex: "0", role: "region", "aria-label": title }, whole), more);
}

function legend(series) {
  if (series.length < 2) return null;
  const mark = (index) => s("svg", { class: "chart", viewBox: "0 0 20 8", "aria-hidden": "true" }, s("path", { class: `curve-line s${index % 4}`, d: "M0 4H20" }));
  return h("div", { class: "legend" }, ...series.map((one, index) => h("span", {}, mark(index), one.name)));
}

function figure(source) {
  const series = source.series.map(({ name, x, y, low, high }) => ({
    name,
    points: x.map((at, index) => ({ x: at, y: y[index] ?? NaN, low: low?.[index], high: high?.[index] })),
  }));
  const box = h("div", { class: "drawing" });
  chart(box, { title: source.title, type: source.type, series, xLabel: source.x_label, yLabel: source.y_label });
  return h("section", {}, h("h3", {}, source.title), box, legend(series));
}

function samples(report) {
  const all = report.samples || [];
  if (!all.length) return null;
  const text = (value) => (typeof value === "string" ? value : typeof value === "object" && value !== null ? JSON.stringify(value, null, 1) : number(value));
  const one = (sample) => h("dl", { class: "sample" }, ...Object.entries(sample).flatMap(([name, value]) => [h("dt", {}, label(name)), h("dd", {}, text(value))]));
  return h("section", {}, h("h3", {}, "Samples"), ...all.slice(0, MAX_SAMPLES).map(one));
}

/** Turn a report into the sections of its view. */
export function render(report) {
  const verdict = report.verdict ? h("div", { class: "notice" }, icon("report"), h("p", {}, report.verdict)) : null;
  const parts = [verdict, summary(report), ...(report.figures || []).map(figure), ...(report.tables || []).map(table), samples(report)];
  return parts.filter(Boolean);
}

/** Fetch a report and show it in the dialog. */
async function open(url) {
  const [dialog, body, title] = [byId("report"), byId("report-body"), byId("report-title")];
  title.textContent = "Report";
  body.replaceChildren(h("p", { class: "muted" }, "Loading…"));
  dialog.showModal();
  try {
    const report = await request(url);
    title.textContent = report.title;
    body.replaceChildren(...render(report));
  } catch (error) {
    body.replaceChildren(h("div", { class: "notice bad" }, icon("failed"), h("p", {}, `The report could not be loaded. ${explain(error)}`)));
  }
}

/** Let every `[data-report]` button of the page open its report. */
export function listenForReports() {
  const dialog = byId("report");
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-report]");
    if (button) open(button.dataset.report);
    if (event.target === dialog) dialog.close(); // a click on the backdrop
  });
  byId("report-close").addEventListener("click", () => dialog.close());
}
