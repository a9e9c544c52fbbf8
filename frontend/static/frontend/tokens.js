/* API tokens: made, shown once, revoked. */

import { explain, request } from "./api.js";
import { byId, copyText, toast } from "./dom.js";
import { LiveFragment, startClock } from "./live.js";

const fragment = new LiveFragment(byId("live"), { onLost: (message) => message && toast(message, "bad") });
const form = byId("token-form");
startClock();

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("button");
  const error = byId("token-error");
  if (button.disabled) return;
  button.disabled = true;
  error.hidden = true;
  const { name, scope, days } = Object.fromEntries(new FormData(form));
  try {
    const token = await request("/api/v1/auth/tokens", {
      method: "POST",
      body: { name, scopes: [scope], expires_in_days: days ? Number(days) : null },
    });
    byId("token-key").textContent = token.key;
    byId("token-new").hidden = false;
    byId("token-copy").focus();
    form.reset();
    await fragment.refresh();
  } catch (failure) {
    error.textContent = explain(failure);
    error.hidden = false;
  } finally {
    button.disabled = false;
  }
});

byId("token-copy").addEventListener("click", async () => {
  try {
    await copyText(byId("token-key").textContent);
    toast("Key copied.");
  } catch (failure) {
    toast(failure.message, "bad");
  }
});

byId("live").addEventListener("click", (event) => {
  const button = event.target.closest("[data-revoke]");
  if (!button) return;
  const dialog = byId("confirm");
  byId("confirm-name").textContent = button.dataset.name;
  dialog.returnValue = "keep";
  dialog.showModal();
  dialog.onclose = () => dialog.returnValue === "revoke" && revoke(button.dataset.revoke, button.dataset.name);
});

async function revoke(url, name) {
  try {
    await request(url, { method: "DELETE" });
    toast(`${name} is revoked.`);
  } catch (failure) {
    toast(explain(failure), "bad");
  }
  await fragment.refresh();
}
