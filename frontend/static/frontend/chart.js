/* Lines and bars as plain SVG, drawn to the size of their box and again when it changes. */

import { s } from "./dom.js";
import { number, threeDigits } from "./format.js";

const EDGE = { left: 52, right: 12, top: 10, bottom: 34 };

/** Round steps that cover low to high, about `count` of them, each with a text of as many decimals as the step has. */
function ticks(low, high, count) {
  const span = high - low || Math.abs(high) || 1;
  const rough = span / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => power * factor >= rough);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const text = (value) => (decimals > 5 ? threeDigits(value) : value.toLocaleString("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals }));
  return Array.from({ length: Math.max(1, last - first + 1) }, (_, index) => (first + index) * step).map((value) => ({ value, text: text(value) }));
}

function range(values, { withZero = false } = {}) {
  const finite = values.filter(Number.isFinite);
  let low = Math.min(...finite, ...(withZero ? [0] : []));
  let high = Math.max(...finite, ...(withZero ? [0] : []));
  if (!Number.isFinite(low)) [low, high] = [0, 1];
  if (low === high) [low, high] = [low - Math.abs(low) * 0.1 - 0.01, high + Math.abs(high) * 0.1 + 0.01];
  return [low, high];
}

function scale([low, high], [from, to]) {
  return (value) => from + ((value - low) / (high - low)) * (to - from);
}

function axes(svg, { width, height, yRange, y, xTicks, xLabel, yLabel }) {
  for (const { value, text } of ticks(...yRange, Math.max(2, Math.floor((height - EDGE.top - EDGE.bottom) / 20)))) {
    const at = y(value);
    svg.append(
      s("line", { class: "grid", x1: EDGE.left, x2: width - EDGE.right, y1: at, y2: at }),
      s("text", { x: EDGE.left - 6, y: at + 4, "text-anchor": "end" }, text),
    );
  }
  const middle = EDGE.left + (width - EDGE.left - EDGE.right) / 2;
  for (const { at, text } of xTicks) svg.append(s("text", { x: at, y: height - 20, "text-anchor": "middle" }, text));
  svg.append(
    s("text", { x: middle, y: height - 4, "text-anchor": "middle" }, xLabel),
    s("text", { x: 12, y: height / 2 - 8, "text-anchor": "middle", transform: `rotate(-90 12 ${height / 2 - 8})` }, yLabel),
  );
}

/** Points `{x, y, low, high}` as a path that breaks where y is not finite. */
function path(points, x, y) {
  let isDown = false;
  return points
    .map((point) => {
      const command = isDown ? "L" : "M";
      isDown = Number.isFinite(point.y);
      return isDown ? `${command}${x(point.x).toFixed(1)} ${y(point.y).toFixed(1)}` : "";
    })
    .join("");
}

function lineSeries(svg, points, index, x, y) {
  const band = points.filter((point) => Number.isFinite(point.low) && Number.isFinite(point.high));
  if (band.length > 1) {
    const up = band.map((point) => `${x(point.x).toFixed(1)} ${y(point.high).toFixed(1)}`);
    const down = band.map((point) => `${x(point.x).toFixed(1)} ${y(point.low).toFixed(1)}`).reverse();
    svg.append(s("path", { class: `band s${index}`, d: `M${[...up, ...down].join("L")}Z` }));
  }
  svg.append(s("path", { class: `curve-line s${index}`, d: path(points, x, y) }));
  const spots = points.length === 1 ? points : points.filter((point) => !Number.isFinite(point.y));
  for (const point of spots) {
    const isFinite = Number.isFinite(point.y);
    const title = isFinite ? number(point.y) : `not a number at step ${number(point.x)}`;
    const at = isFinite ? y(point.y) : EDGE.top;
    svg.append(s("path", { class: `spot ${isFinite ? `s${index}` : "s3"}`, d: `M${x(point.x) - 4} ${at - 4}h8l-4 8z` }, s("title", {}, title)));
  }
}

/** Draw lines: series are `{name, points: [{x, y, low, high}]}`. */
function drawLines(svg, { series, xLabel, yLabel }, width, height) {
  const points = series.flatMap((one) => one.points);
  const xRange = range(points.map((point) => point.x));
  const yRange = range(points.flatMap((point) => [point.y, point.low, point.high]));
  const x = scale(xRange, [EDGE.left, width - EDGE.right]);
  const y = scale(yRange, [height - EDGE.bottom, EDGE.top]);
  const xTicks = ticks(...xRange, Math.max(2, Math.floor(width / 90))).map(({ value, text }) => ({ at: x(value), text }));
  axes(svg, { width, height, yRange, y, xTicks, xLabel, yLabel });
  series.forEach((one, index) => lineSeries(svg, one.points, index % 4, x, y));
}

/** Draw bars: the x of a point is a label; low and high are the ends of an interval. */
function drawBars(svg, { series, xLabel, yLabel }, width, height) {
  const names = [...new Set(series.flatMap((one) => one.points.map((point) => point.x)))];
  const yRange = range(series.flatMap((one) => one.points.flatMap((point) => [point.y, point.low, point.high])), { withZero: true });
  const y = scale(yRange, [height - EDGE.bottom, EDGE.top]);
  const slot = (width - EDGE.left - EDGE.right) / names.length;
  const bar = Math.max(1, Math.min(48, (slot * 0.8) / series.length));
  const every = Math.ceil(names.length / Math.max(1, Math.floor(width / 70)));
  const xTicks = names.map((name, index) => ({ at: EDGE.left + slot * (index + 0.5), text: typeof name === "number" ? number(name) : name }));
  axes(svg, { width, height, yRange, y, xTicks: xTicks.filter((_, index) => index % every === 0), xLabel, yLabel });
  series.forEach((one, index) => {
    for (const point of one.points.filter(({ y: value }) => Number.isFinite(value))) {
      const middle = EDGE.left + slot * (names.indexOf(point.x) + 0.5) + bar * (index - (series.length - 1) / 2);
      const [top, bottom] = [y(Math.max(point.y, 0)), y(Math.min(point.y, 0))];
      const title = s("title", {}, `${one.name}, ${point.x}: ${number(point.y)}`);
      svg.append(s("rect", { class: `bar s${index % 4}`, x: middle - bar / 2 + 0.5, y: top, width: Math.max(0.5, bar - 1), height: Math.max(0.5, bottom - top) }, title));
      if (Number.isFinite(point.low)) svg.append(s("path", { class: "interval", d: `M${middle} ${y(point.low)}V${y(point.high)}m-4 0h8M${middle - 4} ${y(point.low)}h8` }));
    }
  });
}

/** Put a drawing into `box` and return a function that draws it anew with other data. */
export function chart(box, first) {
  let figure = first;
  const svg = s("svg", { class: "chart", role: "img" });
  const draw = () => {
    const { clientWidth: width, clientHeight: height } = svg.parentElement ? box : { clientWidth: 0, clientHeight: 0 };
    const style = getComputedStyle(box);
    const inner = width - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    const tall = height - parseFloat(style.paddingTop) - parseFloat(style.paddingBottom);
    if (inner < 60 || tall < 60) return;
    svg.setAttribute("viewBox", `0 0 ${inner} ${tall}`);
    svg.setAttribute("aria-label", figure.title);
    svg.replaceChildren();
    (figure.type === "line" ? drawLines : drawBars)(svg, figure, inner, tall);
  };
  box.replaceChildren(svg);
  new ResizeObserver(draw).observe(box);
  return (next) => {
    figure = next;
    draw();
  };
}
