"""Lines from pipes: cut, bounded, never lost in silence."""

from __future__ import annotations

import pytest

from pipelines.engine import captured
from pipelines.engine.captured import BURST_LINES, LINE_BYTES, TAIL_LINES, CapturedStream


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(captured.time, "monotonic", lambda: now[0])
    return now


def texts(stream: CapturedStream, *chunks: bytes) -> list[str]:
    return [line.message for chunk in chunks for line in stream.feed(chunk)]


def test_a_line_may_come_in_pieces() -> None:
    stream = CapturedStream("stdout")
    assert texts(stream, b"on", b"e\ntwo\nth") == ["one", "two"]
    assert [line.message for line in stream.finish()] == ["th"]


def test_a_progress_bar_is_lines() -> None:
    assert texts(CapturedStream("stderr"), b"\r 10%\r 20%\r\n") == [" 10%", " 20%"]


def test_bytes_that_are_no_text_and_nul_are_replaced() -> None:
    assert texts(CapturedStream("stdout"), b"a\xff\x00b\n") == ["a\ufffd\ufffdb"]


def test_a_long_line_is_cut_once_whether_it_ends_or_not() -> None:
    stream = CapturedStream("stdout")
    lines = texts(stream, b"x" * (LINE_BYTES + 1), b"x" * LINE_BYTES, b"end\nnext\n")
    assert lines == ["x" * LINE_BYTES + f" … (cut after {LINE_BYTES} bytes)", "next"]


def test_lines_beyond_the_rate_are_counted(clock: list[float]) -> None:
    stream = CapturedStream("stdout")
    assert len(texts(stream, b"x\n" * (BURST_LINES + 7))) == BURST_LINES
    clock[0] += 1
    assert texts(stream, b"later\n") == ["7 lines of stdout were left out: more than 100 a second", "later"]
    texts(stream, b"x\n" * 1000)
    assert "lines of stdout were left out" in stream.finish()[-1].message


def test_the_last_lines_are_kept_even_when_left_out(clock: list[float]) -> None:
    stream = CapturedStream("stderr")
    texts(stream, b"".join(b"line %d\n" % number for number in range(2000)))
    assert list(stream.tail) == [f"line {number}" for number in range(2000 - TAIL_LINES, 2000)]
