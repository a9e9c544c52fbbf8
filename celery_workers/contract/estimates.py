"""What a node will need, before it runs: the agents' answers, and the question and answer of the process that asks them.

The server imports neither torch nor transformers, so it starts ``celery_workers.estimate_process`` with one
``EstimateQuestion`` on its standard input, and reads one ``EstimateAnswer`` from its standard output.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from celery_workers.contract.errors import UserInputError
from celery_workers.contract.messages import JsonData, Message

JsonObject = dict[str, object]


class Machine(Message):
    """What a worker's machine can do. flops: multiplications and additions a second in large products, by number type;
    empty where no worker has measured them."""

    device: str = "cpu"
    memory_bytes: int = 0
    flops: dict[str, float] = {}
    threads: int = 1


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a node will need. None: nobody can say before it runs.

    ``memory_bytes`` is the most at once, on the device that ``Machine`` names; ``disk_bytes`` what its outputs and newest
    checkpoints take; ``tokens`` those that pass through the model. ``outputs`` is the metadata that its artifacts will have, by
    port, as far as it is known; ``notes`` say what was guessed.
    """

    seconds: float | None = None
    memory_bytes: int | None = None
    disk_bytes: int | None = None
    tokens: int | None = None
    steps: int | None = None
    outputs: Mapping[str, JsonObject] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class EstimateContext:
    """What an agent may look at for its estimate: places of base models, facts of data files, and the machine."""

    machine: Machine
    folders: Mapping[str, str]
    files: Mapping[str, JsonObject]

    def base_model(self, reference: str) -> Path:
        """Return the folder of a base model, in which at least its ``config.json`` lies.

        Raises: UserInputError: it is not on this machine yet.
        """
        folder = self.folders.get(reference)
        if folder is None or not (Path(folder) / "config.json").is_file():
            raise UserInputError(f"{reference} is not on this machine yet", code="model_not_here")
        return Path(folder)

    def file(self, reference: str) -> JsonObject:
        """Return ``rows``, ``characters`` and ``size_bytes`` of a data file, as far as they are known."""
        return self.files.get(reference, {})


class NodeQuestion(Message):
    """One node. ``given`` is the metadata of its outputs where they are there already: then it needs nothing more."""

    node: str
    agent: str
    config: JsonData
    inputs: dict[str, list[tuple[str, str]]]
    """By port: the nodes, and their ports, that feed it."""
    queue: str
    given: dict[str, JsonData] | None = None


class EstimateQuestion(Message):
    """Nodes in the graph's order, with what they refer to."""

    nodes: list[NodeQuestion]
    folders: dict[str, str]
    bundled: dict[str, str] = {}
    """Bundled models by reference, to convert where they are not there yet."""
    files: dict[str, JsonData]
    machines: dict[str, Machine]


class NodeEstimate(Message):
    """The answer for one node; ``is_done``: its outputs are there."""

    node: str
    is_done: bool = False
    seconds: float | None = None
    memory_bytes: int | None = None
    disk_bytes: int | None = None
    tokens: int | None = None
    steps: int | None = None
    notes: list[str] = []


class EstimateAnswer(Message):
    """One estimate per node, in the order of the question."""

    nodes: list[NodeEstimate]
