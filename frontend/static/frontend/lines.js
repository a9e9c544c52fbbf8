/* One event as a row of the log, and as a line of text. */

import { h } from "./dom.js";
import { label, measured, number } from "./format.js";

const MAX_DATA = 10;
export const LEVELS = ["DEBUG", "INFO", "METRIC", "WARNING", "ERROR", "CRITICAL"];

/** The numbers of an event, in the order in which they are shown. */
function dataOf(event) {
  const data = {};
  if (event.step !== null && event.step !== undefined) data.step = event.step;
  if (event.loss !== null && event.loss !== undefined) data.loss = event.loss;
  if (event.type !== "status") Object.assign(data, event.data);
  return Object.entries(data).slice(0, MAX_DATA);
}

const clock = (timestamp) => new Date(timestamp).toLocaleTimeString("en-GB", { hour12: false });

/** Whether the event passes the filter; the same rules as the history endpoint's. */
export function fits(event, { level, node, search }) {
  if (level && LEVELS.indexOf(event.level) < LEVELS.indexOf(level)) return false;
  if (node && event.node !== node) return false;
  return !search || event.message.toLowerCase().includes(search.toLowerCase());
}

/** Build the row of one event. */
export function lineOf(event) {
  const data = dataOf(event).map(([name, value]) =>
    h("span", { class: "datum" }, `${label(name)} `, h("b", {}, typeof value === "string" ? value : measured(value, name))),
  );
  return h(
    "div",
    { class: "line", id: `seq-${event.seq}`, "data-seq": event.seq, "data-level": event.level, "data-type": event.type },
    h("a", { href: `#seq-${event.seq}`, tabindex: "-1", "aria-label": `Link to line ${event.seq}` }, String(event.seq)),
    h("span", { class: "time", title: event.timestamp }, clock(event.timestamp)),
    h("span", { class: "level" }, event.level),
    h("span", { class: "node-of", title: event.node || "" }, event.node || ""),
    h("span", { class: "message" }, event.message, ...data),
  );
}

/** Write an event as one line of text, for the clipboard. */
export function textOf(event) {
  const data = dataOf(event).map(([name, value]) => `${name}=${typeof value === "number" ? value : number(value)}`);
  return [event.seq, event.timestamp, event.level, event.node || "-", event.message, ...data].join(" ");
}
