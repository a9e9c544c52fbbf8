/* One row token by token: chips to point at or to walk through with the arrow keys, and the trained share of the set. */

import { explain, request } from "./api.js";
import { byId, h, icon } from "./dom.js";
import { number, threeDigits } from "./format.js";
import { pairsOf, showTemplateProblem, syncEditor } from "./token_options.js";

const BLANKS = { " ": "·", "\t": "⇥", "\n": "↵", "\r": "␍", "\u00a0": "⍽" };
const SPLIT = /([ \t\n\r\u00a0]+|[\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff])/;
const PARTS = { end_of_turn: "end of turn", tool: "what a tool answered", other: "unknown: the tokenizer does not say" };
const SAMPLES = { all: "all rows", spread: "rows spread evenly over the set", first: "the first rows" };
const REASONS = { too_long: "too long", duplicate: "repeated", unfit: "unfit", emptied: "emptied by cleaning", other_language: "in another language", refused: "refused" };
const STATES = { unfit: "Validation leaves this row out", emptied: "Cleaning leaves nothing to train on", other_language: "Left out by its language", refused: "Training refuses this row", too_long: "Left out as too long" };

const form = byId("token-options");
const [chips, field, chunkField] = [byId("token-chips"), byId("token-row"), byId("token-chunk")];
let answer = null;
let rows = Number(byId("token-rows").textContent.replaceAll(",", ""));
let current = -1;
let pending = null;

const partOf = ({ part }) => PARTS[part] || part;
const plural = (count, word) => `${number(count)} ${word}${count === 1 ? "" : "s"}`;

const code = (sign) => `U+${sign.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;

/** Write a text with its white space and what has no width visible. */
function visible(text) {
  if (text === "") return [h("span", { class: "blank" }, "⋯")];
  return text.split(SPLIT).filter(Boolean).map((piece) => {
    if (!piece.match(SPLIT)) return piece;
    return h("span", { class: "blank" }, [...piece].map((sign) => BLANKS[sign] || code(sign)).join(""));
  });
}

/** Say a token in words, for those who hear it. */
function spoken({ text, trained, ...token }) {
  const words = text.replaceAll("\n", " line end ").replaceAll("\t", " tab ");
  const name = text === "" ? "goes on with the character before" : words.trim() === "" ? words.replaceAll(" ", "") || "space" : words;
  return `${name}, ${trained ? "trained" : "not trained"}, ${partOf(token)}`;
}

function chip(token, index) {
  const label = { class: `token${token.trained ? " trained" : ""}`, "data-part": token.part, "data-index": index, id: `token-${index}` };
  const element = h("span", { ...label, role: "option", "aria-selected": "false", "aria-label": spoken(token) }, ...visible(token.text));
  return token.text.endsWith("\n") ? [element, h("br", { "aria-hidden": "true" })] : [element];
}

/** The tokens of a row: of a preference those with the chosen answer, then those with the rejected one. */
const tokensOf = (found) => [...found.tokens, ...(found.rejected?.tokens || [])];

/** Where a token stands in its conversation. */
function positionOf(index) {
  const isRejected = index >= answer.tokens.length;
  const [place, length] = isRejected ? [index - answer.tokens.length, answer.rejected.length_tokens] : [index, answer.length_tokens];
  return `${number(place)} of ${number(length)}, from 0`;
}

function pick(index) {
  const token = answer && tokensOf(answer)[index];
  if (!token) return;
  for (const [place, isOn] of [[current, false], [index, true]]) {
    const element = byId(`token-${place}`);
    element?.setAttribute("aria-selected", String(isOn));
    element?.classList.toggle("current", isOn);
  }
  current = index;
  chips.setAttribute("aria-activedescendant", `token-${index}`);
  const pairs = { text: JSON.stringify(token.text), id: token.id, part: partOf(token), trained: token.trained ? "yes" : "no", position: positionOf(index) };
  byId("token-detail").replaceChildren(
    ...Object.entries(pairs).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", { class: "mono" }, value))),
  );
}

const border = (words) => h("span", { class: "token-border", role: "presentation" }, words);

/** Put a border behind what a chunk repeats of the one before, and where a row was cut. */
function withBorders(found, drawn) {
  const repeated = found.repeated_tokens;
  if (repeated) drawn.splice(repeated, 0, [border(`${plural(repeated, "token")} repeated`)]);
  const isCutAtEnd = found.cut_tokens && found.is_desirable === null && found.tokens.length === found.length_tokens;
  if (isCutAtEnd) drawn.push([border(`${plural(found.cut_tokens, "token")} cut`)]);
  return drawn;
}

function drawChunks(found) {
  byId("token-chunks").hidden = found.chunks < 2;
  chunkField.value = found.chunk;
  byId("chunk-count").textContent = number(found.chunks);
  byId("chunk-previous").disabled = found.chunk <= 1;
  byId("chunk-next").disabled = found.chunk >= found.chunks;
}

/** Draw the tokens; those of a preference under the name of each answer. */
function drawTokens(found) {
  if (!found.rejected) return withBorders(found, found.tokens.map(chip)).flat();
  const side = (name, tokens, first) =>
    h("div", { role: "group", "aria-label": name, class: "token-answer" }, h("span", { class: "token-answer-name", "aria-hidden": "true" }, name), ...tokens.flatMap((token, index) => chip(token, first + index)));
  return [side("Chosen", found.tokens, 0), side("Rejected", found.rejected.tokens, found.tokens.length)];
}

function drawRow(found) {
  const notes = [`${plural(found.length_tokens, "token")}, ${number(found.supervised_tokens)} trained`];
  if (found.rejected) notes[0] = `chosen: ${notes[0]}`;
  if (found.rejected) notes.push(`rejected: ${plural(found.rejected.length_tokens, "token")}, ${number(found.rejected.supervised_tokens)} trained`);
  if (found.is_desirable !== null) notes.push(found.is_desirable ? "the answer is wanted" : "the answer is not wanted");
  if (found.row_number !== found.row) notes.push(`row number ${number(found.row_number)} in reports`);
  if (found.tokens.length && found.tokens.length < found.length_tokens) notes.push(`the first ${number(found.tokens.length)} are shown`);
  if (found.chunks > 1) notes.push(`chunk ${number(found.chunk)} of ${number(found.chunks)}`);
  if (found.repeated_tokens) notes.push(`the first ${plural(found.repeated_tokens, "token")} repeated from the chunk before, untrained`);
  if (found.cut_tokens) notes.push(`${plural(found.cut_tokens, "token")} cut from the ${found.rejected || found.is_desirable !== null ? "beginning of the prompt" : "end"} to fit ${number(found.max_length_tokens)}${found.is_answer_cut ? ", trained ones among them" : ""}`);
  if (found.has_special_tokens) notes.push("a content holds a special token of the model");
  const isKept = found.state === "kept";
  byId("token-line").textContent = isKept ? `${notes.join("; ")}.` : "The trainer gets no token of this row.";
  const reason = isKept ? [] : [h("div", { class: "notice warn" }, icon("failed"), h("p", {}, `${STATES[found.state]}: ${found.message}.`))];
  byId("token-problem").replaceChildren(...reason);
  chips.hidden = !isKept;
  chips.removeAttribute("aria-activedescendant");
  chips.replaceChildren(...drawTokens(found));
  drawChunks(found);
  current = -1;
  byId("token-detail").replaceChildren();
  pick(0);
}

function drawShare(share) {
  const percent = share.fraction === null ? null : 100 * share.fraction;
  const words = percent === null ? "No token is trained." : `${threeDigits(percent)} % of the tokens are trained: ${number(share.supervised_tokens)} of ${number(share.tokens)}.`;
  const left = Object.entries(share.left_out_rows).map(([reason, count]) => `${number(count)} ${REASONS[reason] || reason}`);
  const basis = share.sample === "all" ? `Of all ${plural(share.rows, "row")}` : `A sample: ${number(share.rows)} of ${plural(rows, "row")}, ${SAMPLES[share.sample]}`;
  byId("token-share").replaceChildren(
    h("progress", { class: "token-share", max: 100, value: percent ?? 0, "aria-label": "Trained share of the tokens" }),
    h("p", {}, words),
    h("p", { class: "muted" }, `${basis}; ${number(share.kept_rows)} are kept${left.length ? `, left out: ${left.join(", ")}` : ""}.`),
  );
}

function query() {
  const places = [["row", field.value], ["chunk", chunkField.value]].filter(([name, value]) => value !== "" && (name === "row" || value !== "1"));
  return new URLSearchParams([...pairsOf(), ...places]).toString();
}

async function show() {
  pending?.abort();
  const mine = (pending = new AbortController());
  const asked = query();
  history.replaceState(null, "", `?${asked}`);
  const slow = setTimeout(() => (byId("token-line").textContent = "Making tokens… The first time a model is asked for can take half a minute."), 400);
  chips.setAttribute("aria-busy", "true");
  try {
    answer = await request(`${form.dataset.url}?${asked}`, { signal: mine.signal });
    rows = answer.rows;
    byId("token-rows").textContent = number(rows);
    drawRow(answer);
    showTemplateProblem(answer.code.startsWith("template_") ? answer.message : "");
    drawShare(answer.share);
  } catch (error) {
    if (mine.signal.aborted) return;
    answer = null;
    byId("token-line").textContent = "";
    chips.hidden = true;
    byId("token-chunks").hidden = true;
    showTemplateProblem(String(error.code || "").startsWith("template_") ? error.message : "");
    byId("token-problem").replaceChildren(h("div", { class: "notice bad", role: "alert" }, icon("failed"), h("p", {}, explain(error))));
    byId("token-share").replaceChildren(h("p", { class: "muted" }, "Not known."));
  } finally {
    clearTimeout(slow);
    if (pending === mine) {
      chips.removeAttribute("aria-busy");
      byId("token-previous").disabled = Number(field.value) <= 1;
      byId("token-next").disabled = Number(field.value) >= rows;
    }
  }
}

function step(by) {
  const next = Math.min(rows, Math.max(1, (Number(field.value) || 1) + by));
  if (next === Number(field.value)) return;
  field.value = next;
  chunkField.value = 1;
  show();
}

function stepChunk(by) {
  const chunks = answer?.chunks || 1;
  const next = Math.min(chunks, Math.max(1, (Number(chunkField.value) || 1) + by));
  if (next === answer?.chunk) return;
  chunkField.value = next;
  show();
}

const MOVES = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, PageDown: 50, PageUp: -50, Home: -Infinity, End: Infinity };
chips.addEventListener("keydown", (event) => {
  const by = MOVES[event.key];
  if (by === undefined || !answer || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  pick(Math.min(tokensOf(answer).length - 1, Math.max(0, current + by)));
  byId(`token-${current}`)?.scrollIntoView({ block: "nearest" });
});
for (const name of ["mouseover", "click"]) {
  chips.addEventListener(name, (event) => {
    const element = event.target.closest("[data-index]");
    if (element) pick(Number(element.dataset.index));
  });
}
document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "j") step(1);
  if (event.key === "k") step(-1);
  if (event.key === "n") stepChunk(1);
  if (event.key === "p") stepChunk(-1);
});
byId("token-previous").addEventListener("click", () => step(-1));
byId("token-next").addEventListener("click", () => step(1));
byId("chunk-previous").addEventListener("click", () => stepChunk(-1));
byId("chunk-next").addEventListener("click", () => stepChunk(1));
chunkField.addEventListener("change", show);
field.addEventListener("change", () => {
  chunkField.value = 1;
  show();
});
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("change", (event) => {
  if (event.target.name === "version") field.value = 1;
  chunkField.value = 1;
  syncEditor();
  show();
});
chunkField.value = new URLSearchParams(location.search).get("chunk") || 1;
syncEditor();
show();
