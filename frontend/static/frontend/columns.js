/* Mapping: what was found in a file, another way to read it, and the first rows as they would then be kept. */

import { explain, request } from "./api.js";
import { byId, focusScrollers, h, icon, toast } from "./dom.js";
import { goToMade, plural, problem } from "./fixes.js";
import { label, number } from "./format.js";
import { startClock } from "./live.js";

const PREVIEW_AFTER_MS = 200;
const TITLES = { system: "system message", input: "further input", label: "wanted or not", messages: "messages" };
const EXAMPLES = {
  messages: "a list of role and content", label: "true or false", history: "pairs of question and answer", tools: "a list of functions", text: "a text to go on with",
};

const form = byId("mapping");
const save = byId("mapping-save");
const { url, version } = form.dataset;
const versionQuery = version ? `?version=${version}` : "";
const withVersion = (body) => (version ? { version: Number(version), ...body } : body);
let found = null;
let columns = {}; // part -> column, for whatever is chosen
let pending = null;
let timer = 0;

const offer = () => found.offers[Number(new FormData(form).get("offer") ?? -1)];
const missing = () => offer().required.filter((part) => !columns[part]);
const choice = () => ({ row_format: offer().row_format, columns: Object.fromEntries([...offer().required, ...offer().optional].filter((part) => columns[part]).map((part) => [part, columns[part]])) });
const titleOf = (part) => TITLES[part] || part;

function drawFound() {
  const isFound = found.row_format !== null;
  const words = isFound ? [h("strong", {}, `${found.file_format}, ${label(found.row_format)}. `), found.reason] : [h("strong", {}, "Nothing is lost. "), `${found.reason} Choose below what the columns are.`];
  byId("mapping-found").className = `notice ${isFound ? "" : "warn"}`;
  byId("mapping-found").replaceChildren(icon(isFound ? "report" : "warning"), h("p", {}, ...words));
}

function drawOffers(chosen) {
  const one = ({ name, row_format: format, required, optional }, index) => {
    const radio = h("input", { type: "radio", name: "offer", value: index, checked: index === chosen });
    const parts = `${required.map(titleOf).join(" + ")}${optional.length ? `, perhaps ${optional.map(titleOf).join(", ")}` : ""}`;
    return h("label", { class: "offer" }, radio, h("span", {}, h("strong", {}, label(name)), name !== format ? h("span", { class: "muted" }, ` kept as ${label(format)}`) : null, h("span", { class: "offer-parts muted" }, parts)));
  };
  byId("offers").replaceChildren(...found.offers.map(one));
}

/** A select for each part of the chosen way of writing a row. */
function drawParts() {
  const { required, optional } = offer();
  const one = (part) => {
    const isRequired = required.includes(part);
    const options = found.columns.map(({ name, type }) => h("option", { value: name, selected: columns[part] === name }, `${name} (${type})`));
    const select = h("select", { id: `part-${part}`, "data-part": part, required: isRequired }, h("option", { value: "" }, isRequired ? "choose a column" : "none"), ...options);
    const example = EXAMPLES[part] ? h("span", { class: "help" }, EXAMPLES[part]) : null;
    return h("div", { class: "field" }, h("label", { for: `part-${part}` }, titleOf(part), isRequired ? null : h("span", { class: "muted" }, " (optional)")), select, example);
  };
  byId("parts").replaceChildren(...[...required, ...optional].map(one));
}

function drawProblem(error) {
  byId("mapping-problem").replaceChildren(...(error ? [h("div", { class: "notice bad" }, icon("failed"), h("p", {}, typeof error === "string" ? error : explain(error)))] : []));
}

function message({ role, content }) {
  const text = typeof content === "string" ? content : JSON.stringify(content);
  return h("div", { class: "message", "data-role": role }, h("span", { class: "role" }, role), h("span", { class: "content" }, text || "(empty)"));
}

function keptRow({ row_number: row, messages, problems }) {
  const wrong = problems.map(({ severity, message: text }) => h("p", { class: "row-problem", "data-severity": severity }, icon(severity === "error" ? "failed" : "warning"), h("span", {}, text)));
  return h("li", {}, h("span", { class: "row-number muted" }, `row ${number(row)}`), h("div", { class: "messages" }, ...messages.map(message), ...wrong));
}

function drawKept(rows, note = "") {
  byId("kept-rows").replaceChildren(...rows.map(keptRow));
  focusScrollers(byId("kept-rows"), ".content");
  const bad = rows.filter(({ problems }) => problems.some(({ severity }) => severity === "error")).length;
  byId("kept-note").textContent = note || (bad ? `${number(bad)} of ${plural(rows.length, "row")} cannot be trained on` : `${plural(rows.length, "row")}, all fit to train on`);
}

function drawRaw() {
  const names = found.columns.map(({ name }) => name);
  const used = new Map(Object.entries(columns).map(([part, column]) => [column, part]));
  const head = names.map((name) => h("th", { scope: "col" }, h("span", { class: "mono" }, name), used.has(name) && offer() ? h("span", { class: "used" }, ` ${titleOf(used.get(name))}`) : null));
  const text = (value) => (value === undefined || value === null ? "–" : typeof value === "string" ? value : JSON.stringify(value));
  const body = found.raw_rows.map(({ row_number: row, values }) => h("tr", {}, h("td", { class: "number" }, number(row)), ...names.map((name) => h("td", {}, h("div", {}, text(values[name]))))));
  const table = h("table", { class: "raw" }, h("thead", {}, h("tr", {}, h("th", { scope: "col", class: "number" }, "Row"), ...head)), h("tbody", {}, ...body));
  byId("raw-rows").replaceChildren(h("div", { class: "scroll-x", tabindex: "0", role: "region", "aria-label": "First rows, as they are in the file" }, table));
  focusScrollers(byId("raw-rows"), "td > div");
}

async function preview() {
  pending?.abort();
  const mine = (pending = new AbortController());
  save.disabled = true;
  const open = missing();
  drawRaw();
  if (open.length) {
    drawProblem(null);
    byId("parts-note").textContent = `still to choose: ${open.map(titleOf).join(", ")}`;
    drawKept([], "choose a column for each part first");
    return;
  }
  byId("parts-note").textContent = "";
  try {
    const tried = await request(`${url}/preview`, { method: "POST", body: withVersion(choice()), signal: mine.signal });
    drawProblem(null);
    drawKept(tried.rows);
    save.disabled = false;
  } catch (error) {
    if (mine.signal.aborted) return;
    drawProblem(error);
    drawKept([], "nothing to show");
  }
}

/** Take over what is known: what was found, or, of two columns, the first as the question. */
function begin() {
  columns = { ...found.sources };
  const parts = Object.keys(columns);
  const fits = ({ required, optional, row_format: format }) => format === found.row_format && required.every((part) => columns[part]) && parts.every((part) => [...required, ...optional].includes(part));
  let index = found.offers.findIndex(fits);
  if (index < 0) {
    const names = found.columns.map(({ name }) => name);
    const isPair = names.length === 2;
    index = found.offers.findIndex(({ name }) => name === (names.length === 1 ? "text" : "prompt_completion"));
    if (isPair) columns = { prompt: names[0], completion: names[1] };
    if (names.length === 1) columns = { text: names[0] };
  }
  drawOffers(index);
  drawParts();
  drawRaw();
}

form.addEventListener("change", ({ target }) => {
  if (target.name === "offer") drawParts();
  if (target.dataset.part) {
    for (const [part, column] of Object.entries(columns)) {
      if (column === target.value && part !== target.dataset.part) delete columns[part]; // a column is one part only
    }
    columns[target.dataset.part] = target.value;
    if (!target.value) delete columns[target.dataset.part];
    for (const select of byId("parts").querySelectorAll("select")) select.value = columns[select.dataset.part] || "";
  }
  clearTimeout(timer);
  timer = setTimeout(preview, PREVIEW_AFTER_MS);
});

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (save.disabled) return;
  const words = save.textContent;
  save.disabled = true;
  save.textContent = "Reading every row…";
  try {
    const made = await request(url, { method: "POST", body: withVersion(choice()) });
    goToMade({ changes: {}, ...made }, `/datasets/${made.id}`);
  } catch (error) {
    drawProblem(error);
    save.textContent = words;
    save.disabled = false;
  }
});

byId("discard")?.addEventListener("click", async ({ currentTarget }) => {
  if (currentTarget.dataset.sure === undefined) {
    currentTarget.dataset.sure = "";
    currentTarget.lastChild.textContent = "Press again: the file is then gone";
    return;
  }
  try {
    await request(currentTarget.dataset.url, { method: "DELETE" });
    location.assign("/datasets");
  } catch (error) {
    toast(explain(error), "bad");
  }
});

async function show() {
  try {
    found = await request(`${url}${versionQuery}`);
  } catch (error) {
    byId("mapping-found").replaceWith(problem(error));
    return;
  }
  form.hidden = false;
  drawFound();
  begin();
  preview();
}

startClock();
show();
