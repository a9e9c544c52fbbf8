/* Pages that only need their times to count on. */

import { startClock } from "./live.js";

startClock();
