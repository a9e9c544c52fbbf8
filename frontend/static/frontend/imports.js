/* Imports: ask for one, and follow all that have not ended. */

import { explain, request } from "./api.js";
import { byId, toast } from "./dom.js";
import { LiveFragment, startClock, whileVisible } from "./live.js";

const [form, source, parts, problem, list] = ["import", "import-source", "import-parts", "import-error", "import-list"].map(byId);
const fragment = new LiveFragment(list);
const isObject = () => source.value.trim().startsWith("s3://");
const hasOpen = () => list.querySelector("[data-open]") !== null;

/** Return what the form asks for; empty fields are left out, and a bucket's object has no parts. */
function asked() {
  const named = [...new FormData(form)].map(([name, value]) => [name, value.trim()]).filter(([, value]) => value);
  return { [isObject() ? "address" : "repository"]: source.value.trim(), ...Object.fromEntries(named) };
}

source.addEventListener("input", () => {
  parts.disabled = isObject(); // a disabled field is no part of FormData
});

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("button");
  if (button.disabled) return;
  button.disabled = true;
  problem.hidden = true;
  try {
    await request("/api/v1/datasets/import", { method: "POST", body: asked() });
    form.reset();
    parts.disabled = false;
    source.focus();
    await fragment.refresh();
  } catch (error) {
    problem.textContent = explain(error);
    problem.hidden = false;
  } finally {
    button.disabled = false;
  }
});

list.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-remove]");
  if (!button || button.disabled) return;
  button.disabled = true;
  try {
    await request(`/api/v1/datasets/imports/${button.dataset.remove}`, { method: "DELETE" });
    await fragment.refresh();
    source.focus();
  } catch (error) {
    button.disabled = false;
    toast(explain(error), "bad");
  }
});

startClock();
whileVisible(() => (hasOpen() ? fragment.refresh() : undefined), () => 1);
