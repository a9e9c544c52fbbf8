from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from celery_workers.contract import InfrastructureError, UserInputError
from celery_workers.training.checkpoint import Identity, load_weights, open_checkpoint, restore, save_checkpoint, save_weights
from celery_workers.training.example_set import Reference
from celery_workers.training.history import History
from celery_workers.training.recovery import MemoryUse
from celery_workers.training.reference import References

IDENTITY = Identity(
    examples="e", eval_examples="", base_model="b", first_adapter="", config={"epochs": 1}, seed=5, versions={"torch": "1"}
)


def trained() -> tuple[dict[str, torch.nn.Parameter], torch.optim.Optimizer]:
    parameters = {"a": torch.nn.Parameter(torch.randn(3)), "b.c": torch.nn.Parameter(torch.randn(2, 2))}
    optimizer = torch.optim.AdamW(parameters.values(), fused=True)
    sum(parameter.square().sum() for parameter in parameters.values()).backward()
    optimizer.step()
    return parameters, optimizer


def save(folder: Path) -> tuple[dict[str, torch.nn.Parameter], torch.optim.Optimizer]:
    parameters, optimizer = trained()
    best = folder.with_name("best")
    save_weights({name: torch.nn.Parameter(torch.zeros_like(item)) for name, item in parameters.items()}, best)
    save_checkpoint(
        folder,
        step=7,
        parameters=parameters,
        optimizer=optimizer,
        history=History(losses=[1.5], tokens=9),
        memory=MemoryUse(halvings=2),
        references=References(examples=Reference(rows=torch.tensor([-1.0, -2.0]))),
        best=best,
        precision="float32",
        identity=IDENTITY,
    )
    return parameters, optimizer


def test_everything_comes_back(tmp_path: Path) -> None:
    parameters, optimizer = save(tmp_path / "c")
    expected_draw = torch.rand(4)
    checkpoint = open_checkpoint(tmp_path / "c", identity=IDENTITY)
    others, other_optimizer = trained()
    restore(checkpoint, parameters=others, optimizer=other_optimizer)
    assert (checkpoint.step, checkpoint.precision, checkpoint.history.losses) == (7, "float32", [1.5])
    assert checkpoint.memory == MemoryUse(halvings=2)
    assert checkpoint.references.examples.rows.tolist() == [-1.0, -2.0]
    assert checkpoint.references.eval_examples is None
    assert torch.equal(torch.rand(4), expected_draw)
    for name, parameter in parameters.items():
        assert torch.equal(others[name], parameter)
        for key, value in optimizer.state[parameter].items():
            assert torch.equal(other_optimizer.state[others[name]][key], value)
    load_weights(checkpoint.best, others)
    assert not any(parameter.any() for parameter in others.values())


def test_folder_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("celery_workers.training.checkpoint._sha256", fail)
    with pytest.raises(OSError, match="No space"):
        save(tmp_path / "c")
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    "name",
    [
        "adapter.safetensors",
        "optimizer.safetensors",
        "random.safetensors",
        "reference.safetensors",
        "best.safetensors",
        "state.json",
    ],
)
def test_a_changed_or_missing_file_is_found(name: str, tmp_path: Path) -> None:
    save(tmp_path / "c")
    path = tmp_path / "c" / name
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InfrastructureError, match=name):
        open_checkpoint(tmp_path / "c", identity=IDENTITY)
    path.unlink()
    with pytest.raises(InfrastructureError, match="incomplete"):
        open_checkpoint(tmp_path / "c", identity=IDENTITY)


def test_another_training_is_refused_with_every_difference(tmp_path: Path) -> None:
    save(tmp_path / "c")
    other = replace(IDENTITY, examples="x", config={"epochs": 2, "lora_r": 4})
    with pytest.raises(UserInputError) as caught:
        open_checkpoint(tmp_path / "c", identity=other)
    assert caught.value.evidence["differences"] == ["examples: 'e' -> 'x'", "epochs: 1 -> 2", "lora_r: None -> 4"]


def test_another_version_is_taken_up(tmp_path: Path) -> None:
    save(tmp_path / "c")
    checkpoint = open_checkpoint(tmp_path / "c", identity=replace(IDENTITY, versions={"torch": "2"}))
    assert checkpoint.versions == {"torch": "1"}


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "c")
    parameters = {"a": torch.nn.Parameter(torch.zeros(4))}
    with pytest.raises(UserInputError, match="another model"):
        restore(
            open_checkpoint(tmp_path / "c", identity=IDENTITY),
            parameters=parameters,
            optimizer=torch.optim.AdamW(parameters.values()),
        )
