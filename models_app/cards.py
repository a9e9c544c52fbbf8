"""The card of a model version: Markdown with a metadata block. Every number in it comes from a stored row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from models_app.models import Evaluation, ModelVersion
from models_app.services import base_evaluation, comparisons_of, download_name, evaluations_of, sources_of
from pipelines.models import Artifact

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser

    from platform_site.models import User

EXPORT = "ExportAgent"
LABELS = {
    "loss": "Loss (nats per token)",
    "perplexity": "Perplexity",
    "exact_match": "Exact match (0 to 1)",
    "rows": "Rows",
    "supervised_tokens": "Supervised tokens",
}


def write_card(version: ModelVersion, user: User | AnonymousUser) -> str:
    """Return the card. ``version`` has its model, artifact, parent and run at hand."""
    sections = [
        _front_matter(version),
        f"# {_text(version.model.name)}, version {version.number}",
        _opening(version),
        *_results(version, user),
        *_parity(version),
        *_data(version),
        *_training(version),
        *_loading(version),
        *_files(version),
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(version: ModelVersion) -> str:
    """Return the YAML block that model hubs read; JSON strings are YAML strings."""
    lines = ["library_name: " + ("peft" if version.kind == ModelVersion.Kind.ADAPTER else "transformers")]
    if version.kind != ModelVersion.Kind.BASE:
        lines.append(f"base_model: {json.dumps(version.base_model)}")
    lines += ["pipeline_tag: text-generation", "tags:", "  - truetune"]
    if version.kind == ModelVersion.Kind.ADAPTER:
        lines.append("  - lora")
    return "\n".join(["---", *lines, "---"])


def _opening(version: ModelVersion) -> str:
    rows: list[Sequence[object]] = [["Kind", version.kind], ["Base model", f"`{_text(version.base_model)}`"]]
    if version.sha256:
        rows.append(["SHA-256", f"`{version.sha256}`"])
    if version.artifact is not None:
        rows.append(["Size (bytes)", version.artifact.size_bytes])
        if dtype := version.artifact.metadata.get("dtype"):
            rows.append(["Number type", dtype])
    if version.parent is not None:
        rows.append(["Made from", f"{_text(str(version.parent))}, `{version.parent.pk}`"])
    if version.run is not None:
        rows.append(["Run", f"{_text(str(version.run))}, `{version.run.pk}`, node `{version.node}`"])
        rows.append(["Pipeline SHA-256", f"`{version.run.version.sha256}`"])
    rows.append(["Registered at", version.created_at.isoformat(timespec="seconds")])
    return _table(["", ""], rows)


def _results(version: ModelVersion, user: User | AnonymousUser) -> Iterator[str]:
    comparisons = comparisons_of(version, user)
    evaluations = evaluations_of(version, user)
    if not comparisons and not evaluations:
        return
    yield "## Results"
    if comparisons:
        yield f"**{_text(str(comparisons[0]['verdict']))}.**"
        metrics = comparisons[0]["metrics"]
        assert isinstance(metrics, list)  # noqa: S101 (written so by the comparison agent)
        yield _table(
            ["Metric", str(comparisons[0]["baseline"]), str(comparisons[0]["subject"]), "Difference", "Low", "High", "Rows"],
            [
                [
                    metric["metric"].replace("_", " "),
                    *(metric[key] for key in ("before", "after", "difference", "low", "high", "rows")),
                ]
                for metric in metrics
            ],
        )
    for evaluation in evaluations[:1]:
        yield from _scores(evaluation, version)


def _scores(evaluation: Evaluation, version: ModelVersion) -> Iterator[str]:
    measured = ""
    if evaluation.model_version_id != version.pk:
        is_merged = evaluation.model_version.kind == ModelVersion.Kind.ADAPTER
        measured = ", measured on the adapter that was merged" if is_merged else ", measured on the weights it was made from"
    yield f"Scores on the examples `{evaluation.examples_sha256[:12]}`{measured}:"
    base = base_evaluation(evaluation)
    columns = [("this model", evaluation), *([("base", base)] if base is not None else [])]
    yield _table(
        ["", *(name for name, _ in columns)],
        [
            [label, *(column.scores.get(metric) for _, column in columns)]
            for metric, label in LABELS.items()
            if metric in evaluation.scores
        ],
    )


def _parity(version: ModelVersion) -> Iterator[str]:
    parity = version.artifact.metadata.get("parity") if version.artifact is not None else None
    if not parity:
        return
    yield "## Parity with the live model"
    yield _table(
        ["Positions", "Max logit difference", "Top-1 agreement", "KL divergence (nats)"],
        [[parity[key] for key in ("positions", "max_logit_difference", "top1_agreement", "kl_nats")]],
    )


def _data(version: ModelVersion) -> Iterator[str]:
    sources = sources_of(version)
    if not sources:
        return
    yield "## Data"
    yield _table(
        ["Artifact", "Made by", "Rows", "Tokens", "SHA-256"],
        [
            [
                source.kind,
                source.node_run.node if source.node_run else "",
                source.metadata.get("rows"),
                source.metadata.get("tokens"),
                f"`{source.sha256}`",
            ]
            for source in sources
        ],
    )


def _training(version: ModelVersion) -> Iterator[str]:
    maker = _training_artifact(version)
    if maker is None or maker.node_run is None:
        return
    yield "## Training"
    if version.metrics:
        yield _table(["Number", "Value"], sorted(version.metrics.items()))
    yield f"Config of `{maker.node_run.node}` ({maker.node_run.agent}):"
    yield _fenced(json.dumps(maker.node_run.config, indent=2, sort_keys=True, ensure_ascii=False), "json")


def _training_artifact(version: ModelVersion) -> Artifact | None:
    """Return the model as training made it: the version's own artifact, or that of the model it was exported from."""
    is_exported = version.artifact is None or version.artifact.node_run is None or version.artifact.node_run.agent == EXPORT
    if is_exported and version.parent is not None and version.parent.artifact is not None:
        return version.parent.artifact
    return version.artifact


def _loading(version: ModelVersion) -> Iterator[str]:
    if version.artifact is None:
        return
    folder = download_name(version)
    lines = ["from transformers import AutoModelForCausalLM, AutoTokenizer", ""]
    if version.kind == ModelVersion.Kind.ADAPTER:
        base = json.dumps(version.base_model)
        lines = [
            "from peft import PeftModel",
            *lines,
            f"base = AutoModelForCausalLM.from_pretrained({base})  # or the folder that holds it",
            f'model = PeftModel.from_pretrained(base, "{folder}")',
        ]
    else:
        lines.append(f'model = AutoModelForCausalLM.from_pretrained("{folder}")')
    lines.append(f'tokenizer = AutoTokenizer.from_pretrained("{folder}")')
    yield "## Loading it"
    yield f"Unpack the download to `{folder}`, then:"
    yield _fenced("\n".join(lines), "python")
    if version.kind == ModelVersion.Kind.ADAPTER and ":" in version.base_model:
        yield (
            f"`{_text(version.base_model)}` is a name of this platform, not of a hub: give the folder of those weights, or "
            "download the merged model, which needs no base."
        )


def _files(version: ModelVersion) -> Iterator[str]:
    if version.artifact is None or not version.artifact.manifest:
        return
    yield "## Files"
    yield _table(
        ["File", "Size (bytes)", "SHA-256"],
        [[f"`{entry['path']}`", entry["size_bytes"], f"`{entry['sha256']}`"] for entry in version.artifact.manifest],
    )


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return "`" + json.dumps(value, ensure_ascii=False) + "`"
    return str(value).replace("|", "\\|").replace("\n", " ")


def _text(value: str) -> str:
    """Return text of users for a line of Markdown: no markup of theirs, and no line break."""
    plain = " ".join(value.split())
    return "".join(f"\\{character}" if character in "\\*_[]<>#`" else character for character in plain)


def _fenced(code: str, language: str) -> str:
    fence = "```"
    while fence in code:
        fence += "`"
    return f"{fence}{language}\n{code}\n{fence}"
