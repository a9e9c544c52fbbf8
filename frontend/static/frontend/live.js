/* Keeping a server-rendered part of the page up to date without losing focus, open details or the reader's place. */

import { ago, duration } from "./format.js";

const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.dataset.key || node.id || null : null);

const isSame = (from, to) => from.nodeType === to.nodeType && from.nodeName === to.nodeName && keyOf(from) === keyOf(to);

function syncAttributes(from, to) {
  for (const { name, value } of to.attributes) {
    if (from.getAttribute(name) !== value) from.setAttribute(name, value);
  }
  for (const { name } of [...from.attributes]) {
    const isReaders = name === "open" || from.dataset.pending !== undefined; // what the reader did is theirs
    if (!to.hasAttribute(name) && !isReaders) from.removeAttribute(name);
  }
}

/** Make `from` look like `to`, keeping every element that is in both. */
export function morph(from, to) {
  if (from.nodeType !== Node.ELEMENT_NODE) {
    if (from.nodeValue !== to.nodeValue) from.nodeValue = to.nodeValue;
    return;
  }
  syncAttributes(from, to);
  const keyed = new Map([...from.childNodes].filter(keyOf).map((child) => [keyOf(child), child]));
  let next = from.firstChild;
  for (const wanted of [...to.childNodes]) {
    let match = keyOf(wanted) ? keyed.get(keyOf(wanted)) : next;
    if (!match || !isSame(match, wanted)) match = null;
    if (match === null) {
      from.insertBefore(wanted, next);
      continue;
    }
    if (match === next) next = next.nextSibling;
    else from.insertBefore(match, next);
    morph(match, wanted);
  }
  while (next) {
    const rest = next.nextSibling;
    next.remove();
    next = rest;
  }
}

/** Fetch this page's changing part again and morph it in. */
export class LiveFragment {
  constructor(element, { onChange = () => {}, onLost = () => {} } = {}) {
    Object.assign(this, { element, onChange, onLost, isBusy: false, isStale: false });
  }

  async refresh() {
    if (this.isBusy) {
      this.isStale = true;
      return;
    }
    this.isBusy = true;
    try {
      await this.fetchOnce();
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      this.onLost("The server cannot be reached; what you see may be old."); // fetch rejects with TypeError when offline
    } finally {
      this.isBusy = false;
    }
    if (this.isStale) {
      this.isStale = false;
      await this.refresh();
    }
  }

  async fetchOnce() {
    const url = new URL(location.href);
    url.hash = "";
    url.searchParams.set("fragment", "1");
    const answer = await fetch(url, { credentials: "same-origin" });
    if (answer.redirected) return this.onLost("You are no longer logged in. Reload the page to log in again.");
    if (!answer.ok) return this.onLost(`The server answered ${answer.status}; what you see may be old.`);
    // DOMParser runs no scripts; the fragment comes from this site's own templates, which escape.
    const parsed = new DOMParser().parseFromString(await answer.text(), "text/html");
    const wanted = this.element.cloneNode(false);
    wanted.append(...parsed.body.childNodes);
    morph(this.element, wanted);
    this.onLost("");
    this.onChange();
  }
}

/** Call `action` every `seconds()` while the page is visible, and at once when it is shown again. */
export function whileVisible(action, seconds) {
  let timer = 0;
  const next = () => {
    clearTimeout(timer);
    timer = setTimeout(async () => {
      if (document.visibilityState === "visible") await action();
      next();
    }, seconds() * 1000);
  };
  document.addEventListener("visibilitychange", async () => {
    if (document.visibilityState === "visible") await action();
  });
  next();
}

/** Let times count on between two refreshes. */
export function startClock() {
  setInterval(() => {
    const now = Date.now();
    const secondsSince = (text) => (now - Date.parse(text)) / 1000;
    for (const element of document.querySelectorAll("[data-since]")) {
      element.textContent = duration(Math.floor(secondsSince(element.dataset.since))).replace(/^(\d)\.0 s$/, "$1 s");
    }
    for (const element of document.querySelectorAll("time[data-ago]")) {
      element.textContent = ago(secondsSince(element.dateTime));
    }
  }, 1000);
}
