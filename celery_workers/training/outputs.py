"""Write what a training leaves behind: adapter or full weights with their tokenizer, and the report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from peft import LoraConfig, PeftModel

from celery_workers.contract.context import Figure, ReportDocument, Series, Table
from celery_workers.contract.errors import BugError
from celery_workers.contract.estimates import Estimate
from celery_workers.export.merged import save_full
from celery_workers.modeling.device import peak_memory_bytes
from celery_workers.modeling.loading import ADAPTER_CONFIG
from celery_workers.modeling.quantization import NF4
from celery_workers.modeling.tokenizer import copy_tokenizer
from celery_workers.training.expectation import compare_expected
from celery_workers.training.lora import trainable_parameters
from celery_workers.training.methods import TrainedModel
from celery_workers.training.setup import Training

LOSS_UNITS = {"dpo": "mean per pair", "orpo": "nats per chosen token, and odds per pair", "kto": "mean per row"}
NOTHING_EXPECTED = Estimate()
REPORT_POINTS = 500
"""Most points of a curve in the report; the run's metrics have all."""


def save_model(training: Training, folder: Path, *, base_model: str, base_folder: Path) -> None:
    """Write what was trained to ``folder``: an adapter in PEFT's format, or full weights; and the tokenizer.

    Same weights give the same bytes. ``base_model`` is the reference that the model belongs to.
    """
    if isinstance(training.model, PeftModel):
        _save_adapter(training.model, folder, base_model=base_model)
        copy_tokenizer(base_folder, folder)
    else:
        save_full(training.model, folder, tokenizer_folder=base_folder, dtype="float32")
    for file in folder.iterdir():
        file.chmod(0o644)


def _save_adapter(model: PeftModel, folder: Path, *, base_model: str) -> None:
    """Write the adapter; PEFT would record the base as a path of this machine."""
    # "auto" would ask the hub whether the base's vocabulary has grown; whole embeddings are in modules_to_save
    model.save_pretrained(str(folder), save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's template; the registry writes a card of its own
    path = folder / ADAPTER_CONFIG
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base_model
    config["target_modules"] = sorted(config["target_modules"])  # PEFT keeps a set, whose order changes by process
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def describe_model(training: Training) -> dict[str, object]:
    """Return what was trained, and how much of the model that is, 0 to 1; an adapter that was trained on keeps its settings."""
    trained, total = trained_and_all(training.model)
    counts = {"trainable_parameters": trained, "total_parameters": total, "trainable_share": trained / total}
    if not isinstance(training.model, PeftModel):
        return {"model_kind": "merged", "train_modules": training.config.train_modules, **counts}
    lora = training.model.peft_config["default"]
    if not isinstance(lora, LoraConfig):
        raise BugError(f"a LoRA adapter was trained, found {type(lora).__name__}")
    return {
        "model_kind": "adapter",
        "lora_r": lora.r,
        "lora_alpha": lora.lora_alpha,
        "target_modules": sorted(lora.target_modules or ()),
        "use_dora": lora.use_dora,
        "use_rslora": lora.use_rslora,
        "modules_to_save": sorted(lora.modules_to_save or ()),
        "quantization": NF4 if training.config.method == "qlora" else None,
        **counts,
    }


def trained_and_all(model: TrainedModel) -> tuple[int, int]:
    """Return the numbers of trained and of all weights; 4-bit weights count one each, though they lie two to a byte."""
    trained = sum(parameter.numel() for parameter in trainable_parameters(model).values())
    return trained, int(model.num_parameters())


def summarize(training: Training) -> dict[str, str | int | float | bool | None]:
    """Return the numbers of the whole training, over all its attempts. Losses are the objective's: see ``History``."""
    history, plan = training.history, training.plan
    steps = len(history.losses)
    trained, total = trained_and_all(training.model)
    return {
        "final_loss": history.losses[-1],
        "eval_loss": _eval_loss(training),
        "steps": steps,
        "planned_steps": plan.total_steps,
        "result_step": _result_step(training),
        "epochs": round(plan.epochs_done(steps), 4),
        "tokens": history.tokens,
        "supervised_tokens": history.supervised_tokens,
        "training_seconds": round(history.seconds, 3),
        "tokens_per_second": round(history.tokens / history.seconds, 1),
        "peak_memory_bytes": peak_memory_bytes(training.device),
        "trainable_parameters": trained,
        "trainable_share": trained / total,
        "precision": training.precision,
        "device": training.device.type,
        "micro_batch_halvings": training.memory.halvings,
        "gradient_checkpointing": training.memory.is_checkpointing,
        **{name: values[-1] for name, values in history.metrics.items()},
    }


def _result_step(training: Training) -> int:
    """Return the step whose weights are the result."""
    best = training.history.best_evaluation() if training.config.load_best_at_end else None
    return best or len(training.history.losses)


def _eval_loss(training: Training) -> float | None:
    """Return the evaluation loss of the result, or the last one known before it."""
    known = dict(zip(training.history.eval_steps, training.history.eval_losses, strict=True))
    steps = [step for step in known if step <= _result_step(training)]
    return known[steps[-1]] if steps else None


def make_report(training: Training, *, base_model: str, expected: Estimate = NOTHING_EXPECTED) -> ReportDocument:
    """Return the training's report: its numbers, what was expected of them, settings and curves."""
    history = training.history
    steps = list(range(1, len(history.losses) + 1))
    losses = [_series("training", steps, history.losses)]
    if history.eval_losses:
        losses.append(_series("evaluation", history.eval_steps, history.eval_losses))
    settings = {**training.config.model_dump(mode="json"), "base_model": base_model, "seed": training.seed}
    made = describe_model(training)
    settings.update({name: made[name] for name in made if name in settings})  # an adapter that was trained on keeps its own
    return ReportDocument(
        kind="training",
        title=f"Training of {base_model}",
        summary=summarize(training),
        verdict=_verdict(training),
        tables=[
            Table(title="Settings", columns=["setting", "value"], rows=[[key, _cell(settings[key])] for key in settings]),
            compare_expected(expected, summarize(training)),
        ],
        figures=[
            _figure("Loss", LOSS_UNITS.get(training.config.objective, "nats per supervised token"), losses),
            _figure("Learning rate", "learning rate", [_series("learning rate", steps, history.learning_rates)]),
            _figure("Gradient norm", "norm before clipping", [_series("gradient norm", steps, history.grad_norms)]),
            *(_metric_figure(name, values) for name, values in history.metrics.items()),
        ],
        data={
            "eval": [{"step": step, "loss": loss} for step, loss in zip(history.eval_steps, history.eval_losses, strict=True)]
        },
    )


def _verdict(training: Training) -> str:
    losses = training.history.eval_losses
    if training.config.load_best_at_end and _result_step(training) < len(training.history.losses):
        return f"The result is the weights after step {_result_step(training)}, which had the lowest evaluation loss."
    if len(losses) > 1 and losses[-1] > min(losses) * 1.02:
        best = training.history.eval_steps[losses.index(min(losses))]
        return f"The evaluation loss was lowest after step {best} and has risen since: fewer epochs may do better."
    return ""


def _metric_figure(name: str, values: Sequence[float | None]) -> Figure:
    known = [(step, value) for step, value in enumerate(values, start=1) if value is not None]
    label = name.replace("_", " ")
    line = _series(label, [step for step, _value in known], [value for _step, value in known])
    return _figure(label.capitalize(), label, [line])


def _figure(title: str, y_label: str, series: list[Series]) -> Figure:
    return Figure(title=title, type="line", x_label="step", y_label=y_label, series=series)


def _series(name: str, x: Sequence[int], y: Sequence[float]) -> Series:
    """Return a line of at most ``REPORT_POINTS`` points, evenly picked, the last one among them."""
    picked = np.unique(np.linspace(0, len(x) - 1, min(len(x), REPORT_POINTS)).round().astype(int))
    return Series(name=name, x=[float(x[index]) for index in picked], y=[float(y[index]) for index in picked])


def _cell(value: object) -> str | int | float | bool | None:
    return value if isinstance(value, str | int | float | bool) or value is None else ", ".join(map(str, value))  # type: ignore[call-overload]
