"""Out of memory: for real in a capped process, and step by step on allocations that no machine can serve."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from celery_workers.contract import Canceled, ResourceError
from celery_workers.training import passes
from celery_workers.training.batches import halve
from celery_workers.training.config import TrainingConfig
from celery_workers.training.loop import train
from celery_workers.training.recovery import MemoryUse, within_memory
from celery_workers.training.setup import set_up
from celery_workers.training.sources import Sources
from celery_workers.training.tests.conftest import StoringContext, write_examples

MakeContext = Callable[..., StoringContext]

CONFIG = TrainingConfig(
    epochs=1,
    batch_size=8,
    learning_rate=0.01,
    lora_r=4,
    lora_dropout=0.0,  # dropout is drawn per micro-batch, so cutting one draws differently
    target_modules="all-linear",
    precision="float32",
)
TOO_MUCH = 1 << 60


def run_capped(folder: Path, sources: Sources, *, growth_bytes: int = 0) -> tuple[dict[str, object], dict[str, torch.Tensor]]:
    folder.mkdir()
    paths = {"base": str(sources.base_folder), "examples": str(sources.examples.path)}
    (folder / "training.json").write_text(json.dumps({**paths, "config": CONFIG.model_dump(mode="json")}))
    command = [sys.executable, "-m", "celery_workers.training.tests.capped", folder / "training.json", folder / "weights"]
    done = subprocess.run(
        [*command, "--growth-bytes", str(growth_bytes)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1]), load_file(folder / "weights")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and caps the address space")
@pytest.mark.timeout(900)
def test_capped_training_halves_and_ends_with_the_same_weights(tmp_path: Path, tiny_model_folder: Path) -> None:
    examples = write_examples(tmp_path / "examples", lengths=[500] * 16, base_folder=tiny_model_folder)
    sources = Sources(base_folder=tiny_model_folder, examples=examples)
    free, expected = run_capped(tmp_path / "free", sources)
    capped, weights = run_capped(tmp_path / "capped", sources, growth_bytes=int(free["growth_bytes"] * 0.6))

    assert (free["halvings"], free["error"]) == (0, "")
    assert capped["error"] == ""
    assert capped["halvings"] >= 1
    assert any("Out of memory in step 1: each micro-batch is now cut into 2;" in line for line in capped["log"])
    assert capped["losses"] == pytest.approx(free["losses"], rel=1e-5)
    for name, tensor in expected.items():
        assert (weights[name] - tensor).norm() <= 1e-5 * tensor.norm(), name


class Hungry:
    """An objective's stand-in for a device of so many tokens: it asks for memory that nobody has above them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, tokens: int, until_checkpointing: bool = False) -> None:
        self.original = passes._share
        self.tokens = tokens
        self.until_checkpointing = until_checkpointing
        monkeypatch.setattr(passes, "_share", self)

    def __call__(self, training: object, batch: object, totals: object) -> object:
        share = self.original(training, batch, totals)
        torch.rand(3)  # a step that fails has drawn numbers
        if batch.tokens > self.tokens and not (self.until_checkpointing and training.memory.is_checkpointing):
            torch.empty(TOO_MUCH)
        return share


def test_failed_steps_leave_no_trace_in_the_result(
    sources: Sources, make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = train(make_context(), CONFIG, sources)
    Hungry(monkeypatch, tokens=40)
    context = make_context()
    training = train(context, CONFIG, sources)
    assert training.memory.halvings == 2
    assert not training.memory.is_checkpointing
    assert training.history.losses == pytest.approx(expected.history.losses, rel=1e-5)
    assert training.history.eval_losses == pytest.approx(expected.history.eval_losses, rel=1e-5)
    warnings = [log.message for log in context.logs if log.level == "WARNING"]
    assert warnings == [
        f"Out of memory in step 1: each micro-batch is now cut into {pieces}; the effective batch stays the same."
        for pieces in (2, 4)
    ]


def test_single_examples_turn_checkpointing_on_and_then_fail(
    sources: Sources, make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = train(make_context(), CONFIG, sources)
    Hungry(monkeypatch, tokens=3, until_checkpointing=True)
    training = train(make_context(), CONFIG, sources)
    assert training.memory.is_checkpointing
    assert training.history.losses == pytest.approx(expected.history.losses, rel=1e-5)

    monkeypatch.undo()
    Hungry(monkeypatch, tokens=3)
    with pytest.raises(ResourceError, match="with one example at a time and gradient checkpointing") as caught:
        train(make_context(), CONFIG, sources)
    assert caught.value.code == "out_of_memory"


def test_resume_goes_on_with_what_was_found_out(
    sources: Sources, make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CONFIG.model_copy(update={"lora_dropout": 0.2})
    Hungry(monkeypatch, tokens=40)
    unbroken = train(make_context(), config, sources)
    stopped = make_context(cancel_after_checks=1)
    with pytest.raises(Canceled):
        train(stopped, config, sources)
    resumed = train(make_context(resume_from=stopped.store / "1"), config, sources)
    assert resumed.first_step == 1
    assert resumed.memory == unbroken.memory
    assert resumed.history.losses == unbroken.history.losses
    assert all(torch.equal(parameter, unbroken.parameters[name]) for name, parameter in resumed.parameters.items())


def test_each_attempt_killed_for_its_memory_halves_once_more(sources: Sources, make_context: MakeContext) -> None:
    context = make_context(memory_failures=1, cancel_after_checks=1)
    with pytest.raises(Canceled):
        train(context, CONFIG, sources)
    assert "Earlier attempts ran out of memory (1)" in context.logs[0].message
    again = set_up(make_context(memory_failures=1, resume_from=context.store / "1"), CONFIG, sources)
    killed_again = set_up(make_context(memory_failures=3, resume_from=context.store / "1"), CONFIG, sources)
    assert (again.memory.halvings, killed_again.memory.halvings) == (1, 3)


def test_work_is_undone_before_it_is_tried_again(make_context: MakeContext) -> None:
    model = torch.nn.Linear(2, 2)
    use = MemoryUse()
    draws = []

    def work() -> float:
        draws.append(torch.rand(1).item())
        model(torch.ones(1, 2)).sum().backward()
        if use.halvings < 2:
            torch.empty(TOO_MUCH)
        return float(model.weight.grad.sum())

    result = within_memory(work, use=use, can_split=lambda: True, model=model, ctx=make_context(), what="a test")
    assert result == 4.0  # the gradients of one try, not of three
    assert len(set(draws)) == 1


def test_another_error_is_not_taken_for_lack_of_memory(make_context: MakeContext) -> None:
    def work() -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        within_memory(
            work, use=MemoryUse(), can_split=lambda: True, model=torch.nn.Linear(1, 1), ctx=make_context(), what="a test"
        )


def test_pieces_are_the_micro_batch_cut_by_tokens() -> None:
    lengths = np.array([10, 1, 1, 1, 1, 6], dtype=np.int32)
    batch = np.array([0, 1, 2, 3, 4, 5])
    assert [piece.tolist() for piece in halve(batch, lengths, times=1)] == [[0], [1, 2, 3, 4, 5]]
    assert [piece.tolist() for piece in halve(batch, lengths, times=2)] == [[0], [1, 2, 3, 4], [5]]
    assert [piece.tolist() for piece in halve(batch, lengths, times=9)] == [[0], [1], [2], [3], [4], [5]]
    assert [piece.tolist() for piece in halve(batch, lengths, times=0)] == [[0, 1, 2, 3, 4, 5]]
