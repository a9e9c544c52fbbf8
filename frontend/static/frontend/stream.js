/* A run's events, each once and in order: over the websocket, else server-sent events, else by asking again and again. */

import { request } from "./api.js";

const TRIES = 3; // of one way before the next one is taken
const POLL_SECONDS = 2;
const POLLS_BEFORE_SOCKET = 15;
const ENDED = ["succeeded", "failed", "canceled", "skipped"];

export const endsRun = (event) => event.type === "status" && !event.node && ENDED.includes(event.data?.status);

export class RunStream {
  /** `onEvents(events)` gets batches; `onState(state, detail)` is told live, reconnecting, complete or lost. */
  constructor({ runId, after, onEvents, onState }) {
    Object.assign(this, { runId, last: after, onEvents, onState });
    Object.assign(this, { way: 0, failures: 0, isOver: false, waiting: [], timer: 0, hasEnded: false, close: () => {} });
  }

  start() {
    this.isOver = false;
    const ways = [this.openSocket, this.openServerSent, this.poll];
    ways[this.way].call(this);
  }

  stop() {
    this.isOver = true;
    clearTimeout(this.timer);
    this.close();
  }

  /** Take up the stream again after the run was opened again. */
  restart() {
    this.stop();
    Object.assign(this, { way: 0, failures: 0, hasEnded: false });
    this.start();
  }

  /** Take one event: a repeat is dropped, a gap makes the connection start again from the last number. */
  accept(event) {
    if (!Number.isInteger(event.seq) || event.seq <= this.last) return true;
    if (event.seq > this.last + 1) return false;
    this.last = event.seq;
    this.failures = 0;
    this.hasEnded = endsRun(event);
    if (this.waiting.push(event) === 1) setTimeout(() => this.flush(), 40);
    return true;
  }

  flush() {
    const events = this.waiting;
    this.waiting = [];
    if (events.length) this.onEvents(events);
  }

  /** A connection has gone: over if the run has, else again with growing pauses, after some failures another way. */
  reconnect() {
    this.close();
    this.flush();
    if (this.isOver) return;
    if (this.hasEnded) return this.finish();
    this.failures += 1;
    if (this.failures >= TRIES && this.way < 2) Object.assign(this, { way: this.way + 1, failures: 0 });
    const seconds = Math.min(15, 0.4 * 2 ** this.failures) * (0.75 + Math.random() / 2);
    this.onState("reconnecting", `again in ${Math.ceil(seconds)} s`);
    this.timer = setTimeout(() => this.start(), seconds * 1000);
  }

  finish() {
    this.stop();
    this.flush();
    this.onState("complete", "");
  }

  fail(message) {
    this.stop();
    this.onState("lost", message);
  }

  openSocket() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/ws/runs/${this.runId}?after=${this.last}`);
    let isOpen = true;
    const leave = () => {
      isOpen = false;
      socket.close();
    };
    this.close = leave;
    socket.onopen = () => isOpen && this.onState("live", "");
    socket.onmessage = ({ data }) => {
      if (isOpen && !this.accept(JSON.parse(data))) this.reconnect();
    };
    socket.onclose = ({ code }) => {
      if (!isOpen) return;
      isOpen = false;
      if (code === 1000 && this.hasEnded) this.finish();
      else if (code === 4401 || code === 4404) this.fail("You may not read this log any more. Reload the page.");
      else this.reconnect();
    };
  }

  openServerSent() {
    const source = new EventSource(`/api/v1/logs/stream/${this.runId}?after=${this.last}`);
    this.close = () => source.close();
    source.onopen = () => this.onState("live", "by server-sent events");
    const take = ({ data }) => {
      if (!this.accept(JSON.parse(data))) this.reconnect();
    };
    for (const type of ["log", "metric", "status"]) source.addEventListener(type, take);
    source.onerror = () => this.reconnect();
  }

  async poll() {
    let isOpen = true;
    this.close = () => {
      isOpen = false;
    };
    for (let count = 0; count < POLLS_BEFORE_SOCKET && isOpen; count += 1) {
      try {
        const page = await request(`/api/v1/logs/history/${this.runId}?after=${this.last}&limit=1000`);
        if (!isOpen) return;
        this.onState("live", `asking every ${POLL_SECONDS} s`);
        page.results.forEach((event) => this.accept(event));
        if (page.results.length === 0 && this.hasEnded) return this.finish();
      } catch {
        if (isOpen) this.reconnect(); // request throws when offline or refused; the state line says so
        return;
      }
      await new Promise((resolve) => {
        this.timer = setTimeout(resolve, POLL_SECONDS * 1000);
      });
    }
    if (!isOpen) return;
    Object.assign(this, { way: 0, failures: 0 });
    this.start();
  }
}
