/* Versions of a dataset: fixes as a new one, and what differs between two. */

import { explain, request } from "./api.js";
import { byId, h, icon, toast } from "./dom.js";
import { label, number } from "./format.js";

const VERBS = { drop: "drop the rows", strip: "strip the characters", repair: "repair the text", mask: "mask the values" };
const problem = (error) => h("div", { class: "notice bad", role: "alert" }, icon("failed"), h("p", {}, explain(error)));

function choice({ code, action, rows, meaning, is_suggested: isSuggested }) {
  const box = h("input", { type: "checkbox", name: "codes", value: code, checked: isSuggested });
  const text = h("span", {}, h("strong", {}, label(code)), ` in ${number(rows)} ${rows === 1 ? "row" : "rows"}: ${VERBS[action]}`);
  return h("li", {}, h("label", { class: "choice" }, box, text), h("p", { class: "muted" }, meaning));
}

/** Apply the chosen fixes and go to the version that they make. */
async function apply(form, url, version) {
  const button = form.querySelector("button");
  const codes = new FormData(form).getAll("codes");
  if (button.disabled) return;
  if (!codes.length) return toast("Choose at least one fix.", "bad");
  button.disabled = true;
  button.textContent = "Fixing…";
  try {
    const made = await request(url, { method: "POST", body: { version, codes } });
    sessionStorage.setItem("fixed", `Version ${made.version} was made: ${number(made.rows)} of ${number(made.changes.rows_before ?? made.rows)} rows.`);
    location.reload();
  } catch (error) {
    form.querySelector(".notice")?.remove();
    form.append(problem(error));
    button.disabled = false;
    button.textContent = "Apply fixes";
  }
}

/** Build the form of a version's fixes. */
export function fixes({ version, fixes: proposals }, url) {
  if (!proposals.length) return h("p", { class: "muted" }, "The checks found nothing that can be fixed by itself.");
  const button = h("button", { class: "button primary" }, "Apply fixes");
  const note = h("p", { class: "muted" }, `Makes a new version; version ${version} stays as it is. Every changed row is counted.`);
  const form = h("form", { class: "fixes", "aria-label": "Fixes" }, h("ul", {}, ...proposals.map(choice)), button, note);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    apply(form, url, version);
  });
  return form;
}

/** Say what the page before this one did. */
export function sayWhatWasFixed() {
  const said = sessionStorage.getItem("fixed");
  sessionStorage.removeItem("fixed");
  if (said) toast(said);
}

const shown = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 1));

function rowOf({ before_number: old, after_number: fresh, before, after }) {
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])];
  const cell = (values, tone) => h("td", {}, ...names.filter((name) => name in values).map((name) => h("div", { class: tone }, h("span", { class: "muted" }, `${name} `), shown(values[name]))));
  return h("tr", {}, h("td", { class: "number" }, number(old)), h("td", { class: "number" }, number(fresh)), cell(before, "gone"), cell(after, "come"));
}

function rowsTable(title, total, rows) {
  if (!total) return null;
  const head = ["row before", "row after"].map((name) => h("th", { scope: "col", class: "number" }, name));
  const texts = ["before", "after"].map((name) => h("th", { scope: "col" }, name));
  const table = h("table", { class: "diff" }, h("thead", {}, h("tr", {}, ...head, ...texts)), h("tbody", {}, ...rows.map(rowOf)));
  const heading = rows.length < total ? `${title}: ${number(total)}, the first ${number(rows.length)}` : `${title}: ${number(total)}`;
  return h("section", {}, h("h3", {}, heading), h("div", { class: "scroll-x", tabindex: "0", role: "region", "aria-label": title }, table));
}

function schemaTable(items) {
  if (!items.length) return null;
  const row = ({ name, before, after }) => h("tr", {}, h("td", { class: "mono" }, name), h("td", {}, before ?? "–"), h("td", {}, after ?? "–"));
  const head = ["what", "before", "after"].map((name) => h("th", { scope: "col" }, name));
  return h("section", {}, h("h3", {}, "Columns and formats"), h("table", {}, h("thead", {}, h("tr", {}, ...head)), h("tbody", {}, ...items.map(row))));
}

function difference({ before, after, columns, formats, rows }) {
  const figures = ["unchanged", "changed", "added", "removed"].map((name) => h("div", {}, h("dt", {}, name), h("dd", {}, number(rows[name]))));
  const summary = h("section", {}, h("h3", {}, `Rows from version ${before} to ${after}`), h("dl", { class: "figures-of-report" }, ...figures));
  return [
    summary,
    schemaTable([...formats, ...columns]),
    rowsTable("Changed rows", rows.changed, rows.changed_rows),
    rowsTable("Added rows", rows.added, rows.added_rows),
    rowsTable("Removed rows", rows.removed, rows.removed_rows),
  ].filter(Boolean);
}

/** Let the form compare two versions. */
export function listenForComparisons() {
  const form = byId("compare");
  if (!form) return;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const [box, button] = [byId("diff"), form.querySelector("button")];
    button.disabled = true;
    box.hidden = false;
    box.replaceChildren(h("p", { class: "muted" }, "Comparing…"));
    try {
      box.replaceChildren(...difference(await request(`${form.dataset.url}?${new URLSearchParams(new FormData(form))}`)));
    } catch (error) {
      box.replaceChildren(problem(error));
    }
    button.disabled = false;
  });
}
