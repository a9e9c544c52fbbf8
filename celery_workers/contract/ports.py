"""The five kinds of artifact that pass along an edge, and how an agent's input and output classes declare ports.

An agent declares its ports as frozen dataclasses: the field's name is the port's name, its type the port's kind,
``X | None`` makes it optional, ``list[X]`` lets it take several edges.

Layout on disk (the child sees local paths only):

========  =========================================================================================================
dataset   folder: ``rows.parquet``. Metadata: ``format`` (alpaca, chat, kto, preference, prompt_completion, text),
          ``rows``. Canonical columns by format: alpaca ``instruction input output [system]``; chat ``messages
          [tools]``; prompt_completion ``prompt completion``; preference ``prompt chosen rejected [tools]``; kto
          ``prompt completion label [tools]`` (``label`` is boolean: wanted or not); text ``text``. All are text but
          ``label`` and the lists of messages: ``messages``, and in preference and kto ``prompt``, ``chosen``,
          ``rejected`` and ``completion``. A message has ``role`` (system, user, assistant, tool) and ``content``, and
          may have ``name``, ``reasoning_content``, ``tool_calls`` (JSON text of a list as OpenAI writes it),
          ``tool_call_id`` and ``train`` (boolean: whether it is learned, where it says so itself). ``tools`` is JSON
          text of a list of functions. An optional column may be missing. Always ``row_number`` int64, the 1-based
          row of the source file. Further columns are kept as
          they came, as text.
examples  folder: ``examples.arrow`` (Arrow IPC file, uncompressed, so it can be memory-mapped) with ``input_ids``
          list<int32>, ``labels`` list<int32> (-100 where not trained on), ``row_number`` int64.
          Metadata: ``base_model``, ``tokenizer_digest``, ``template``, ``format``, ``rows``, ``tokens``,
          ``supervised_tokens``, ``max_length_tokens``, ``longest_tokens``, ``length_quantiles``.
model     folder: ``adapter_config.json`` + ``adapter_model.safetensors``, or ``config.json`` + ``model*.safetensors``;
          tokenizer files beside them. Metadata: ``model_kind`` (base, adapter, merged, gguf), ``base_model``.
report    one JSON file, ``report.json``, in the shape of ``ReportDocument``. Metadata: ``title``, ``summary``.
file      one file under its own name. Metadata: ``model_kind`` where it holds a model.
========  =========================================================================================================
"""

from __future__ import annotations

import dataclasses
import types
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, Union, get_args, get_origin, get_type_hints

JsonObject = dict[str, object]


class PortKind(StrEnum):
    """What an edge may carry; edges join ports of one kind only."""

    DATASET = "dataset"
    EXAMPLES = "examples"
    MODEL = "model"
    REPORT = "report"
    FILE = "file"


@dataclass(frozen=True, kw_only=True)
class Port:
    """One artifact as an agent sees it: a local file or folder with its metadata.

    ``sha256`` is empty on outputs; the platform computes it when it stores them.
    """

    kind: ClassVar[PortKind]
    path: Path
    metadata: JsonObject = field(default_factory=dict)
    sha256: str = ""


class Dataset(Port):
    """Rows: a folder with ``rows.parquet``."""

    kind = PortKind.DATASET


class Examples(Port):
    """Token ids and labels, ready to train: a folder with ``examples.arrow``."""

    kind = PortKind.EXAMPLES


class Model(Port):
    """Base, adapter or full weights: a folder of safetensors."""

    kind = PortKind.MODEL


class Report(Port):
    """A JSON report with figures."""

    kind = PortKind.REPORT


class File(Port):
    """Any single file or folder to download."""

    kind = PortKind.FILE


@dataclass(frozen=True, kw_only=True)
class PortSpec:
    """One declared port: what the palette shows and the graph checks."""

    name: str
    kind: PortKind
    is_required: bool
    takes_many: bool
    port_class: type[Port]


def port_specs(ports_class: type) -> list[PortSpec]:
    """Read the ports that a dataclass declares.

    Raises: TypeError: a field is not a Port, ``Port | None`` or ``list[Port]``; the message names it.
    """
    if not dataclasses.is_dataclass(ports_class):
        raise TypeError(f"{ports_class.__name__} must be a dataclass whose fields are ports")
    hints = get_type_hints(ports_class)
    return [_port_spec(ports_class, item.name, hints[item.name]) for item in dataclasses.fields(ports_class)]


def _port_spec(owner: type, name: str, hint: object) -> PortSpec:
    is_required, takes_many = True, False
    if get_origin(hint) in (Union, types.UnionType):
        members = [member for member in get_args(hint) if member is not type(None)]
        is_required = len(members) == len(get_args(hint))
        hint = members[0] if len(members) == 1 else hint
    if get_origin(hint) is list:
        takes_many = True
        (hint,) = get_args(hint)
    if not (isinstance(hint, type) and issubclass(hint, Port)):
        raise TypeError(f"{owner.__name__}.{name} must be a Port, Port | None or list[Port], got {hint!r}")
    return PortSpec(name=name, kind=hint.kind, is_required=is_required, takes_many=takes_many, port_class=hint)
