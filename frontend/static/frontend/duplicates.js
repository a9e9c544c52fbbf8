/* Near duplicates: pairs side by side, a decision for each by mouse or key, and the decisions as a new version. */

import { explain, request } from "./api.js";
import { byId, focusScrollers, h, toast } from "./dom.js";
import { goToMade, plural, problem } from "./fixes.js";
import { number } from "./format.js";
import { startClock } from "./live.js";

const PAGE_PAIRS = 10;
const DECISIONS = { keep_both: "Keep both", drop_second: "Drop the second", drop_first: "Drop the first" };
const STATES = { undecided: "undecided", keep_both: "keep both", drop_second: "drop the second", drop_first: "drop the first", all: "all" };

const [form, list, pager, status] = ["search-pairs", "pair-list", "pager", "pairs-status"].map(byId);
const { url } = form.dataset;
const version = Number(form.dataset.version);
let review = null;
let state = "undecided";
let offset = 0;
let current = 0;

const threshold = () => Number(form.threshold.value);
const totalOf = (name) => (name === "all" ? Object.values(review.counts).reduce((sum, count) => sum + count, 0) : review.counts[name]);

/** Similarity in percent; what is not quite the same never reads 100. */
const percent = (similarity) => `${similarity === 1 ? 100 : Math.min(99.9, Math.floor(1000 * similarity) / 10)} %`;

function side(pair, which) {
  const pieces = pair[`${which}_text`].map(([text, differs]) => (differs ? h("mark", {}, text) : text));
  return h("div", { class: "pair-side", "data-side": which }, h("p", { class: "muted" }, `Row ${number(pair[which])}`), h("div", { class: "pair-text" }, ...pieces));
}

function pairItem(pair, index) {
  const name = `rows ${number(pair.first)} and ${number(pair.second)}`;
  const buttons = Object.entries(DECISIONS).map(([decision, words], key) =>
    h("button", { class: "button small", type: "button", "data-decision": decision, "aria-pressed": String(pair.decision === decision), "aria-keyshortcuts": String(key + 1), onclick: () => decide(index, pair.decision === decision ? null : decision) }, words));
  const head = h("header", {}, h("h3", {}, `Rows ${number(pair.first)} and ${number(pair.second)}`, h("span", { class: "muted" }, ` ${percent(pair.similarity)} similar`)), h("div", { class: "decisions", role: "group", "aria-label": `Decision on ${name}` }, ...buttons));
  return h("li", { class: "pair card", tabindex: "-1", "data-decision": pair.decision || "", "aria-label": `Pair of ${name}, ${percent(pair.similarity)} similar` }, head, h("div", { class: "pair-sides" }, side(pair, "first"), side(pair, "second")));
}

function drawStates() {
  const one = ([name, words]) => h("button", { class: "chip", type: "button", "aria-pressed": String(state === name), onclick: () => show({ state: name, offset: 0 }) }, words, h("span", { class: "muted" }, ` ${number(totalOf(name))}`));
  byId("states").replaceChildren(...Object.entries(STATES).map(one));
  const { drop_first: first, drop_second: second, keep_both: kept, undecided } = review.counts;
  const dropped = first + second;
  byId("review-sum").textContent = dropped ? `At most ${plural(dropped, "row")} would be dropped, ${plural(kept, "pair")} kept as they are, ${number(undecided)} undecided stay.` : `${plural(undecided, "pair")} undecided; they stay as they are.`;
  byId("apply-decisions").disabled = !dropped;
  byId("decide-rest").hidden = !undecided;
}

function drawPager() {
  const total = totalOf(state);
  pager.hidden = total <= PAGE_PAIRS && !offset;
  byId("pager-place").textContent = `Pairs ${number(Math.min(total, offset + 1))} to ${number(Math.min(total, offset + review.pairs.length))} of ${number(total)}`;
  for (const button of pager.querySelectorAll("button")) button.disabled = Number(button.dataset.step) < 0 ? !offset : offset + PAGE_PAIRS >= total;
}

function drawStatus() {
  const { pairs_total: total, compared_rows: compared, rows, capped_rows: capped, counts } = review;
  const kept = Object.values(counts).reduce((sum, count) => sum + count, 0);
  const notes = [`${plural(total, "row")} nearly ${total === 1 ? "repeats" : "repeat"} an earlier one, among ${number(compared)} compared.`];
  if (compared < rows) notes.push(`Of ${number(rows)} rows these have a text, or are the first 200,000.`);
  if (kept < total) notes.push(`The ${number(kept)} most similar pairs can be reviewed; drop what repeats, and look again in the new version.`);
  if (capped) notes.push(`${number(capped)} resemble so many others that they were not compared with all of them.`);
  status.replaceChildren(h("p", { class: "pairs-note muted" }, notes.join(" ")));
}

function draw() {
  drawStatus();
  drawStates();
  byId("review").hidden = !totalOf("all");
  const nothing = state === "undecided" ? "Every pair is decided. Apply the decisions as a new version, or look at them by the buttons above." : "No pair has this decision.";
  list.replaceChildren(...(review.pairs.length ? review.pairs.map(pairItem) : [h("li", { class: "card empty muted" }, nothing)]));
  if (!totalOf("all")) status.replaceChildren(h("div", { class: "card empty stack" }, h("h2", {}, "No near duplicates"), h("p", { class: "muted" }, `None of ${plural(review.compared_rows, "row")} shares ${Math.round(100 * review.threshold)} % or more with an earlier one. A lower limit finds more distant ones.`)));
  focusScrollers(list, ".pair-text");
  drawPager();
  point(Math.min(current, Math.max(0, review.pairs.length - 1)), { isFocusing: false });
}

function point(index, { isFocusing = true } = {}) {
  current = index;
  [...list.children].forEach((item, place) => item.classList.toggle("current", place === index && review.pairs.length > 0));
  const item = list.children[index];
  if (!isFocusing || !item) return;
  item.focus({ preventScroll: true });
  item.scrollIntoView({ block: "nearest" });
}

async function show(wanted = {}) {
  ({ state = state, offset = offset } = wanted);
  const button = form.querySelector("button");
  button.disabled = true;
  const slow = setTimeout(() => status.replaceChildren(h("p", { class: "pairs-note muted" }, `Comparing rows… ${review ? "" : "The first time takes some seconds."}`)), 300);
  const query = new URLSearchParams({ version, threshold: threshold(), state, offset, limit: PAGE_PAIRS });
  try {
    review = await request(`${url}?${query}`);
    if (wanted.offset !== undefined) current = 0;
    draw();
  } catch (error) {
    status.replaceChildren(problem(error));
    byId("review").hidden = true;
  } finally {
    clearTimeout(slow);
    button.disabled = false;
  }
}

const send = (body) => request(`${url}/decisions`, { method: "POST", body: { version, threshold: threshold(), ...body } });

/** Note a decision: shown at once, taken back if the server refuses it. The pair stays where it is until the page is turned. */
async function decide(index, decision) {
  const pair = review.pairs[index];
  const before = pair.decision;
  setDecision(index, decision);
  try {
    await send({ decisions: [{ first: pair.first, second: pair.second, decision }] });
  } catch (error) {
    setDecision(index, before);
    toast(explain(error), "bad");
  }
}

function setDecision(index, decision) {
  const pair = review.pairs[index];
  review.counts[pair.decision || "undecided"] -= 1;
  review.counts[decision || "undecided"] += 1;
  pair.decision = decision;
  const item = list.children[index];
  item.dataset.decision = decision || "";
  for (const button of item.querySelectorAll("[data-decision]")) button.setAttribute("aria-pressed", String(button.dataset.decision === decision));
  drawStates();
}

async function busily(button, words, action) {
  if (button.disabled) return;
  const before = button.textContent;
  button.disabled = true;
  button.textContent = words;
  try {
    await action();
  } catch (error) {
    toast(explain(error), "bad");
  }
  button.textContent = before;
  button.disabled = false;
}

document.addEventListener("keydown", (event) => {
  if (!review?.pairs.length || event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
  const decision = Object.keys(DECISIONS)[Number(event.key) - 1];
  if (event.key === "j" && current < review.pairs.length - 1) point(current + 1);
  else if (event.key === "k" && current > 0) point(current - 1);
  else if (decision) {
    decide(current, decision);
    if (current < review.pairs.length - 1) point(current + 1);
  }
});
list.addEventListener("focusin", (event) => {
  const index = [...list.children].indexOf(event.target.closest(".pair"));
  if (index >= 0) point(index, { isFocusing: false });
});
pager.addEventListener("click", async (event) => {
  const step = Number(event.target.closest("button")?.dataset.step || 0);
  if (!step) return;
  await show({ offset: Math.max(0, offset + step * PAGE_PAIRS) });
  byId("review").scrollIntoView({ block: "start" });
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  review = null;
  show({ state: "undecided", offset: 0 });
});
byId("decide-rest").addEventListener("click", ({ currentTarget }) => busily(currentTarget, "Deciding…", async () => {
  await send({ rest: "drop_second" });
  await show({ offset: 0 });
}));
byId("apply-decisions").addEventListener("click", ({ currentTarget }) => busily(currentTarget, "Writing the rows…", async () => {
  const made = await request(`${url}/apply`, { method: "POST", body: { version } });
  goToMade(made, location.pathname.replace(/\/duplicates$/, ""));
}));

startClock();
const known = form.dataset.known.split(" ").filter(Boolean).map(Number);
if (known.length) {
  const options = [...form.threshold.options].map((option) => option.value);
  const last = options.find((value) => Number(value) === known[0]);
  if (last) {
    form.threshold.value = last;
    show();
  }
}
