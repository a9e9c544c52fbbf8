/* Tokens of a row: what was counted with which tokenizer, and counting with another. */

import { request } from "./api.js";
import { byId, h } from "./dom.js";
import { plural, problem } from "./fixes.js";
import { duration, number, threeDigits } from "./format.js";
import { histogram } from "./row_figures.js";

const box = byId("token-lengths");
const form = byId("count-tokens");

function one(counted) {
  const { model, sample, rows, tokens, characters, longest_row: row } = counted;
  const figures = [["half up to", counted.median], ["90 %", counted.p90], ["99 %", counted.p99], ["longest", counted.longest]];
  const basis = sample === "all" ? `All ${plural(rows, "row")}` : `A seeded sample of ${plural(rows, "row")}`;
  const pace = tokens ? `, ${threeDigits(characters / tokens)} characters a token` : "";
  const drawing = histogram({ edges: counted.histogram_edges, rows: counted.histogram_rows, unit: "tokens", figures });
  return h("section", { class: "stack tight" }, h("h3", { class: "mono" }, model), ...drawing, h("p", { class: "muted" }, `${basis}, texts only, without a template: ${number(tokens)} tokens${pace}. Row ${number(row)} is the longest.`));
}

function show(list) {
  const empty = h("p", { class: "muted" }, "Not counted yet. A token is what a model reads and what limits a row; each model has its own.");
  box.replaceChildren(...(list.length ? list.map(one) : [empty]));
}

/** Show what has been counted. */
export async function showTokenLengths() {
  try {
    show(await request(`${box.dataset.url}?version=${box.dataset.version}`));
  } catch (error) {
    box.replaceChildren(problem(error));
  }
}

/** Let the form count with the model that it names. */
export function listenForCounts() {
  const button = form.querySelector("button");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.disabled) return;
    button.disabled = true;
    form.querySelector(".notice")?.remove();
    const start = performance.now();
    const tell = () => (button.textContent = `Counting… ${duration((performance.now() - start) / 1000)}`);
    tell();
    const timer = setInterval(tell, 500);
    try {
      await request(box.dataset.url, { method: "POST", body: { version: Number(box.dataset.version), model: form.model.value.trim() } });
      await showTokenLengths();
    } catch (error) {
      form.append(problem(error));
    } finally {
      clearInterval(timer);
      button.disabled = false;
      button.textContent = "Count tokens";
    }
  });
}
