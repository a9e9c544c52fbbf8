/* Datasets: files are chosen or dropped, named, and sent one after the other. */

import { byId } from "./dom.js";
import { size } from "./format.js";
import { LiveFragment, startClock } from "./live.js";
import { UploadItem } from "./upload_item.js";

const [form, zone, input, list, start] = ["upload", "drop-zone", "upload-file", "upload-list", "upload-start"].map(byId);
const most = Number(form.dataset.most);
const fragment = new LiveFragment(byId("dataset-list"));
let items = [];
let isSending = false;

const plural = (count) => `${count} ${count === 1 ? "file" : "files"}`;
const inState = (...states) => items.filter((item) => states.includes(item.state));

function show() {
  const open = inState("waiting", "failed").filter((item) => item.file.size <= most);
  const bytes = open.reduce((sum, item) => sum + item.file.size, 0);
  byId("upload-actions").hidden = !items.length;
  start.disabled = isSending || !open.length;
  start.textContent = isSending ? "Uploading…" : inState("failed").length && !inState("waiting").length ? "Try again" : open.length > 1 ? `Upload ${plural(open.length)}` : "Upload";
  const sum = isSending ? `${inState("done", "unmapped", "failed").length} of ${plural(items.length)} done.` : open.length > 1 ? `${size(bytes)} in all.` : "";
  byId("upload-sum").textContent = sum;
}

function remove(item) {
  const next = item.element.nextElementSibling || item.element.previousElementSibling;
  items = items.filter((other) => other !== item);
  item.element.remove();
  show();
  (next?.querySelector("input:enabled") || input).focus();
}

function add(files) {
  for (const file of files) {
    const isThere = items.some((item) => item.state === "waiting" && item.file.name === file.name && item.file.size === file.size);
    if (isThere) continue;
    const item = new UploadItem(file, { onRemove: remove });
    items.push(item);
    list.append(item.element);
    if (file.size > most) item.refuse(`${file.name} has ${size(file.size)}; a file may have at most ${size(most)}.`);
  }
  show();
}

async function sendAll() {
  if (isSending) return;
  isSending = true;
  const queue = inState("waiting", "failed").filter((item) => item.file.size <= most);
  for (const item of queue) {
    const sending = item.send();
    show();
    await sending;
  }
  isSending = false;
  show();
  const [only] = items;
  if (items.length === 1 && only.state === "done") return location.assign(`/datasets/${only.answer.id}`);
  if (items.length === 1 && only.state === "unmapped") return location.assign(only.answer.links.page);
  fragment.refresh();
}

startClock();
input.addEventListener("change", () => {
  add(input.files);
  input.value = ""; // so that the same file can be chosen again
  start.focus();
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (form.reportValidity()) sendAll();
});

let depth = 0; // entering a child of the zone also leaves the zone
const mark = (by) => {
  depth = by === null ? 0 : depth + by;
  zone.classList.toggle("over", depth > 0);
};
zone.addEventListener("dragenter", () => mark(1));
zone.addEventListener("dragleave", () => mark(-1));
for (const name of ["dragover", "drop"]) {
  window.addEventListener(name, (event) => event.dataTransfer?.types.includes("Files") && event.preventDefault()); // beside the zone, a file would replace the page
}
zone.addEventListener("drop", (event) => {
  mark(null);
  add(event.dataTransfer.files);
  if (items.length) start.focus();
});
window.addEventListener("beforeunload", (event) => isSending && event.preventDefault());
