/* The log panel: a window of at most MAX_ROWS lines over a stream of any length. */

import { explain, request } from "./api.js";
import { byId, copyText, h, toast } from "./dom.js";
import { fits, lineOf, textOf } from "./lines.js";

const MAX_ROWS = 2000;
const PAGE = 400;
const NEAR_PIXELS = 240;

export class LogPanel {
  constructor({ runId, newestSeq }) {
    Object.assign(this, { runId, newestSeq, box: byId("log-lines"), note: byId("log-note"), followButton: byId("log-follow") });
    this.filter = { level: "", node: "", search: "" };
    this.rows = []; // events on the page, in order
    this.unread = 0; // fitting lines that came while the reader stayed above
    this.hasNewest = true; // the window reaches the end of the stream
    this.hasOlder = true;
    this.isFollowing = true;
    this.pending = null; // events that come while a page is fetched; null when none is
    this.listen();
    this.showEmpty();
  }

  listen() {
    this.box.addEventListener("scroll", () => this.onScroll(), { passive: true });
    this.followButton.addEventListener("click", () => this.follow());
    byId("log-copy").addEventListener("click", () => this.copy());
    byId("log-error").addEventListener("click", () => this.jumpToFirstError());
    const form = byId("log-filters");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.readFilter();
    });
    form.addEventListener("change", () => this.readFilter());
    let timer = 0;
    byId("log-search").addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.readFilter(), 250);
    });
    addEventListener("hashchange", () => this.openHash());
  }

  /** Take events of the stream, which are in order and each new. */
  add(events) {
    this.newestSeq = Math.max(this.newestSeq, events.at(-1).seq);
    if (this.pending) {
      this.pending.push(...events);
      return;
    }
    const shown = events.filter((event) => fits(event, this.filter));
    if (!shown.length) return;
    const isFull = !this.isFollowing && this.rows.length + shown.length > MAX_ROWS;
    if (!this.hasNewest || isFull) this.hasNewest = false;
    else this.append(shown);
    if (!this.isFollowing) this.unread += shown.length;
    this.settle();
  }

  append(events) {
    this.clearEmpty();
    this.box.append(...events.map(lineOf));
    this.rows.push(...events);
    const extra = this.rows.length - MAX_ROWS;
    if (extra > 0) this.dropFirst(extra);
  }

  prepend(events) {
    const height = this.box.scrollHeight;
    this.box.prepend(...events.map(lineOf));
    this.rows.unshift(...events);
    this.box.scrollTop += this.box.scrollHeight - height; // the reader's line stays where it is
    const extra = this.rows.length - MAX_ROWS;
    if (extra <= 0) return;
    this.rows.splice(-extra);
    for (let count = 0; count < extra; count += 1) this.box.lastChild.remove();
    this.hasNewest = false;
  }

  dropFirst(count) {
    const height = this.box.scrollHeight;
    const top = this.box.scrollTop;
    this.rows.splice(0, count);
    for (let index = 0; index < count; index += 1) this.box.firstChild.remove();
    if (!this.isFollowing) this.box.scrollTop = top - (height - this.box.scrollHeight);
    this.hasOlder = true;
  }

  /** Bring scroll position and follow button into line with the state. */
  settle() {
    if (this.isFollowing && this.hasNewest) {
      this.box.scrollTop = this.box.scrollHeight;
      this.unread = 0;
    }
    this.followButton.hidden = this.isFollowing;
    const lines = this.unread === 1 ? "1 new line" : `${this.unread.toLocaleString("en-US")} new lines`;
    byId("log-follow-text").textContent = this.unread ? `Follow · ${lines}` : "Follow";
  }

  onScroll() {
    if (this.pending) return;
    const below = this.box.scrollHeight - this.box.scrollTop - this.box.clientHeight;
    const isAtEnd = below < 8 && this.hasNewest;
    if (isAtEnd !== this.isFollowing) {
      this.isFollowing = isAtEnd;
      this.settle();
    }
    if (this.box.scrollTop < NEAR_PIXELS && this.hasOlder && this.rows.length) this.loadOlder();
    else if (below < NEAR_PIXELS && !this.hasNewest && this.rows.length) this.loadNewer();
  }

  /** Fetch a page of history; what streams in meanwhile waits and is added after `use(events)`. */
  async load(query, use) {
    if (this.pending) return;
    this.pending = [];
    const loadedUpTo = this.newestSeq;
    const asked = new URLSearchParams({ limit: PAGE, ...query });
    for (const [name, value] of Object.entries(this.filter)) if (value) asked.set(name, value);
    this.box.setAttribute("aria-busy", "true");
    try {
      const page = await request(`/api/v1/logs/history/${this.runId}?${asked}`);
      this.say("");
      use(page.results, loadedUpTo);
    } catch (error) {
      this.say(explain(error));
    }
    this.box.removeAttribute("aria-busy");
    const waited = this.pending;
    this.pending = null;
    const newest = this.rows.at(-1)?.seq ?? 0;
    const fresh = waited.filter((event) => event.seq > newest);
    if (fresh.length) this.add(fresh);
    else this.settle();
    if (this.isRefilterDue) this.showNewest();
  }

  loadOlder() {
    return this.load({ before: this.rows[0].seq }, (events) => {
      this.hasOlder = events.length === PAGE;
      this.prepend(events);
    });
  }

  loadNewer() {
    return this.load({ after: this.rows.at(-1).seq }, (events) => {
      this.append(events);
      this.hasNewest = events.length < PAGE;
    });
  }

  /** Show the end of the stream under the present filter. */
  showNewest() {
    this.isRefilterDue = this.pending !== null; // a page is on its way: again when it is there
    if (this.isRefilterDue) return undefined;
    return this.load({ before: this.newestSeq + 1 }, (events) => {
      this.replace(events);
      Object.assign(this, { hasOlder: events.length === PAGE, hasNewest: true, isFollowing: true, unread: 0 });
    });
  }

  replace(events) {
    this.rows = [];
    this.box.replaceChildren();
    if (events.length) this.append(events);
    else this.showEmpty();
  }

  follow() {
    this.isFollowing = true;
    this.unread = 0;
    if (location.hash.startsWith("#seq-")) history.replaceState(null, "", location.pathname + location.search);
    if (this.hasNewest) this.settle();
    else this.showNewest();
  }

  readFilter() {
    const wanted = { level: byId("log-level").value, node: byId("log-node").value, search: byId("log-search").value.trim() };
    if (JSON.stringify(wanted) === JSON.stringify(this.filter)) return;
    this.filter = wanted;
    this.showNewest();
  }

  clearFilter() {
    byId("log-filters").reset();
    this.filter = { level: "", node: "", search: "" };
  }

  async openHash() {
    const seq = Number(/^#seq-(\d+)$/.exec(location.hash)?.[1]);
    if (seq) await this.jumpTo(seq);
  }

  /** Show line `seq` in the middle of the panel, and stay there. */
  async jumpTo(seq) {
    while (this.pending) await new Promise((resolve) => setTimeout(resolve, 50)); // a page is on its way
    if (!byId(`seq-${seq}`)) {
      this.clearFilter();
      await this.load({ after: Math.max(0, seq - PAGE / 2) }, (events, loadedUpTo) => {
        this.replace(events);
        this.hasOlder = (events[0]?.seq ?? 1) > 1;
        this.hasNewest = (events.at(-1)?.seq ?? 0) >= loadedUpTo;
        this.isFollowing = false;
      });
    }
    const row = byId(`seq-${seq}`);
    if (!row) return this.say(`There is no line ${seq} in this run.`);
    this.isFollowing = false;
    this.box.querySelector(".is-target")?.classList.remove("is-target");
    row.classList.add("is-target");
    row.scrollIntoView({ block: "center" });
    this.settle();
  }

  async jumpToFirstError() {
    try {
      const page = await request(`/api/v1/logs/history/${this.runId}?level=ERROR&limit=1`);
      if (page.results.length === 0) return this.say("No errors in this log.");
      this.say("");
      history.replaceState(null, "", `#seq-${page.results[0].seq}`);
      await this.jumpTo(page.results[0].seq);
    } catch (error) {
      this.say(explain(error));
    }
  }

  async copy() {
    try {
      await copyText(this.rows.map(textOf).join("\n"));
      toast(`${this.rows.length.toLocaleString("en-US")} lines copied.`);
    } catch (error) {
      toast(error.message, "bad");
    }
  }

  say(message) {
    this.note.textContent = message;
    this.note.hidden = !message;
  }

  showEmpty() {
    const isFiltered = Object.values(this.filter).some(Boolean);
    const text = isFiltered ? "No line fits this filter." : "No lines yet. They appear here as soon as a worker writes them.";
    this.box.replaceChildren(h("p", { class: "log-empty" }, text));
  }

  clearEmpty() {
    this.box.querySelector(".log-empty")?.remove();
  }
}
