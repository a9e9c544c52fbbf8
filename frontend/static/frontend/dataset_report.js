/* The report of a version: rows by problem, each problem by row, and what the rows are like. */

import { request } from "./api.js";
import { byId, h, icon } from "./dom.js";
import { plural, problem, sayWhatWasMade, showFixes } from "./fixes.js";
import { label, number, threeDigits } from "./format.js";
import { startClock } from "./live.js";
import { shareList, showCharacters } from "./row_figures.js";
import { listenForCounts, showTokenLengths } from "./token_lengths.js";

const PAGE_ROWS = 25;
const MARKS = { error: "failed", warning: "warning" };

const box = document.querySelector("[data-report]");
const [filters, pager] = ["filters", "pager"].map(byId);
let problems = [];
let report = null;
let page = 0;

const severityMark = (severity) => h("span", { class: "severity", "data-severity": severity }, icon(MARKS[severity]), severity);

function drawVerdict({ verdict, summary }) {
  const isWhole = !summary.dropped_rows;
  const tone = isWhole && !summary.rows_with_warnings ? "good" : isWhole ? "warn" : "bad";
  const more = summary.rows_with_warnings ? ` ${plural(summary.rows_with_warnings, "row")} with warnings.` : " No warnings.";
  byId("report-verdict").className = `notice ${tone}`;
  byId("report-verdict").replaceChildren(icon(tone === "good" ? "succeeded" : tone === "warn" ? "warning" : "failed"), h("p", {}, verdict.replace(/[.;]?$/, "."), more));
}

/** A bar for each code; choosing one lists its rows. */
function drawCounts({ counts }, rows) {
  if (!counts.length) {
    byId("counts").replaceChildren(h("p", { class: "note muted" }, "Every row passed every check."));
    return;
  }
  const most = Math.max(...counts.map((count) => count.rows));
  const one = ({ code, severity, rows: found, meaning }) => {
    const share = threeDigits((100 * found) / rows);
    const bar = h("progress", { class: "count-bar", max: most, value: found, "aria-hidden": "true" });
    const button = h("button", { class: "count", type: "button", "aria-pressed": "false", "data-code": code, "data-severity": severity, onclick: () => choose(code) },
      severityMark(severity), h("span", { class: "count-name" }, h("strong", {}, label(code)), h("span", { class: "muted" }, meaning)), bar, h("span", { class: "number" }, plural(found, "row"), h("span", { class: "muted" }, `${share} %`)));
    return h("li", {}, button);
  };
  byId("counts").replaceChildren(h("ul", { class: "counts" }, ...counts.map(one)));
}

function choose(code) {
  filters.code.value = filters.code.value === code ? "" : code;
  filters.severity.value = "";
  page = 0;
  drawProblems();
}

function drawRow({ row_number: row, field, code, severity, message, fix }) {
  return h("tr", {}, h("td", { class: "number" }, number(row)), h("td", { class: "mono" }, field || "–"), h("td", {}, severityMark(severity), " ", label(code)), h("td", {}, message), h("td", { class: "muted" }, fix));
}

function drawProblems() {
  const { severity, code } = Object.fromEntries(new FormData(filters));
  const chosen = problems.filter((item) => (!severity || item.severity === severity) && (!code || item.code === code));
  const pages = Math.max(1, Math.ceil(chosen.length / PAGE_ROWS));
  page = Math.min(page, pages - 1);
  const shown = chosen.slice(page * PAGE_ROWS, (page + 1) * PAGE_ROWS);
  const head = ["Row", "Field", "Problem", "What is wrong", "What to do"].map((name) => h("th", { scope: "col", class: name === "Row" ? "number" : null }, name));
  const table = h("table", { class: "problem-table" }, h("thead", {}, h("tr", {}, ...head)), h("tbody", {}, ...shown.map(drawRow)));
  const none = h("p", { class: "note muted" }, "No row has such a problem.");
  byId("problem-rows").replaceChildren(shown.length ? h("div", { class: "scroll-x", tabindex: "0", role: "region", "aria-label": "Problems by row" }, table) : none);
  const total = report.data.problems_total;
  const rest = total > problems.length ? ` The report lists the first 100 of each problem; there are ${number(total)} in all.` : "";
  byId("problems-note").textContent = `${plural(chosen.length, "problem")}${severity || code ? ` of ${number(problems.length)}` : ""}.${rest}`;
  pager.hidden = pages === 1;
  byId("pager-place").textContent = `Page ${page + 1} of ${pages}`;
  for (const button of pager.querySelectorAll("button")) button.disabled = Number(button.dataset.step) < 0 ? page === 0 : page === pages - 1;
  for (const button of document.querySelectorAll(".count")) button.setAttribute("aria-pressed", String(button.dataset.code === code));
  drawSamples(code);
}

function drawSamples(code) {
  const all = (report.samples || []).filter((sample) => !code || sample.code === code);
  byId("samples").hidden = !all.length;
  const one = (sample) => h("figure", { class: "sample-text" }, h("figcaption", {}, `row ${number(sample.row)}, ${sample.field}: ${label(sample.code)}`), h("blockquote", {}, sample.text));
  byId("sample-list").replaceChildren(...all.slice(0, code ? 10 : 6).map(one));
}

function listen() {
  filters.addEventListener("change", () => {
    page = 0;
    drawProblems();
  });
  filters.addEventListener("submit", (event) => event.preventDefault());
  pager.addEventListener("click", (event) => {
    const step = Number(event.target.closest("button")?.dataset.step || 0);
    if (!step) return;
    page += step;
    drawProblems();
    byId("problems").scrollIntoView({ block: "start" });
  });
}

function drawShares({ splits, labels, languages_of_sample: languages }, rows) {
  const sampled = Object.values(languages || {}).reduce((sum, count) => sum + count, 0);
  const note = sampled < rows ? `Of a seeded sample of ${plural(sampled, "row")}, by what stands last in them.` : `Of all ${plural(rows, "row")}, by what stands last in them.`;
  const nothing = h("p", { class: "muted" }, "No language was looked for: no row is fit to train on.");
  byId("languages").replaceChildren(...(sampled ? [shareList(languages, sampled, languageName), h("p", { class: "muted" }, note)] : [nothing]));
  const parts = [["Rows by split", splits], ["Rows by label", labels]].filter(([, counts]) => counts && Object.keys(counts).length);
  byId("shares").hidden = !parts.length;
  byId("share-list").replaceChildren(...parts.map(([title, counts]) => h("section", { class: "stack tight" }, h("h3", {}, title), shareList(counts, Object.values(counts).reduce((sum, count) => sum + count, 0), (name) => name))));
}

function languageName(code) {
  if (code === "unclear") return "unclear, or too short to tell";
  try {
    return new Intl.DisplayNames(["en"], { type: "language" }).of(code);
  } catch {
    return code;
  }
}

async function showReport() {
  try {
    report = await request(box.dataset.report);
  } catch (error) {
    byId("report-verdict").replaceWith(problem(error));
    byId("counts").replaceChildren(h("p", { class: "note muted" }, "The report could not be loaded."));
    return;
  }
  const { data, summary } = report;
  problems = data.problems;
  drawVerdict(report);
  drawCounts(data, summary.rows);
  filters.code.append(...data.counts.map(({ code }) => h("option", { value: code }, label(code))));
  byId("problems").hidden = !problems.length;
  showCharacters(data.statistics);
  drawShares(data.statistics, summary.rows);
  listen();
  drawProblems();
}

startClock();
sayWhatWasMade();
showReport();
showFixes();
showTokenLengths();
listenForCounts();
