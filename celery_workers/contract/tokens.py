"""What the server and a token process say to each other; the framing is that of ``messages``.

The server sends ``load`` (a model's tokenizer), then any number of ``look`` (one row); each is answered once, by ``loaded``,
``seen`` or ``refused``. The process needs no credential and no network: it reads local files only.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from celery_workers.contract.errors import ErrorKind
from celery_workers.contract.messages import JsonData, Message, Text

Part = Literal["template", "system", "user", "assistant", "tool", "end_of_turn", "text", "other"]
State = Literal["kept", "unfit", "emptied", "other_language", "refused", "too_long"]


class Load(Message):
    """Load the tokenizer in ``folder``. ``bundled`` names the bundled model that is converted to it where it is not there."""

    type: Literal["load"] = "load"
    folder: str
    bundled: str | None = None
    alarm_seconds: int = Field(default=60, ge=1)
    """When the process ends by itself if it is not done."""


class Look(Message):
    """Make the tokens of the row at ``position`` (from 0) of a file. ``config`` is that of the preprocessing agent."""

    type: Literal["look"] = "look"
    folder: str
    config: dict[str, object]
    path: str
    file_name: str
    file_format: str
    sha256: str
    """Of the file: what was read and counted of it is kept under this name."""
    rows: int
    position: int = Field(ge=0)
    chunk: int = Field(default=0, ge=0)
    """Which example of a row that is cut into several; beyond the last it is the last."""
    alarm_seconds: int = Field(default=60, ge=1)


class Ready(Message):
    """The process has imported what it needs."""

    type: Literal["ready"] = "ready"


class Loaded(Message):
    """The tokenizer is there. ``is_spent``: the process has grown by converting the model, and should be replaced."""

    type: Literal["loaded"] = "loaded"
    is_spent: bool = False


class SeenToken(Message):
    """``text`` is empty where the token continues the character of the one before; the texts join to the row's text."""

    id: int
    text: Text
    part: Part
    trained: bool


class AnswerTokens(Message):
    """A second conversation of a row; ``tokens`` are the first ones only where there are very many."""

    tokens: list[SeenToken]
    length_tokens: int
    supervised_tokens: int


class RowTokens(Message):
    """One row as the trainer gets it: ``tokens`` are the first ones only where there are very many."""

    state: State
    row_number: int
    code: str = ""
    message: Text = ""
    tokens: list[SeenToken] = Field(default_factory=list)
    length_tokens: int = 0
    supervised_tokens: int = 0
    cut_tokens: int = 0
    chunks: int = 1
    """Examples that the row is cut into; ``tokens`` are those of number ``chunk``, from 1."""
    chunk: int = 1
    repeated_tokens: int = 0
    """Tokens with which the chunk repeats the end of the one before, untrained."""
    is_answer_cut: bool = False
    rejected: AnswerTokens | None = None
    """Of a preference: the prompt with the rejected answer; ``tokens`` are those of the chosen one."""
    is_desirable: bool | None = None
    """Of a judged answer: whether it is wanted."""
    has_special_tokens: bool = False


class Share(Message):
    """How much of a set is trained. ``sample`` says which rows were looked at: ``all``, ``spread`` evenly or the ``first``."""

    sample: Literal["all", "spread", "first"]
    rows: int
    kept_rows: int
    left_out_rows: dict[str, int]
    tokens: int
    supervised_tokens: int


class Seen(Message):
    """The answer to ``look``."""

    type: Literal["seen"] = "seen"
    format: str
    max_length_tokens: int
    row: RowTokens
    share: Share


class Refused(Message):
    """Why there is no answer; ``error_kind`` says whose fault it is."""

    type: Literal["refused"] = "refused"
    error_kind: ErrorKind
    code: str
    message: Text
    field: str | None = None
    evidence: JsonData = Field(default_factory=dict)


ToTokenProcess = Annotated[Load | Look, Field(discriminator="type")]
FromTokenProcess = Annotated[Ready | Loaded | Seen | Refused, Field(discriminator="type")]
to_token_process: TypeAdapter[ToTokenProcess] = TypeAdapter(ToTokenProcess)
from_token_process: TypeAdapter[FromTokenProcess] = TypeAdapter(FromTokenProcess)
