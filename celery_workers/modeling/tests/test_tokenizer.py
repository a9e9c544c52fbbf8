from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from celery_workers.contract import UserInputError
from celery_workers.modeling.loading import load_tokenizer
from celery_workers.modeling.tokenizer import copy_tokenizer, tokenizer_digest


def test_digest_survives_saving_again_with_padding_and_another_template(tiny_model_folder: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_model_folder)
    tokenizer.chat_template = "{{ messages }}"
    tokenizer(["a", "bcd"], padding=True, truncation=True, max_length=2)
    tokenizer.save_pretrained(tmp_path)
    assert tokenizer_digest(tmp_path) == tokenizer_digest(tiny_model_folder)


def test_digest_changes_with_one_swapped_token(tiny_model_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model_folder, tmp_path / "model")
    path = tmp_path / "model" / "tokenizer.json"
    content = json.loads(path.read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["A"], vocabulary["B"] = vocabulary["B"], vocabulary["A"]
    path.write_text(json.dumps(content))
    assert tokenizer_digest(tmp_path / "model") != tokenizer_digest(tiny_model_folder)


def test_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match=r"tokenizer\.json"):
        tokenizer_digest(tmp_path)


def test_a_copied_tokenizer_is_the_same_to_the_last_byte(tiny_model_folder: Path, tmp_path: Path) -> None:
    copy_tokenizer(tiny_model_folder, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"chat_template.jinja", "tokenizer.json", "tokenizer_config.json"}
    assert all(path.read_bytes() == (tiny_model_folder / path.name).read_bytes() for path in tmp_path.iterdir())
    assert tokenizer_digest(tmp_path) == tokenizer_digest(tiny_model_folder)
