"""Write each format from one live model, and test it by loading it again."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from celery_workers.contract.context import AgentContext
from celery_workers.contract.errors import BugError, UserInputError
from celery_workers.contract.ports import Model
from celery_workers.export.adapter import copy_adapter, folder_bytes
from celery_workers.export.parity import TOLERANCES, Parity, Tolerance, measure_parity, probe_ids, probe_logits
from celery_workers.modeling.tokenizer import TOKENIZER_FILE

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

    from celery_workers.export.parity import CausalLM
    from celery_workers.modeling.precision import Precision

Format = Literal["adapter", "merged"]


@dataclass(frozen=True, kw_only=True)
class Export:
    """One written folder and how far it is from the live model."""

    format: Format
    path: Path
    dtype: str
    size_bytes: int
    base_model: str
    parity: Parity
    tolerance: Tolerance

    def as_model(self, source: Model, summaries: Sequence[dict[str, object]]) -> Model:
        """Return the output port's value: the source's metadata, what became of it, its parity and the results on it."""
        metadata = {
            **source.metadata,
            "model_kind": self.format,
            "base_model": self.base_model,
            "source_sha256": source.sha256,
            "dtype": self.dtype,
            "parity": asdict(self.parity),
            "reports": list(summaries),
        }
        return Model(path=self.path, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written. ``as_trained`` says how far the live model is from the model that was trained, where that is
    another: an adapter of method qlora was trained over a base in 4 bits, and is used and merged over the full weights."""

    exports: list[Export]
    as_trained: Parity | None


@dataclass(kw_only=True)
class _Live:
    """The model as it was trained, in float32, with its logits on the probes."""

    model: CausalLM | None
    tokenizer_folder: Path
    base_model: str
    is_adapter: bool
    device: str
    probes: list[list[int]]
    logits: list[torch.Tensor]
    as_trained: Parity | None

    def take_model(self) -> CausalLM:
        """Give the model away: what uses it up must be its only holder, or its memory is not freed."""
        if self.model is None:
            raise BugError("the live model was used up already")
        model, self.model = self.model, None
        return model


def export_model(ctx: AgentContext, source: Model, formats: Sequence[Format], *, merged_dtype: Precision) -> Exported:
    """Write ``formats`` of ``source`` below the workdir, each in a folder of its own name.

    Raises: UserInputError: an adapter is asked for of full weights. BugError: an export differs from the live model by
    more than the tolerance; the message has the numbers.
    """
    live = _load(ctx, source)
    ctx.progress(0.3)
    writers: dict[Format, Callable[[], Export]] = {
        "adapter": lambda: _export_adapter(ctx, live, source),
        "merged": lambda: _export_merged(ctx, live, merged_dtype),
    }
    exports = []
    for name in ("adapter", "merged"):  # merging uses the live model up, so it comes last
        if name in formats:
            ctx.check_canceled()
            exports.append(writers[name]())
            _check(ctx, exports[-1])
            ctx.progress(0.3 + 0.7 * len(exports) / len(formats))
    return Exported(exports=exports, as_trained=live.as_trained)


def _load(ctx: AgentContext, source: Model) -> _Live:
    import torch

    from celery_workers.modeling.device import pick_device
    from celery_workers.modeling.loading import is_adapter_folder, load_adapter, load_base, load_tokenizer

    device = str(pick_device())
    base_model = str(source.metadata["base_model"])
    is_adapter = is_adapter_folder(source.path)
    folder = ctx.reference(base_model) if is_adapter else source.path
    tokenizer_folder = source.path if (source.path / TOKENIZER_FILE).is_file() else folder
    probes = probe_ids(load_tokenizer(tokenizer_folder))
    trained_logits = _logits_as_trained(source, folder, probes, device=device)
    base = load_base(folder, dtype=torch.float32, device=device)
    model: CausalLM = load_adapter(base, source.path) if is_adapter else base
    logits = probe_logits(model, probes)
    ctx.log("Loaded the live model in float32", device=device, probe_positions=sum(map(len, probes)))
    return _Live(
        model=model,
        tokenizer_folder=tokenizer_folder,
        base_model=base_model,
        is_adapter=is_adapter,
        device=device,
        probes=probes,
        logits=logits,
        as_trained=measure_parity(trained_logits, logits) if trained_logits else None,
    )


def _logits_as_trained(source: Model, folder: Path, probes: list[list[int]], *, device: str) -> list[torch.Tensor]:
    """Return the logits of an adapter over the 4-bit base that it was trained over; none where it was trained over full
    weights, which the live model has too."""
    from celery_workers.modeling.loading import is_adapter_folder, load_adapter
    from celery_workers.modeling.precision import torch_dtype
    from celery_workers.modeling.quantization import NF4, load_quantized_base

    if not is_adapter_folder(source.path) or source.metadata.get("quantization") != NF4:
        return []
    precision = cast("Precision", source.metadata.get("precision", "float32"))
    base = load_quantized_base(folder, dtype=torch_dtype(precision), device=device)
    return probe_logits(load_adapter(base, source.path), probes)


def _export_adapter(ctx: AgentContext, live: _Live, source: Model) -> Export:
    if not live.is_adapter:
        raise UserInputError(
            f"formats cannot hold adapter: the model is {source.metadata['model_kind']}, full weights without an adapter;"
            " set formats to merged",
            field="formats",
            code="no_adapter",
        )
    folder = ctx.workdir / "adapter"
    copy_adapter(source.path, folder, base_model=live.base_model)
    model = cast("PeftModel", live.model)
    model.load_adapter(str(folder), adapter_name="exported")
    model.set_adapter("exported")
    logits = probe_logits(model, live.probes)
    model.set_adapter("default")
    model.delete_adapter("exported")
    return Export(
        format="adapter",
        path=folder,
        dtype=_adapter_dtype(folder),
        size_bytes=folder_bytes(folder),
        base_model=live.base_model,
        parity=measure_parity(live.logits, logits),
        tolerance=TOLERANCES["identical"],
    )


def _export_merged(ctx: AgentContext, live: _Live, dtype: Precision) -> Export:
    import torch

    from celery_workers.export.merged import fold_adapter, save_full
    from celery_workers.modeling.loading import load_base

    folder = ctx.workdir / "merged"
    model = live.take_model()
    if live.is_adapter:
        model = fold_adapter(cast("PeftModel", model))
    save_full(cast("PreTrainedModel", model), folder, tokenizer_folder=live.tokenizer_folder, dtype=dtype)
    del model
    gc.collect()
    ctx.check_canceled()
    # Computed in float32 from the stored weights, so that only what the file holds is compared.
    reloaded = load_base(folder, dtype=torch.float32, device=live.device)
    return Export(
        format="merged",
        path=folder,
        dtype=dtype,
        size_bytes=folder_bytes(folder),
        base_model=live.base_model,
        parity=measure_parity(live.logits, probe_logits(reloaded, live.probes)),
        tolerance=TOLERANCES[dtype],
    )


def _adapter_dtype(folder: Path) -> str:
    from safetensors import safe_open

    with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
        name = next(iter(file.keys()))
        return str(file.get_tensor(name).dtype).removeprefix("torch.")


def _check(ctx: AgentContext, export: Export) -> None:
    parity = export.parity
    ctx.log(
        f"Wrote {export.format}: max |logit difference| {parity.max_logit_difference:.2g}, top-1 agreement "
        f"{parity.top1_agreement:.3f}, KL {parity.kl_nats:.2g} nats",
        size_bytes=export.size_bytes,
        dtype=export.dtype,
    )
    breaches = parity.breaches(export.tolerance)
    if breaches:
        raise BugError(
            f"the exported {export.format} model ({export.dtype}) is not the live model: {'; '.join(breaches)}",
            code="export_differs",
            evidence=asdict(parity),
        )
