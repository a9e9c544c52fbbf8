/* One run: nodes and status stay up to date, the log streams, a cancel or retry is sent once. */

import { explain, request } from "./api.js";
import { chart } from "./chart.js";
import { byId, h, toast } from "./dom.js";
import { label } from "./format.js";
import { LiveFragment, startClock, whileVisible } from "./live.js";
import { LogPanel } from "./log.js";
import { listenForReports } from "./report.js";
import { RunStream } from "./stream.js";

const BACKLOG = 1000;
const CURVES = ["loss", "eval_loss", "learning_rate", "grad_norm", "tokens_per_second"];

const root = byId("run");
const runId = root.dataset.run;
const statusWord = () => byId("run-status").dataset.word;
const isActive = () => !["succeeded", "failed", "canceled", "skipped"].includes(statusWord());

let lost = "";
let announced = statusWord();
const fragment = new LiveFragment(byId("live"), {
  onChange: () => {
    if (statusWord() === announced) return;
    announced = statusWord();
    byId("announce").textContent = `The run is ${announced}.`;
  },
  onLost: (message) => {
    if (message && message !== lost) toast(message, "bad");
    lost = message;
  },
});

/** Call `action` at most once in `seconds`, and once more at the end if it was asked for meanwhile. */
function throttled(action, seconds) {
  let timer = 0;
  let isDue = false;
  const run = () => {
    isDue = false;
    action();
    timer = setTimeout(() => {
      timer = 0;
      if (isDue) run();
    }, seconds * 1000);
  };
  return () => {
    isDue = true;
    if (!timer) run();
  };
}

/* curves */
let curveName = "loss";
let redraw = null;

function showCurves(series) {
  const names = CURVES.filter((name) => series.some((one) => one.name === name));
  byId("curve").hidden = names.length === 0;
  if (!names.length) return;
  if (!names.includes(curveName)) [curveName] = names;
  const button = (name) => h("button", { class: "button quiet small", type: "button", "aria-pressed": name === curveName, "data-name": name, onclick: () => pickCurve(name) }, label(name));
  const present = [...byId("curve-names").children].map((child) => child.dataset.name);
  if (present.join() !== names.join()) byId("curve-names").replaceChildren(...names.map(button));
  for (const child of byId("curve-names").children) child.setAttribute("aria-pressed", String(child.dataset.name === curveName));
  byId("curve-title").textContent = label(curveName).replace(/^./, (letter) => letter.toUpperCase());
  const value = (raw) => (typeof raw === "number" ? raw : NaN);
  const shown = series.filter((one) => one.name === curveName).map(({ node, points }) => ({
    name: node,
    points: points.map((point) => ({ x: point.step, y: value(point.last), low: value(point.min), high: value(point.max) })),
  }));
  const figure = { title: `${label(curveName)} by step`, type: "line", series: shown, xLabel: "step", yLabel: label(curveName) };
  if (redraw) redraw(figure);
  else redraw = chart(byId("curve-body"), figure);
}

function pickCurve(name) {
  curveName = name;
  loadCurves();
}

async function loadCurves() {
  try {
    const { series } = await request(`/api/v1/jobs/${runId}/metrics?points=300`);
    showCurves(series);
  } catch (error) {
    if (byId("curve").hidden) return;
    byId("curve-title").textContent = `Curves could not be loaded. ${explain(error)}`;
  }
}

/* log */
const newestSeq = Number(root.dataset.lastSeq);
const panel = new LogPanel({ runId, newestSeq });
const refreshSoon = throttled(() => fragment.refresh(), 1);
const loadCurvesSoon = throttled(loadCurves, 2);

const stream = new RunStream({
  runId,
  after: Math.max(0, newestSeq - BACKLOG),
  onEvents: (events) => {
    panel.add(events);
    byId("log-seq").textContent = String(stream.last);
    if (events.some((event) => event.type === "status")) refreshSoon();
    if (events.some((event) => event.type === "metric")) loadCurvesSoon();
  },
  onState: (state, detail) => {
    const element = byId("log-connection");
    element.dataset.state = state;
    element.textContent = detail ? `${state}, ${detail}` : state;
    if (state === "complete") {
      refreshSoon();
      loadCurvesSoon();
    }
  },
});
panel.hasOlder = stream.last > 0;

/* actions */
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-action]");
  if (!button || button.dataset.pending !== undefined) return;
  button.dataset.pending = "";
  button.setAttribute("aria-disabled", "true");
  try {
    await request(button.dataset.url, { method: button.dataset.method });
    toast(button.dataset.action === "cancel" ? "Asked the run to stop; it saves what it has." : "The run goes on.");
    if (button.dataset.action === "retry") stream.restart();
  } catch (error) {
    toast(explain(error), "bad");
  } finally {
    delete button.dataset.pending;
    button.removeAttribute("aria-disabled");
    await fragment.refresh();
  }
});

listenForReports();
startClock();
whileVisible(() => (isActive() ? fragment.refresh() : undefined), () => 2);
loadCurves();
if (location.hash) await panel.openHash();
stream.start();
