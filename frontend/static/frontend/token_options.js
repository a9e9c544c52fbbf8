/* What the form of the token view asks for, and the editor of a custom template. */

import { byId } from "./dom.js";

const form = byId("token-options");
const [editor, area, gutter, problem, goTo] = ["token-editor", "token-custom_template", "token-gutter", "token-template-problem", "token-go-to-line"].map(byId);
let wrongLine = 0;

/** Return the pairs of the form: lists apart, switches only where they differ from the default, empty fields left out. */
export function pairsOf() {
  const lists = new Set([...form.querySelectorAll("[data-list]")].map((input) => input.name));
  const switches = [...form.querySelectorAll("[data-switch]")];
  const names = new Set(switches.map((input) => input.name));
  const pairs = [...new FormData(form)].filter(([name]) => !names.has(name));
  const apart = pairs.flatMap(([name, value]) => (lists.has(name) ? value.split(/[\s,]+/).map((part) => [name, part]) : [[name, value]]));
  const turned = switches.filter((input) => String(input.checked) !== input.dataset.switch).map((input) => [input.name, String(input.checked)]);
  return [...apart, ...turned].filter(([, value]) => value !== "");
}

/** Show the editor where the template is a custom one; a disabled one is no part of the form. */
export function syncEditor() {
  const isCustom = byId("token-template").value === "custom";
  editor.hidden = editor.disabled = !isCustom;
  drawGutter();
}

function drawGutter() {
  const lines = area.value.split("\n").map((_, index) => index + 1);
  gutter.replaceChildren(...lines.flatMap((line) => {
    const mark = document.createElement(line === wrongLine ? "b" : "span");
    mark.textContent = line === wrongLine ? `▸${line}` : `${line}\n`;
    return mark;
  }));
  gutter.scrollTop = area.scrollTop;
}

/** Say at the template what is wrong with it, and mark the line; nothing where `message` is not about it. */
export function showTemplateProblem(message) {
  const text = !editor.disabled && message ? message : "";
  wrongLine = Number(/\(line (\d+) of the template\)/.exec(text)?.[1] || 0);
  problem.hidden = !text;
  problem.textContent = text;
  area.toggleAttribute("aria-invalid", Boolean(text));
  if (text) area.setAttribute("aria-invalid", "true");
  goTo.hidden = !wrongLine;
  goTo.textContent = `Go to line ${wrongLine}`;
  drawGutter();
}

goTo.addEventListener("click", () => {
  const lines = area.value.split("\n");
  const start = lines.slice(0, wrongLine - 1).reduce((sum, line) => sum + line.length + 1, 0);
  area.focus();
  area.setSelectionRange(start, start + (lines[wrongLine - 1] || "").length);
  area.scrollTop = Math.max(0, wrongLine - 3) * parseFloat(getComputedStyle(area).lineHeight);
});
area.addEventListener("input", drawGutter);
area.addEventListener("scroll", () => {
  gutter.scrollTop = area.scrollTop;
});
