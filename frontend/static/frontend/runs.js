/* The list of runs: stays up to date while it is looked at. */

import { byId, toast } from "./dom.js";
import { LiveFragment, startClock, whileVisible } from "./live.js";

const live = byId("live");
let lost = "";

const fragment = new LiveFragment(live, {
  onLost: (message) => {
    if (message && message !== lost) toast(message, "bad");
    lost = message;
  },
});

const hasActive = () => live.querySelector('.runs-row [data-status="running"], .runs-row [data-status="queued"]') !== null;

whileVisible(() => fragment.refresh(), () => (hasActive() ? 2 : 6));
startClock();

const search = byId("search");
if (search) {
  addEventListener("keydown", (event) => {
    const isTyping = event.target.closest("input, select, textarea");
    if (event.key === "/" && !isTyping) {
      event.preventDefault();
      search.focus();
    }
  });
}
