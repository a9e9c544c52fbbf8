"""Every objective against its paper's formula, written out on plain transformers logits, one row at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import logsigmoid
from transformers import PreTrainedModel

from celery_workers.data.examples_file import ExamplesTable, ExamplesWriter, open_examples
from celery_workers.data.examples_schema import ExamplesKind
from celery_workers.modeling.loading import load_base
from celery_workers.training.attention import join_rows
from celery_workers.training.config import TrainingConfig
from celery_workers.training.example_set import ExampleSet, Reference, open_example_set
from celery_workers.training.loss import ask
from celery_workers.training.objectives import OBJECTIVES, Totals, log_one_minus_exp
from celery_workers.training.reference import measure_reference, mismatch_kl
from celery_workers.training.tests.conftest import write_kto, write_pairs

CPU = torch.device("cpu")
EXAMPLES = 5


def summed(model: PreTrainedModel, ids: np.ndarray, labels: np.ndarray) -> tuple[torch.Tensor, int]:
    """Return the summed log-probability of the supervised tokens, and their number."""
    tokens = torch.tensor(ids.astype(np.int64))
    logprobs = torch.log_softmax(model(input_ids=tokens[None]).logits[0], dim=-1)
    places = [place for place in range(1, len(ids)) if labels[place] != -100]
    return torch.stack([logprobs[place - 1, tokens[place]] for place in places]).sum(), len(places)


def rows_of(model: PreTrainedModel, table: ExamplesTable) -> list[tuple[torch.Tensor, int]]:
    return [summed(model, table.input_ids(row), table.labels(row)) for row in range(len(table))]


def dpo_by_hand(model: PreTrainedModel, start: PreTrainedModel, examples: ExampleSet, config: TrainingConfig) -> torch.Tensor:
    with torch.no_grad():
        before = [value for value, _count in rows_of(start, examples.table)]
    now = [value for value, _count in rows_of(model, examples.table)]
    losses = []
    for pair in range(EXAMPLES):
        chosen, rejected = 2 * pair, 2 * pair + 1
        margin = config.beta * ((now[chosen] - before[chosen]) - (now[rejected] - before[rejected]))
        smoothing = config.label_smoothing
        losses.append(-(1 - smoothing) * logsigmoid(margin) - smoothing * logsigmoid(-margin))
    return torch.stack(losses).mean()


def orpo_by_hand(model: PreTrainedModel, start: PreTrainedModel, examples: ExampleSet, config: TrainingConfig) -> torch.Tensor:
    rows = rows_of(model, examples.table)
    likelihoods = [torch.exp(value / count) for value, count in rows]
    odds = [likelihood / (1 - likelihood) for likelihood in likelihoods]
    ratios = [-logsigmoid(torch.log(odds[2 * pair] / odds[2 * pair + 1])) for pair in range(EXAMPLES)]
    cross_entropy = -torch.stack([value for value, _count in rows[::2]]).sum() / sum(count for _value, count in rows[::2])
    return cross_entropy + config.orpo_lambda * torch.stack(ratios).mean()


def kto_by_hand(model: PreTrainedModel, start: PreTrainedModel, examples: ExampleSet, config: TrainingConfig) -> torch.Tensor:
    table = examples.table
    with torch.no_grad():
        others = [examples.mismatched_row(row) for row in range(len(table))]
        gone = [summed(model, *other)[0] - summed(start, *other)[0] for other in others]
        kl = torch.stack(gone).mean().clamp(min=0)
        before = [value for value, _count in rows_of(start, table)]
    losses = []
    for row, (value, _count) in enumerate(rows_of(model, table)):
        ratio = value - before[row]
        if table.is_desirable[row]:
            losses.append(config.desirable_weight * (1 - torch.sigmoid(config.beta * (ratio - kl))))
        else:
            losses.append(config.undesirable_weight * (1 - torch.sigmoid(config.beta * (kl - ratio))))
    return torch.stack(losses).mean()


CASES: dict[str, tuple[TrainingConfig, Callable[..., torch.Tensor]]] = {
    "dpo": (TrainingConfig(objective="dpo", beta=0.3), dpo_by_hand),
    "dpo-smoothed": (TrainingConfig(objective="dpo", beta=0.3, label_smoothing=0.2), dpo_by_hand),
    "orpo": (TrainingConfig(objective="orpo", orpo_lambda=0.7), orpo_by_hand),
    "kto": (TrainingConfig(objective="kto", beta=0.3, desirable_weight=1.5, undesirable_weight=0.5), kto_by_hand),
}


@pytest.fixture
def start(tiny_model_folder: Path) -> PreTrainedModel:
    return load_base(tiny_model_folder, dtype=torch.float32)


@pytest.fixture
def moved(tiny_model_folder: Path) -> PreTrainedModel:
    """The same model some way into a training, with attention for joined rows."""
    model = load_base(tiny_model_folder, dtype=torch.float32)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


def ours(
    model: PreTrainedModel,
    start: PreTrainedModel,
    examples: ExampleSet,
    config: TrainingConfig,
    *,
    cuts: list[list[int]],
    can_join: bool,
) -> float:
    """Run ours over micro-batches of these examples, leave gradients in ``model``, and return the loss."""
    batches = [np.array(cut) for cut in cuts]
    if can_join:
        assert join_rows(model)
    asked = ask(model, can_join=can_join, precision="float32")
    reference: Reference | None = None
    kl = 0.0
    if config.objective in ("dpo", "kto"):
        asked_before = ask(start, can_join=False, precision="float32")
        reference = measure_reference(asked_before, examples, batches, CPU, can_join=False, before_each=lambda: None)
        if config.objective == "kto":
            kl = mismatch_kl(asked, examples, batches, reference, CPU, can_join=can_join)
    totals = Totals(**examples.count(np.concatenate(batches)), kl=kl)
    loss = 0.0
    for indices in batches:
        for batch in examples.collate(indices, CPU, can_join=can_join, reference=reference):
            share = OBJECTIVES[config.objective](asked, batch, totals, config)
            share.loss.backward()
            loss += share.loss.item()
    return loss


@pytest.mark.parametrize(
    ("cuts", "can_join"),
    [([[0, 1, 2, 3, 4]], True), ([[3], [0, 4], [2, 1]], True), ([[0, 1], [2, 3, 4]], False)],
    ids=["whole", "cut", "alone"],
)
@pytest.mark.parametrize("case", sorted(CASES))
def test_loss_and_gradients_equal_the_papers_formula(
    case: str, cuts: list[list[int]], can_join: bool, tmp_path: Path, start: PreTrainedModel, moved: PreTrainedModel
) -> None:
    config, by_hand = CASES[case]
    folder = write_kto(tmp_path, rows=EXAMPLES) if config.objective == "kto" else write_pairs(tmp_path, pairs=EXAMPLES)
    examples = open_example_set(open_examples(folder.path), config, seed=0)
    expected = by_hand(moved, start, examples, config)
    expected.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in moved.named_parameters()}
    moved.zero_grad()

    loss = ours(moved, start, examples, config, cuts=cuts, can_join=can_join)

    assert loss == pytest.approx(expected.item(), rel=1e-5)
    for name, parameter in moved.named_parameters():
        difference = (parameter.grad - gradients[name]).norm()
        assert difference <= 1e-5 * gradients[name].norm() + 1e-7, name


@pytest.mark.parametrize(("objective", "count"), [("pretraining", 5), ("sft", 3)])
def test_pretraining_learns_every_token_and_sft_the_supervised_ones(
    objective: str, count: int, tmp_path: Path, start: PreTrainedModel
) -> None:
    with ExamplesWriter(tmp_path) as writer:
        writer.append([5, 6, 7, 8], [-100, -100, -100, 8], row_number=1)
        writer.append([9, 4, 3], [-100, 4, 3], row_number=2)
    table = open_examples(tmp_path)
    is_every = objective == "pretraining"
    rows = [
        summed(start, ids, np.where(np.arange(len(ids)) > 0, ids, -100) if is_every else labels)
        for ids, labels, _number in table
    ]
    config = TrainingConfig(objective=objective)
    examples = open_example_set(table, config, seed=0)
    assert examples.count(np.array([0, 1]))["supervised_tokens"] == count
    loss = ours(start, start, examples, config, cuts=[[0, 1]], can_join=True)
    assert loss == pytest.approx(-sum(value.item() for value, _count in rows) / count, rel=1e-5)


def test_rewards_say_which_side_the_model_is_on(tmp_path: Path, start: PreTrainedModel, moved: PreTrainedModel) -> None:
    config = CASES["dpo"][0]
    examples = open_example_set(open_examples(write_pairs(tmp_path, pairs=EXAMPLES).path), config, seed=0)
    indices = [np.arange(EXAMPLES)]
    before, now = (ask(model, can_join=False, precision="float32") for model in (start, moved))
    reference = measure_reference(before, examples, indices, CPU, can_join=False, before_each=lambda: None)
    totals = Totals(**examples.count(indices[0]))
    shares = [
        OBJECTIVES["dpo"](now, batch, totals, config)
        for batch in examples.collate(indices[0], CPU, can_join=False, reference=reference)
    ]
    metrics = {name: sum(share.metrics[name].item() for share in shares) for name in shares[0].metrics}
    assert metrics["reward_margin"] == pytest.approx(metrics["reward_chosen"] - metrics["reward_rejected"], rel=1e-4)
    won = sum(
        config.beta * ((now_chosen - chosen) - (now_rejected - rejected)) > 0
        for (now_chosen, now_rejected), (chosen, rejected) in zip(
            torch.stack([value for value, _count in rows_of(moved, examples.table)]).view(-1, 2).tolist(),
            torch.stack([value for value, _count in rows_of(start, examples.table)]).view(-1, 2).tolist(),
            strict=True,
        )
    )
    assert metrics["reward_accuracy"] == pytest.approx(won / EXAMPLES)


def test_log_of_one_minus_exp_is_exact_near_zero_and_far_from_it() -> None:
    values = torch.tensor([-1e-6, -1e-3, -0.5, -0.7, -5.0, -80.0], dtype=torch.float32)
    expected = torch.log1p(-torch.exp(values.double()))
    torch.testing.assert_close(log_one_minus_exp(values).double(), expected, rtol=1e-5, atol=1e-12)


def test_kto_partners_are_others_and_each_comes_once(tmp_path: Path) -> None:
    config = TrainingConfig(objective="kto")
    examples = open_example_set(open_examples(write_kto(tmp_path, rows=9).path), config, seed=4)
    assert sorted(examples.partners) == list(range(9))
    assert not np.any(examples.partners == np.arange(9))
    ids, labels = examples.mismatched_row(0)
    partner = int(examples.partners[0])
    prompt = int(np.argmax(examples.table.labels(0) != -100))
    completion = examples.table.input_ids(partner)[examples.table.labels(partner) != -100]
    longest = examples.table.lengths.max()
    assert list(ids) == [*examples.table.input_ids(0)[:prompt], *completion][:longest]
    assert list(ids[prompt:]) == list(labels[prompt:])
    assert set(labels[:prompt]) == {-100}


@pytest.mark.parametrize(
    ("objective", "kind", "fitting"),
    [
        ("dpo", ExamplesKind.SUPERVISED, "sft, pretraining"),
        ("sft", ExamplesKind.PREFERENCE, "dpo, orpo"),
        ("orpo", ExamplesKind.KTO, "kto"),
    ],
    ids=["dpo-rows", "sft-pairs", "orpo-kto"],
)
def test_examples_of_another_kind_are_refused_with_what_fits(
    objective: str, kind: ExamplesKind, fitting: str, tmp_path: Path
) -> None:
    from celery_workers.contract import UserInputError

    with ExamplesWriter(tmp_path, kind=kind):
        pass
    with pytest.raises(UserInputError, match=f"choose objective {fitting}"):
        open_example_set(open_examples(tmp_path), TrainingConfig(objective=objective), seed=0)
