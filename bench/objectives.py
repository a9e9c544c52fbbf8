"""Compare losses and gradients of the preference objectives with TRL's on the same tokens, models and reference.

    python -m bench.objectives

Two random Llama layers in float32, the model being the reference moved by noise. TRL's own trainers and collators compute
its side, on padded batches; ours joins the rows. ORPO's prompts are one token long: TRL takes the cross entropy over prompt
and completion, the paper and we over the completion, and one token has none before it to be predicted from. Needs
bench/requirements.txt.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from celery_workers.conftest import write_tiny_model
from celery_workers.data.examples_file import ExamplesWriter, open_examples
from celery_workers.data.examples_schema import ExamplesKind
from celery_workers.training.attention import join_rows
from celery_workers.training.config import TrainingConfig
from celery_workers.training.example_set import ExampleSet, open_example_set
from celery_workers.training.loss import ask
from celery_workers.training.objectives import OBJECTIVES, Totals
from celery_workers.training.reference import measure_reference, mismatch_kl

LIMIT = 1e-5
EXAMPLES = 6
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Sample:
    """A prompt, its two completions (the second is unused for KTO), and whether the first is wanted."""

    prompt: list[int]
    completion: list[int]
    other: list[int]
    label: bool


def draw_samples(*, prompt_lengths: tuple[int, int]) -> list[Sample]:
    """Draw the same token ids every time."""
    generator = np.random.default_rng(0)

    def ids(low: int, high: int) -> list[int]:
        return generator.integers(3, 250, generator.integers(low, high)).tolist()

    return [Sample(ids(*prompt_lengths), ids(2, 14), ids(2, 14), number % 2 == 0) for number in range(EXAMPLES)]


def load_models(folder: Path) -> tuple[PreTrainedModel, PreTrainedModel]:
    """Return the reference, and the model: the same weights and a little noise."""
    reference, model = (AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32) for _ in range(2))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return reference, model


def run_ours(
    folder: Path, samples: Sequence[Sample], config: TrainingConfig
) -> tuple[float, dict[str, torch.Tensor], ExampleSet]:
    """Return our loss and gradients."""
    with tempfile.TemporaryDirectory() as name:
        write_samples(Path(name), samples, is_kto=config.objective == "kto")
        examples = open_example_set(open_examples(Path(name)), config, seed=0)
        start, model = load_models(folder)
        join_rows(start.eval())
        join_rows(model.eval())
        before, now = (ask(each, can_join=True, precision="float32") for each in (start, model))
        indices = [np.arange(EXAMPLES)]
        reference, kl = None, 0.0
        if config.objective != "orpo":
            reference = measure_reference(before, examples, indices, CPU, can_join=True, before_each=lambda: None)
        if config.objective == "kto" and reference is not None:
            kl = mismatch_kl(now, examples, indices, reference, CPU, can_join=True)
        totals = Totals(**examples.count(indices[0]), kl=kl)
        (batch,) = examples.collate(indices[0], CPU, can_join=True, reference=reference)
        loss = OBJECTIVES[config.objective](now, batch, totals, config).loss
        loss.backward()
        return loss.item(), _gradients(model), examples


def write_samples(folder: Path, samples: Sequence[Sample], *, is_kto: bool) -> None:
    """Write the samples as an examples file."""

    def side(sample: Sample, completion: list[int]) -> tuple[list[int], list[int]]:
        return sample.prompt + completion, [-100] * len(sample.prompt) + completion

    with ExamplesWriter(folder, kind=ExamplesKind.KTO if is_kto else ExamplesKind.PREFERENCE) as writer:
        for number, sample in enumerate(samples, start=1):
            if is_kto:
                writer.append(*side(sample, sample.completion), row_number=number, is_desirable=sample.label)
            else:
                writer.append_pair(side(sample, sample.completion), side(sample, sample.other), row_number=number)


def trl_dpo(
    folder: Path,
    samples: Sequence[Sample],
    config: TrainingConfig,
    _examples: ExampleSet,
) -> tuple[float, PreTrainedModel]:
    """DPOTrainer's loss on the samples."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    reference, model = load_models(folder)
    with tempfile.TemporaryDirectory() as output:
        trainer = DPOTrainer(
            model=model,
            ref_model=reference,
            args=DPOConfig(beta=config.beta, **_arguments(output)),
            train_dataset=Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}]),
            processing_class=AutoTokenizer.from_pretrained(folder),
        )
        rows = [
            {"prompt_ids": sample.prompt, "chosen_ids": sample.completion, "rejected_ids": sample.other} for sample in samples
        ]
        return _backward(trainer, trainer.data_collator(rows))


def trl_kto(
    folder: Path,
    samples: Sequence[Sample],
    config: TrainingConfig,
    examples: ExampleSet,
) -> tuple[float, PreTrainedModel]:
    """KTOTrainer's loss on the samples, with our partners for its mismatched completions."""
    from datasets import Dataset
    from trl import KTOConfig, KTOTrainer

    reference, model = load_models(folder)
    with tempfile.TemporaryDirectory() as output:
        trainer = KTOTrainer(
            model=model,
            ref_model=reference,
            args=KTOConfig(
                beta=config.beta,
                desirable_weight=config.desirable_weight,
                undesirable_weight=config.undesirable_weight,
                **{**_arguments(output), "per_device_train_batch_size": 2, "train_sampling_strategy": "sequential"},
            ),
            train_dataset=Dataset.from_list([{"prompt": "a", "completion": letter, "label": True} for letter in "bc"]),
            processing_class=AutoTokenizer.from_pretrained(folder),
        )
        longest = max(len(sample.prompt) + len(sample.completion) for sample in samples)
        rows = []
        for sample, partner in zip(samples, examples.partners, strict=True):
            other = samples[int(partner)].completion[: longest - len(sample.prompt)]
            rows.append(
                {
                    "prompt_ids": sample.prompt,
                    "completion_ids": sample.completion,
                    "KL_completion_ids": other,
                    "label": sample.label,
                }
            )
        return _backward(trainer, trainer.data_collator(rows))


def trl_orpo(
    folder: Path,
    samples: Sequence[Sample],
    config: TrainingConfig,
    _examples: ExampleSet,
) -> tuple[float, PreTrainedModel]:
    """ORPOTrainer's loss on the samples."""
    from datasets import Dataset
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    _reference, model = load_models(folder)
    with tempfile.TemporaryDirectory() as output:
        trainer = ORPOTrainer(
            model=model,
            args=ORPOConfig(beta=config.orpo_lambda, **_arguments(output)),
            train_dataset=Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}]),
            processing_class=AutoTokenizer.from_pretrained(folder),
        )
        sides = {"chosen": [sample.completion for sample in samples], "rejected": [sample.other for sample in samples]}
        batch: dict[str, torch.Tensor] = {}
        for side, completions in sides.items():
            rows = [sample.prompt + completion for sample, completion in zip(samples, completions, strict=True)]
            length = max(map(len, rows))
            labels = [
                [-100] * len(sample.prompt) + row[len(sample.prompt) :] for sample, row in zip(samples, rows, strict=True)
            ]
            batch[f"{side}_input_ids"] = _padded(rows, length, 0)
            batch[f"{side}_attention_mask"] = _padded([[1] * len(row) for row in rows], length, 0)
            batch[f"{side}_labels"] = _padded(labels, length, -100)
        model.eval()
        loss, _metrics = trainer.get_batch_loss_metrics(model, batch)
        loss.backward()
        return loss.item(), model


def _arguments(output: str) -> dict[str, object]:
    return {
        "output_dir": output,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": "none",
        "disable_tqdm": True,
        "per_device_train_batch_size": EXAMPLES,
    }


def _backward(trainer: object, batch: dict[str, torch.Tensor]) -> tuple[float, PreTrainedModel]:
    model = trainer.model
    model.eval()
    loss = trainer.compute_loss(model, batch)
    loss.backward()
    return loss.item(), model


def _padded(rows: Sequence[Sequence[int]], length: int, value: int) -> torch.Tensor:
    return torch.tensor([[*row, *[value] * (length - len(row))] for row in rows])


def _gradients(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


Peer = Callable[[Path, Sequence[Sample], TrainingConfig, ExampleSet], tuple[float, PreTrainedModel]]
CASES: list[tuple[TrainingConfig, Peer, tuple[int, int]]] = [
    (TrainingConfig(objective="dpo", beta=0.1), trl_dpo, (1, 9)),
    (TrainingConfig(objective="dpo", beta=0.5), trl_dpo, (1, 9)),
    (TrainingConfig(objective="orpo", orpo_lambda=0.1), trl_orpo, (1, 2)),
    (TrainingConfig(objective="orpo", orpo_lambda=1.0), trl_orpo, (1, 2)),
    (TrainingConfig(objective="kto", beta=0.1), trl_kto, (1, 9)),
    (TrainingConfig(objective="kto", beta=0.5, desirable_weight=1.5, undesirable_weight=0.5), trl_kto, (1, 9)),
]


def main() -> None:
    """Print a line for each case; the exit status is 1 if a difference is above the limit."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(f"{'objective':24} {'ours':>12} {'TRL':>12} {'loss':>9} {'gradients':>10}   relative differences, limit {LIMIT}")
    worst = 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tiny_model(folder)
        for config, peer, prompt_lengths in CASES:
            samples = draw_samples(prompt_lengths=prompt_lengths)
            loss, gradients, examples = run_ours(folder, samples, config)
            theirs, model = peer(folder, samples, config, examples)
            expected = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
            found = torch.cat([gradient.flatten() for gradient in gradients.values()])
            differences = abs(loss / theirs - 1), float((found - expected).norm() / expected.norm())
            worst = max(worst, *differences)
            strength = f"lambda {config.orpo_lambda}" if config.objective == "orpo" else f"beta {config.beta}"
            what = f"{config.objective} {strength}"
            print(f"{what:24} {loss:12.8f} {theirs:12.8f} {differences[0]:9.1e} {differences[1]:10.1e}")
    sys.exit(0 if worst <= LIMIT else 1)


if __name__ == "__main__":
    main()
