"""The models of one evaluation, in memory: a base, full weights, or an adapter that can be switched off."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from celery_workers.contract.context import AgentContext
from celery_workers.contract.errors import UserInputError
from celery_workers.contract.ports import Examples, Model
from celery_workers.evaluation.evaluate import overall_scores
from celery_workers.evaluation.subject import Role, Subject, SubjectRow

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

    from celery_workers.evaluation.scoring import CausalLM


BaseWeights = Literal["full", "nf4"]


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Which model a subject is."""

    name: str
    role: Role
    model_kind: str
    model_sha256: str
    base_model: str

    def with_rows(self, rows: list[SubjectRow], *, metrics: frozenset[str], precision: str) -> Subject:
        """Return the subject that these measurements make."""
        return Subject(
            name=self.name,
            role=self.role,
            model_kind=self.model_kind,
            model_sha256=self.model_sha256,
            base_model=self.base_model,
            precision=precision,
            scores=overall_scores(rows, metrics),
            rows=rows,
        )


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """``identities`` holds what can be measured: the model itself last, before it the base under an adapter.

    ``precision`` is as the report shows it: the number type, after that of stored weights where it is another.
    """

    model: CausalLM
    tokenizer: PreTrainedTokenizerBase
    identities: Sequence[Identity]
    precision: str
    device: str
    examples_sha256: str

    @contextlib.contextmanager
    def as_subject(self, identity: Identity) -> Iterator[CausalLM]:
        """Give the model as ``identity``: the base of an adapter is the same weights with the adapter switched off."""
        if identity is self.identities[-1]:
            yield self.model
            return
        with cast("PeftModel", self.model).disable_adapter():
            yield self.model


def load_models(
    ctx: AgentContext,
    examples: Examples,
    model: Model | None,
    *,
    precision: Literal["auto", "float32", "bfloat16"],
    base_weights: BaseWeights,
) -> LoadedModel:
    """Load what is to be measured on ``examples``, full weights and the base of an adapter as ``base_weights`` says.

    Raises: UserInputError: the examples were tokenized otherwise than the model reads. What the loader raises.
    """
    from celery_workers.modeling.device import pick_device
    from celery_workers.modeling.loading import load_adapter, load_base, load_tokenizer
    from celery_workers.modeling.precision import fastest_precision, torch_dtype
    from celery_workers.modeling.quantization import NF4, load_quantized_base

    device = str(pick_device())
    chosen = fastest_precision(device) if precision == "auto" else precision
    base_model = str((model or examples).metadata["base_model"])
    is_adapter = model is not None and model.metadata.get("model_kind") == "adapter"
    folder = ctx.reference(base_model) if model is None or is_adapter else model.path
    _check_tokenizer(examples, folder, base_model)
    load = load_quantized_base if base_weights == NF4 else load_base
    base = load(folder, dtype=torch_dtype(chosen), device=device)
    loaded: CausalLM = load_adapter(base, model.path) if model is not None and is_adapter else base
    return LoadedModel(
        model=loaded,
        tokenizer=load_tokenizer(folder),
        identities=_identities(model, base_model=base_model, base_folder=folder),
        precision=f"{NF4}, {chosen}" if base_weights == NF4 else chosen,
        device=device,
        examples_sha256=examples.sha256 or files_sha256([examples.path / "examples.arrow"]),
    )


def files_sha256(paths: Sequence[Path]) -> str:
    """Return one digest of the files' names and contents, in the order of their names."""
    total = hashlib.sha256()
    for path in sorted(paths, key=lambda item: item.name):
        with path.open("rb") as file:
            total.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def _identities(model: Model | None, *, base_model: str, base_folder: Path) -> list[Identity]:
    if model is None or model.metadata.get("model_kind") == "adapter":
        weights = files_sha256([*base_folder.glob("*.safetensors"), base_folder / "config.json"])
        base = Identity(name="base", role=Role.BASE, model_kind="base", model_sha256=weights, base_model=base_model)
        if model is None:
            return [base]
        return [base, _tuned(model, base_model)]
    return [_tuned(model, base_model)]


def _tuned(model: Model, base_model: str) -> Identity:
    sha256 = model.sha256 or files_sha256([path for path in model.path.iterdir() if path.is_file()])
    kind = str(model.metadata["model_kind"])
    return Identity(name="tuned", role=Role.TUNED, model_kind=kind, model_sha256=sha256, base_model=base_model)


def _check_tokenizer(examples: Examples, folder: Path, base_model: str) -> None:
    from celery_workers.modeling.tokenizer import tokenizer_digest

    expected, found = examples.metadata["tokenizer_digest"], tokenizer_digest(folder)
    if expected != found:
        raise UserInputError(
            f"the examples were tokenized for {examples.metadata['base_model']}, whose tokenizer is not that of {base_model}: "
            f"digests {str(expected)[:12]} and {found[:12]}; preprocess the data for {base_model}",
            code="tokenizer_mismatch",
            evidence={"examples": expected, "model": found},
        )
