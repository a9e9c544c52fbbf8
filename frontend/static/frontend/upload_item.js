/* One file on its way to the server: its row of the list, and the request that sends it. */

import { ApiError, csrfToken, explain } from "./api.js";
import { h, icon } from "./dom.js";
import { duration, size } from "./format.js";

const URL_OF_UPLOADS = "/api/v1/datasets/upload";
const RATE_AFTER_SECONDS = 0.3; // before, a rate would jump about

let made = 0;

/** The name of a dataset that a file's name suggests. */
export const nameOf = (file) => file.name.replace(/\.(gz|gzip|zst|zstd)$/i, "").replace(/\.[^.]+$/, "").slice(0, 200) || "dataset";

/** States: waiting, sending, checking, done, unmapped (kept, to be mapped), failed. */
export class UploadItem {
  constructor(file, { onRemove }) {
    Object.assign(this, { file, state: "waiting", answer: null, request: null, timer: null });
    made += 1;
    const id = `upload-name-${made}`;
    this.name = h("input", { type: "text", id, value: nameOf(file), maxlength: 200, required: true, autocomplete: "off" });
    this.bar = h("progress", { max: 100, value: 0, "aria-label": `Upload of ${file.name}` });
    this.line = h("p", { class: "upload-line muted" }, size(file.size));
    this.problems = h("div", { class: "upload-problems", role: "alert" });
    this.remove = h("button", { class: "button quiet small", type: "button", "aria-label": `Remove ${file.name}`, onclick: () => (this.request ? this.request.abort() : onRemove(this)) }, icon("close"));
    this.field = h("div", { class: "field" }, h("label", { for: id }, "Name"), this.name);
    this.element = h("li", { class: "upload-item", "data-state": "waiting" }, h("p", { class: "upload-file mono" }, file.name), this.field, this.remove, this.bar, this.line, this.problems);
    this.bar.hidden = true;
  }

  #become(state, line) {
    this.state = state;
    this.element.dataset.state = state;
    this.line.replaceChildren(...[line].flat());
    this.name.disabled = !["waiting", "failed"].includes(state);
    this.bar.hidden = !["sending", "checking"].includes(state);
    this.remove.hidden = ["done", "unmapped"].includes(state);
  }

  /** Say why the file cannot be sent at all. */
  refuse(message) {
    this.#become("failed", size(this.file.size));
    this.#complain([message]);
  }

  #complain(messages) {
    this.problems.replaceChildren(h("div", { class: "notice bad" }, icon("failed"), h("ul", {}, ...messages.map((text) => h("li", {}, text)))));
  }

  /** Send the file; returns once the server has answered. Never throws: what went wrong stands in the list. */
  async send() {
    this.problems.replaceChildren();
    this.#become("sending", "Starting…");
    try {
      this.answer = await this.#post();
      if (this.answer.version === undefined) {
        this.#become("unmapped", ["No row format fits. ", h("a", { href: this.answer.links.page }, "Map the columns"), "."]);
      } else {
        const { rows, version, id, checks } = this.answer;
        const left = checks.dropped_rows ? `, ${checks.dropped_rows.toLocaleString("en-US")} left out` : "";
        this.#become("done", [icon("succeeded"), h("a", { href: `/datasets/${id}` }, `Version ${version}`), `: ${rows.toLocaleString("en-US")} rows${left}`]);
      }
    } catch (error) {
      if (error.name === "AbortError") this.#become("waiting", `${size(this.file.size)}; stopped`);
      else {
        this.#become("failed", size(this.file.size));
        this.#complain(error instanceof ApiError && error.errors.length ? error.errors.slice(0, 5).map((item) => item.message) : [explain(error)]);
      }
    } finally {
      clearInterval(this.timer);
      this.request = null;
    }
  }

  /** Fetch has no upload progress, XMLHttpRequest has. */
  #post() {
    const form = new FormData();
    form.append("name", this.name.value.trim() || nameOf(this.file));
    form.append("keep", "true");
    form.append("file", this.file);
    return new Promise((resolve, reject) => {
      const request = (this.request = new XMLHttpRequest());
      const start = performance.now();
      request.open("POST", URL_OF_UPLOADS);
      request.setRequestHeader("X-CSRFToken", csrfToken());
      request.setRequestHeader("Accept", "application/json");
      request.responseType = "json";
      request.upload.onprogress = ({ loaded, total }) => this.#progress(loaded, total, (performance.now() - start) / 1000);
      request.upload.onload = () => this.#check();
      request.onerror = () => reject(new TypeError("offline"));
      request.onabort = () => reject(new DOMException("stopped", "AbortError"));
      request.onload = () => {
        if (request.status < 300) resolve(request.response);
        else reject(new ApiError(request.status, request.response || {}));
      };
      request.send(form);
    });
  }

  #progress(loaded, total, seconds) {
    this.bar.value = (100 * loaded) / total;
    const rate = loaded / seconds;
    const parts = [`${size(loaded)} of ${size(total)}`];
    if (seconds > RATE_AFTER_SECONDS) parts.push(`${size(rate)}/s`, `${duration((total - loaded) / rate)} left`);
    this.line.textContent = parts.join(", ");
  }

  /** All bytes are there; now the server reads every row, and does not say how far it is. */
  #check() {
    const start = performance.now();
    const tell = () => (this.line.textContent = `${size(this.file.size)} sent; checking every row… ${duration((performance.now() - start) / 1000)}`);
    this.#become("checking", "");
    this.bar.removeAttribute("value");
    tell();
    this.timer = setInterval(tell, 1000);
  }
}
