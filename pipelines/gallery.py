"""Pipelines to begin with. Each runs as it is on the bundled example and the bundled model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

JsonObject = dict[str, object]
Nodes = Mapping[str, tuple[str, JsonObject]]

BASE_MODEL = "bundled:smollm2-135m-instruct"
COLUMN_WIDTH, ROW_HEIGHT = 280, 160


@dataclass(frozen=True, kw_only=True)
class Template:
    """One entry of the gallery."""

    name: str
    title: str
    summary: str
    graph: JsonObject


DATASET = ("DatasetAgent", {"file_path": "example:orders"})
VALIDATION = ("ValidationAgent", {})
PREPROCESSING = ("PreprocessingAgent", {"base_model": BASE_MODEL, "split_column": "split"})
EVALUATION: JsonObject = {"match": "json", "max_new_tokens": 96}
DATA: Nodes = {"dataset": DATASET, "validation": VALIDATION, "preprocessing": PREPROCESSING}
DATA_EDGES = (("dataset", "validation"), ("validation", "preprocessing"))


def _training(**config: object) -> tuple[str, JsonObject]:
    usual = {"learning_rate": 2e-3, "target_modules": ["all-linear"], "lora_dropout": 0.0, "tokens_per_batch": 512}
    return "TrainingAgent", {**usual, **config}


def _graph(nodes: Nodes, edges: Sequence[tuple[str, str]]) -> JsonObject:
    """Return the pipeline JSON, its nodes laid out from left to right by how many steps lie before them."""
    columns: dict[str, int] = {}
    for name in nodes:  # named in order: every node after those it takes inputs from
        columns[name] = max((columns[start] + 1 for start, end in edges if end == name), default=0)
    rows: dict[int, int] = {}
    documents = []
    for name, (agent, config) in nodes.items():
        row = rows[columns[name]] = rows.get(columns[name], -1) + 1
        place = {"x": columns[name] * COLUMN_WIDTH, "y": row * ROW_HEIGHT}
        documents.append({"agent_name": name, "agent_class": agent, "config": dict(config), "ui": place})
    return {"nodes": documents, "edges": [{"from_agent": start, "to_agent": end} for start, end in edges]}


def templates() -> list[Template]:
    """Return the gallery, simplest first."""
    return [
        Template(
            name="instruction-tuning",
            title="Instruction tuning",
            summary="Rows of questions and answers, checked and tokenized; a LoRA adapter that learns to answer so.",
            graph=_graph({**DATA, "training": _training()}, [*DATA_EDGES, ("preprocessing", "training")]),
        ),
        Template(
            name="chat-tuning",
            title="Chat tuning with proof",
            summary="Tune on conversations, measure model and base on the same held-out rows, and say how sure the gain is.",
            graph=_graph(
                {
                    **DATA,
                    "training": _training(),
                    "evaluation_base": ("EvaluationAgent", EVALUATION),
                    "evaluation": ("EvaluationAgent", {**EVALUATION, "include_base": False}),
                    "comparison": ("ComparisonAgent", {}),
                },
                [
                    *DATA_EDGES,
                    *(("preprocessing", name) for name in ("training", "evaluation_base", "evaluation")),
                    ("training", "evaluation"),
                    ("evaluation_base", "comparison"),
                    ("evaluation", "comparison"),
                ],
            ),
        ),
        Template(
            name="compare-learning-rates",
            title="Compare two learning rates",
            summary="Two trainings on the same tokens, differing in their learning rate alone, measured on the same rows.",
            graph=_graph(
                {
                    **DATA,
                    "training": _training(learning_rate=2e-3),
                    "training_2": _training(learning_rate=5e-4),
                    "evaluation": ("EvaluationAgent", {**EVALUATION, "include_base": False}),
                    "evaluation_2": ("EvaluationAgent", {**EVALUATION, "include_base": False}),
                    "comparison": ("ComparisonAgent", {}),
                },
                [
                    *DATA_EDGES,
                    *(("preprocessing", name) for name in ("training", "training_2", "evaluation", "evaluation_2")),
                    ("training", "evaluation"),
                    ("training_2", "evaluation_2"),
                    ("evaluation", "comparison"),
                    ("evaluation_2", "comparison"),
                ],
            ),
        ),
        Template(
            name="evaluate-a-model",
            title="Evaluate a model",
            summary="Loss, perplexity and exact match of a model on your rows, without training it.",
            graph=_graph(
                {**DATA, "evaluation": ("EvaluationAgent", EVALUATION)}, [*DATA_EDGES, ("preprocessing", "evaluation")]
            ),
        ),
        Template(
            name="tune-and-export",
            title="Tune and export",
            summary="A tuned model to take away: as adapter and as merged weights, each tested against the live model.",
            graph=_graph(
                {**DATA, "training": _training(), "export": ("ExportAgent", {"formats": ["adapter", "merged"]})},
                [*DATA_EDGES, ("preprocessing", "training"), ("training", "export")],
            ),
        ),
        Template(
            name="clean-and-check",
            title="Clean and check a dataset",
            summary="A report on every row; near duplicates dropped, personal data masked, and tokens ready to train.",
            graph=_graph(
                {
                    **DATA,
                    "preprocessing": (
                        "PreprocessingAgent",
                        {
                            "base_model": BASE_MODEL,
                            "split_column": "split",
                            "near_dedup": "drop",
                            "mask_personal_data": ["email", "phone", "card", "iban", "key"],
                        },
                    ),
                },
                DATA_EDGES,
            ),
        ),
    ]
