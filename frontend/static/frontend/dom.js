/* Building elements. Text only ever goes in as text nodes: nothing here parses markup. */

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Make an HTML element; children are elements or text. */
export const h = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

/** Make an SVG element. */
export const s = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/** Draw a symbol of the sprite. */
export const icon = (name) =>
  s("svg", { class: "icon", "aria-hidden": "true" }, s("use", { href: `${document.documentElement.dataset.icons}#${name}` }));

export const byId = (id) => document.getElementById(id);

/** Say in the corner, and to screen readers, what has just happened. */
export function toast(message, tone = "") {
  const note = h("div", { class: `notice ${tone}` }, icon(tone === "bad" ? "failed" : "succeeded"), h("p", {}, message));
  byId("toasts").append(note);
  setTimeout(() => note.remove(), tone === "bad" ? 12_000 : 4_000);
}

/** Copy text to the clipboard, also where the page is not served over TLS. */
export async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = h("textarea", { class: "visually-hidden" });
  area.value = text;
  document.body.append(area);
  area.select();
  const isCopied = document.execCommand("copy"); // deprecated, but the only way without a secure context
  area.remove();
  if (!isCopied) throw new Error("The browser refused to copy; select the text and copy it by hand.");
}

/** Let the keyboard reach every part of `root` that scrolls and is one of `selector`. */
export function focusScrollers(root, selector) {
  for (const element of root.querySelectorAll(selector)) {
    if (element.scrollHeight > element.clientHeight) element.setAttribute("tabindex", "0");
  }
}
