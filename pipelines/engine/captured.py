"""What a child prints, as log lines: bounded in length and rate, so that a print in a loop cannot flood a run's stream."""

from __future__ import annotations

import re
import time
from collections import deque

from celery_workers.contract.messages import Log

LINE_BYTES = 4000
LINES_PER_SECOND = 100.0
BURST_LINES = 500
TAIL_LINES = 40

LEVELS = {"stdout": "INFO", "stderr": "WARNING"}
_END_OF_LINE = re.compile(rb"[\r\n]")  # progress bars end their lines with a carriage return


class CapturedStream:
    """Cuts one pipe's bytes into ``Log`` messages with ``data.stream``; keeps the last lines as evidence."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._rest = b""
        self._is_skipping = False
        self._allowance = float(BURST_LINES)
        self._refilled_at = time.monotonic()
        self._left_out = 0

    def feed(self, chunk: bytes) -> list[Log]:
        """Take bytes as they came and return the lines they complete."""
        *lines, self._rest = _END_OF_LINE.split(self._rest + chunk)
        messages = [message for line in lines for message in self._line(line)]
        if len(self._rest) > LINE_BYTES:
            messages += self._line(self._rest)
            self._rest, self._is_skipping = b"", True
        return messages

    def finish(self) -> list[Log]:
        """Return what the end of the stream leaves: an unfinished line, and how many lines were left out."""
        messages = self._line(self._rest)
        self._rest = b""
        return [*messages, *self._left_out_note()]

    def _line(self, line: bytes) -> list[Log]:
        was_skipping, self._is_skipping = self._is_skipping, False
        if was_skipping or not line.strip():
            return []
        text = line[:LINE_BYTES].decode("utf-8", "replace").rstrip()
        if len(line) > LINE_BYTES:
            text += f" … (cut after {LINE_BYTES} bytes)"
        self.tail.append(text)
        if not self._is_allowed():
            self._left_out += 1
            return []
        return [*self._left_out_note(), self._log(text)]

    def _is_allowed(self) -> bool:
        now = time.monotonic()
        self._allowance = min(BURST_LINES, self._allowance + (now - self._refilled_at) * LINES_PER_SECOND)
        self._refilled_at = now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True

    def _left_out_note(self) -> list[Log]:
        if not self._left_out:
            return []
        note = f"{self._left_out} lines of {self.name} were left out: more than {LINES_PER_SECOND:g} a second"
        self._left_out = 0
        return [self._log(note)]

    def _log(self, text: str) -> Log:
        return Log(level=LEVELS[self.name], message=text, timestamp=time.time(), data={"stream": self.name})
