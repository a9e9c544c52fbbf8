"""The wire: framing, the closed union, and values that JSON or PostgreSQL cannot hold."""

from __future__ import annotations

import socket
from enum import IntEnum
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from celery_workers.contract import messages
from celery_workers.contract.messages import Cancel, FrameDecoder, Log, Metric, Progress, encode, from_child, receive, send


class Colour(IntEnum):
    RED = 3


def test_a_sent_message_is_received_whole() -> None:
    left, right = socket.socketpair()
    with left, right:
        send(left, Log(level="INFO", message="é" * 1000, timestamp=1.5, data={"rows": 3}))
        payload = receive(right)
    assert payload is not None
    assert from_child.validate_json(payload) == Log(level="INFO", message="é" * 1000, timestamp=1.5, data={"rows": 3})


def test_end_of_file_between_frames_is_none() -> None:
    left, right = socket.socketpair()
    with right:
        send(left, Cancel())
        left.close()
        assert receive(right) == b'{"type":"cancel"}'
        assert receive(right) is None


def test_end_of_file_inside_a_frame_is_an_error() -> None:
    left, right = socket.socketpair()
    with right:
        left.sendall(encode(Cancel())[:-1])
        left.close()
        with pytest.raises(ConnectionError, match="inside a frame"):
            receive(right)


def test_a_frame_over_the_limit_is_refused_before_it_is_read() -> None:
    decoder = FrameDecoder()
    decoder.feed((messages.MAX_FRAME_BYTES + 1).to_bytes(4, "big"))
    with pytest.raises(ValueError, match="at most"):
        decoder.next_frame()
    with pytest.raises(ValueError, match="at most"):
        encode(Log(level="INFO", message="x" * messages.MAX_FRAME_BYTES, timestamp=0))


def test_frames_are_found_however_the_stream_is_cut() -> None:
    stream = encode(Cancel()) + encode(Progress(fraction=0.5))
    for size in range(1, len(stream) + 1):
        decoder, frames = FrameDecoder(), []
        for start in range(0, len(stream), size):
            decoder.feed(stream[start : start + size])
            while (frame := decoder.next_frame()) is not None:
                frames.append(frame)
        assert frames == [encode(Cancel())[4:], encode(Progress(fraction=0.5))[4:]]
        decoder.check_complete()


def test_nothing_outside_the_union_is_accepted() -> None:
    with pytest.raises(ValidationError):
        from_child.validate_json(b'{"type":"request"}')
    with pytest.raises(ValidationError):
        from_child.validate_json(b'{"type":"progress","fraction":0.5,"extra":1}')


def test_text_that_postgresql_cannot_hold_is_replaced() -> None:
    log = Log(level="INFO", message="a\x00b\ud800c", timestamp=0, data={"k\x00": ["\x00", {"deep": "\udfff"}]})
    assert log.message == "a\ufffdb?c"
    assert log.data == {"k\ufffd": ["\ufffd", {"deep": "?"}]}


def test_non_finite_numbers_become_text() -> None:
    metric = Metric(message="", timestamp=0, step=1, loss=float("nan"), data={"grad_norm": float("inf"), "low": float("-inf")})
    assert (metric.loss, metric.data) == ("nan", {"grad_norm": "inf", "low": "-inf"})
    assert Log(level="INFO", message="", timestamp=0, data={"x": [float("nan")]}).data == {"x": ["nan"]}


def test_data_becomes_plain_json() -> None:
    data = {
        "path": Path("/a"),
        "f32": np.float32(0.5),
        "i64": np.int64(7),
        "red": Colour.RED,
        "set": {1},
        "flag": True,
        "none": None,
    }
    assert Log(level="INFO", message="", timestamp=0, data=data).data == {
        "path": "/a",
        "f32": 0.5,
        "i64": 7,
        "red": 3,
        "set": [1],
        "flag": True,
        "none": None,
    }
