/* Datasets: upload with a progress bar. */

import { ApiError, csrfToken, explain } from "./api.js";
import { byId } from "./dom.js";
import { startClock } from "./live.js";

const form = byId("upload");
startClock();

byId("upload-file").addEventListener("change", ({ target }) => {
  const name = byId("upload-name");
  if (!name.value && target.files[0]) name.value = target.files[0].name.replace(/\.[^.]+$/, "");
});

/** Send the form; fetch has no upload progress, XMLHttpRequest has. */
function send(data, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", "/api/v1/datasets/upload");
    request.setRequestHeader("X-CSRFToken", csrfToken());
    request.responseType = "json";
    request.upload.onprogress = ({ loaded, total }) => onProgress(loaded / total);
    request.onerror = () => reject(new TypeError("offline"));
    request.onload = () => {
      if (request.status < 300) resolve(request.response);
      else reject(new ApiError(request.status, request.response || {}));
    };
    request.send(data);
  });
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const [button, bar, problem] = [form.querySelector("button"), byId("upload-progress"), byId("upload-error")];
  if (button.disabled) return;
  button.disabled = true;
  problem.hidden = true;
  bar.hidden = false;
  try {
    const made = await send(new FormData(form), (fraction) => {
      bar.value = 100 * fraction;
      button.textContent = fraction < 1 ? `${Math.floor(100 * fraction)} %` : "Checking rows…";
    });
    location.assign(`/datasets/${made.id}`);
  } catch (error) {
    problem.textContent = explain(error);
    problem.hidden = false;
    bar.hidden = true;
    button.disabled = false;
    button.textContent = "Upload";
  }
});
