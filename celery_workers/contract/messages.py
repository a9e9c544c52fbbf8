"""The closed union of messages between a supervisor and the agent process it started.

Framing: a 4-byte big-endian length, then that many bytes of UTF-8 JSON. At most ``MAX_FRAME_BYTES``. The supervisor
sends one ``request``, then any number of ``cancel``, ``shutdown`` and ``stored``; the child sends ``ready``, then logs,
metrics, progress and checkpoints, then exactly one ``result`` or ``failure``. End of file means that the other is gone.
"""

from __future__ import annotations

import socket
import struct
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from celery_workers.contract.errors import ErrorKind

MAX_FRAME_BYTES = 16 * 1024 * 1024
_LENGTH = struct.Struct(">I")


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PortValue(Message):
    """One artifact on the wire. ``path`` is absolute and local."""

    kind: str
    path: str
    metadata: dict[str, object] = Field(default_factory=dict)
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
    message: str
    timestamp: float
    """Seconds since the epoch, UTC."""
    data: dict[str, object] = Field(default_factory=dict)


class Metric(Message):
    type: Literal["metric"] = "metric"
    message: str
    timestamp: float
    step: int
    epoch: float | None = None
    loss: float | str | None = None
    """A number, or ``"nan"``, ``"inf"``, ``"-inf"``: JSON has none of these, and they must not be lost."""
    data: dict[str, float | str] = Field(default_factory=dict)


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


class Result(Message):
    type: Literal["result"] = "result"
    outputs: dict[str, list[PortValue]]


class Failure(Message):
    """The attempt ended without outputs. ``error_kind`` is null after a cancel or shutdown."""

    type: Literal["failure"] = "failure"
    error_kind: ErrorKind | None
    code: str
    message: str
    field: str | None = None
    traceback: str = ""
    evidence: dict[str, object] = Field(default_factory=dict)


ToChild = Annotated[Request | Cancel | Shutdown | Stored, Field(discriminator="type")]
FromChild = Annotated[Ready | Log | Metric | Progress | Checkpoint | Result | Failure, Field(discriminator="type")]
to_child: TypeAdapter[ToChild] = TypeAdapter(ToChild)
from_child: TypeAdapter[FromChild] = TypeAdapter(FromChild)


def send(connection: socket.socket, message: Message) -> None:
    """Write one framed message.

    Raises: ValueError: it is longer than ``MAX_FRAME_BYTES``. OSError: the other side is gone.
    """
    payload = message.model_dump_json().encode()
    if len(payload) > MAX_FRAME_BYTES:
        raise ValueError(f"a message must be at most {MAX_FRAME_BYTES} bytes, got {len(payload)}")
    connection.sendall(_LENGTH.pack(len(payload)) + payload)


def receive(connection: socket.socket) -> bytes | None:
    """Read one framed payload; None at a clean end of file.

    Raises: ConnectionError: the stream ended inside a frame. ValueError: the frame is too long.
    """
    header = _read_exactly(connection, _LENGTH.size, allow_end=True)
    if header is None:
        return None
    (length,) = _LENGTH.unpack(header)
    if length > MAX_FRAME_BYTES:
        raise ValueError(f"a frame must be at most {MAX_FRAME_BYTES} bytes, got {length}")
    return _read_exactly(connection, length, allow_end=False)


def _read_exactly(connection: socket.socket, count: int, *, allow_end: bool) -> bytes | None:
    parts = bytearray()
    while len(parts) < count:
        chunk = connection.recv(count - len(parts))
        if not chunk:
            if allow_end and not parts:
                return None
            raise ConnectionError(f"the stream ended after {len(parts)} of {count} bytes of a frame")
        parts += chunk
    return bytes(parts)
