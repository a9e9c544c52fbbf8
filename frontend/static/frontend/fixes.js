/* Fixes that a report suggests, applied as a new version; and a word about what the page before has made. */

import { explain, request } from "./api.js";
import { byId, h, icon, toast } from "./dom.js";
import { label, number } from "./format.js";

const VERBS = { drop: "drop the rows", strip: "strip the characters", repair: "repair the text", mask: "mask the values" };
const MADE = "made";

export const problem = (error) => h("div", { class: "notice bad", role: "alert" }, icon("failed"), h("p", {}, explain(error)));
export const plural = (count, word) => `${number(count)} ${word}${count === 1 ? "" : "s"}`;

function choice({ code, action, rows, meaning, is_suggested: isSuggested }) {
  const box = h("input", { type: "checkbox", name: "codes", value: code, checked: isSuggested });
  const text = h("span", {}, h("strong", {}, label(code)), ` in ${plural(rows, "row")}: ${VERBS[action]}`);
  return h("li", {}, h("label", { class: "choice" }, box, text), h("p", { class: "muted" }, meaning));
}

/** Go to a version that was made, and let that page say so. */
export function goToMade(made, url) {
  sessionStorage.setItem(MADE, `Version ${made.version} was made: ${number(made.rows)} of ${number(made.changes.rows_before ?? made.rows)} rows.`);
  location.assign(`${url}?version=${made.version}`);
}

/** Say what the page before this one did. */
export function sayWhatWasMade() {
  const said = sessionStorage.getItem(MADE);
  sessionStorage.removeItem(MADE);
  if (said) toast(said);
}

async function apply(form, url, version) {
  const button = form.querySelector("button");
  const codes = new FormData(form).getAll("codes");
  if (button.disabled) return;
  if (!codes.length) return toast("Choose at least one fix.", "bad");
  button.disabled = true;
  button.textContent = "Fixing…";
  try {
    goToMade(await request(url, { method: "POST", body: { version, codes } }), location.pathname);
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

/** Fetch the fixes into their box. */
export async function showFixes() {
  const box = byId("fixes");
  const { url, version } = box.dataset;
  try {
    box.replaceChildren(fixes(await request(`${url}?version=${version}`), url));
  } catch (error) {
    box.replaceChildren(problem(error));
  }
}
