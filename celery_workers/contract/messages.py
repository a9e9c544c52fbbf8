"""The closed union of messages between a supervisor and the agent process it started.

Framing: a 4-byte big-endian length, then that many bytes of UTF-8 JSON. At most ``MAX_FRAME_BYTES``. The supervisor
sends one ``request``, then any number of ``cancel``, ``shutdown`` and ``stored``; the child sends ``ready``, then logs,
metrics, progress and checkpoints, then exactly one ``result`` or ``failure``. End of file means that the other is gone.

Text and JSON are made storable where a message is made: PostgreSQL has no NUL in text, UTF-8 no lone surrogates, JSON no
NaN or infinities, which become ``"nan"``, ``"inf"`` and ``"-inf"`` so that they are not lost.
"""

from __future__ import annotations

import math
import socket
import struct
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from celery_workers.contract.errors import ErrorKind

MAX_FRAME_BYTES = 16 * 1024 * 1024
_LENGTH = struct.Struct(">I")


def clean_text(value: object) -> object:
    """Replace what PostgreSQL or UTF-8 cannot hold by U+FFFD; other types pass through."""
    if not isinstance(value, str):
        return value
    return value.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def finite_or_text(value: object) -> object:
    """Return ``"nan"``, ``"inf"`` or ``"-inf"`` for a float that JSON cannot hold, else ``value``."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(float(value))
    return value


def plain_json(value: object) -> object:
    """Return ``value`` as JSON can hold it: cleaned text, non-finite floats as text, what is no JSON as its ``str``.

    Numbers of other libraries (numpy, torch scalars) become Python's through their ``item()``.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)  # an IntEnum as well
    if isinstance(value, float):
        return finite_or_text(float(value))
    if isinstance(value, Mapping):
        return {str(clean_text(str(key))): plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain_json(item) for item in value]
    scalar = getattr(value, "item", None) if getattr(value, "ndim", None) == 0 else None
    return plain_json(scalar()) if callable(scalar) else clean_text(str(value))


Text = Annotated[str, BeforeValidator(clean_text)]
JsonData = Annotated[dict[str, object], BeforeValidator(plain_json)]
Number = Annotated[float | str, BeforeValidator(finite_or_text)]


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PortValue(Message):
    """One artifact on the wire. ``path`` is absolute and local."""

    kind: str
    path: str
    metadata: JsonData = Field(default_factory=dict)
    sha256: str = ""


class Request(Message):
    """Everything one attempt needs; the child has no database, broker or store to ask."""

    type: Literal["request"] = "request"
    run_id: str
    node: str
    attempt: int
    agent: str
    config: dict[str, object]
    inputs: dict[str, list[PortValue]]
    references: dict[str, str]
    workdir: str
    seed: int
    resume_from: str | None = None
    device: str = "cpu"
    """``cpu``, or the CUDA device's index or UUID to which the process pins itself."""
    threads: int = Field(1, ge=1)
    memory_failures: int = Field(0, ge=0)
    """How many earlier attempts of this node ran out of memory."""


class Cancel(Message):
    """The user canceled: stop at the next check."""

    type: Literal["cancel"] = "cancel"


class Shutdown(Message):
    """The worker is going away: save a checkpoint and stop; the node will go on elsewhere."""

    type: Literal["shutdown"] = "shutdown"


class Stored(Message):
    """The checkpoint of ``step`` is safe."""

    type: Literal["stored"] = "stored"
    step: int


class Ready(Message):
    """The child is warm and waits for its request."""

    type: Literal["ready"] = "ready"
    pid: int


class Log(Message):
    type: Literal["log"] = "log"
    level: str
    message: Text
    timestamp: float
    """Seconds since the epoch, UTC."""
    data: JsonData = Field(default_factory=dict)


class Metric(Message):
    type: Literal["metric"] = "metric"
    message: Text
    timestamp: float
    step: int
    epoch: float | None = None
    loss: Number | None = None
    """A number, or ``"nan"``, ``"inf"``, ``"-inf"``."""
    data: dict[str, Number] = Field(default_factory=dict)


class Progress(Message):
    type: Literal["progress"] = "progress"
    fraction: float = Field(ge=0, le=1)
    step: int | None = None
    total_steps: int | None = None


class Checkpoint(Message):
    """A complete checkpoint folder. The child waits for ``stored`` before it goes on."""

    type: Literal["checkpoint"] = "checkpoint"
    path: str
    step: int
    keep: int = Field(2, ge=1)
    """How many of the node's newest checkpoints to keep, this one among them."""


class Result(Message):
    type: Literal["result"] = "result"
    outputs: dict[str, list[PortValue]]


class Failure(Message):
    """The attempt ended without outputs.

    ``error_kind`` is null when it stopped because it was told to: ``code`` is then ``canceled`` (the user's wish) or
    ``shutdown`` (the worker is going away, and the node must go on elsewhere).
    """

    type: Literal["failure"] = "failure"
    error_kind: ErrorKind | None
    code: str
    message: Text
    field: str | None = None
    traceback: Text = ""
    evidence: JsonData = Field(default_factory=dict)


ToChild = Annotated[Request | Cancel | Shutdown | Stored, Field(discriminator="type")]
FromChild = Annotated[Ready | Log | Metric | Progress | Checkpoint | Result | Failure, Field(discriminator="type")]
to_child: TypeAdapter[ToChild] = TypeAdapter(ToChild)
from_child: TypeAdapter[FromChild] = TypeAdapter(FromChild)


def encode(message: Message) -> bytes:
    """Return ``message`` as one frame.

    Raises: ValueError: it is longer than ``MAX_FRAME_BYTES``.
    """
    payload = message.model_dump_json().encode()
    if len(payload) > MAX_FRAME_BYTES:
        raise ValueError(f"a message must be at most {MAX_FRAME_BYTES} bytes, got {len(payload)}")
    return _LENGTH.pack(len(payload)) + payload


def send(connection: socket.socket, message: Message) -> None:
    """Write one framed message.

    Raises: ValueError: it is longer than ``MAX_FRAME_BYTES``. OSError: the other side is gone.
    """
    connection.sendall(encode(message))


def receive(connection: socket.socket) -> bytes | None:
    """Read one framed payload, waiting for it; None at a clean end of file.

    Raises: ConnectionError: the stream ended inside a frame. ValueError: the frame is too long.
    """
    decoder = FrameDecoder()
    while (payload := decoder.next_frame()) is None:
        chunk = connection.recv(decoder.missing_bytes)
        if not chunk:
            decoder.check_complete()
            return None
        decoder.feed(chunk)
    return payload


class FrameDecoder:
    """Cuts a byte stream that arrives in pieces into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, chunk: bytes) -> None:
        """Add bytes as they came."""
        self._buffer += chunk

    @property
    def missing_bytes(self) -> int:
        """How many more bytes the header or frame at hand needs, at least 1.

        Raises: ValueError: the frame is too long.
        """
        if len(self._buffer) < _LENGTH.size:
            return _LENGTH.size - len(self._buffer)
        return max(1, _LENGTH.size + self._length() - len(self._buffer))

    def next_frame(self) -> bytes | None:
        """Take the next complete payload; None if more bytes are needed.

        Raises: ValueError: the frame is too long.
        """
        if len(self._buffer) < _LENGTH.size:
            return None
        end = _LENGTH.size + self._length()
        if len(self._buffer) < end:
            return None
        payload = bytes(self._buffer[_LENGTH.size : end])
        del self._buffer[:end]
        return payload

    def check_complete(self) -> None:
        """Raise ConnectionError if the stream ended inside a frame."""
        if self._buffer:
            raise ConnectionError(f"the stream ended inside a frame, after {len(self._buffer)} bytes")

    def _length(self) -> int:
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > MAX_FRAME_BYTES:
            raise ValueError(f"a frame must be at most {MAX_FRAME_BYTES} bytes, got {length}")
        return int(length)
