from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from celery_workers.contract import UserInputError
from celery_workers.modeling.loading import load_base, vocabulary_size_of
from celery_workers.modeling.skeleton import load_skeleton, max_positions_of
from celery_workers.modeling.tests.architectures import ARCHITECTURES

FolderOf = Callable[[str], Path]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_skeleton_has_the_shapes_of_the_model_and_no_weights(architecture: str, architecture_folder: FolderOf) -> None:
    import torch

    folder = architecture_folder(architecture)
    skeleton, model = load_skeleton(folder), load_base(folder, dtype=torch.float32)
    assert {item.device.type for item in skeleton.parameters()} == {"meta"}
    assert [(name, item.shape) for name, item in skeleton.named_parameters()] == [
        (name, item.shape) for name, item in model.named_parameters()
    ]
    assert max_positions_of(skeleton) == 512
    assert vocabulary_size_of(skeleton) == vocabulary_size_of(model) == 259


def test_what_is_no_causal_language_model_is_refused(tiny_model_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_model_folder, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "vit"}))
    with pytest.raises(UserInputError, match="cannot be loaded") as caught:
        load_skeleton(folder)
    assert caught.value.code == "unusable_model"
