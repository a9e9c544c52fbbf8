"""The export agent on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from celery_workers.agents.export import ExportAgent, ExportOutputs
from celery_workers.contract import BugError, Canceled, Model, Report, ReportDocument, UserInputError
from celery_workers.contract.testing import RecordingContext, run_agent
from celery_workers.export.parity import PROBES
from celery_workers.modeling.loading import load_adapter, load_base

BASE = "local:tiny"


@pytest.fixture
def adapter(tiny_adapter_folder: Path) -> Model:
    metadata = {"model_kind": "adapter", "base_model": BASE, "training": {"steps": 3}}
    return Model(path=tiny_adapter_folder, metadata=metadata, sha256="a" * 64)


@pytest.fixture
def context(tmp_path: Path, tiny_model_folder: Path) -> RecordingContext:
    workdir = tmp_path / "work"
    workdir.mkdir()
    return RecordingContext(workdir=workdir, references={BASE: tiny_model_folder})


def export(context: RecordingContext, model: Model, config: dict | None = None, **inputs: object) -> ExportOutputs:
    return run_agent(ExportAgent, config or {}, {"model": model, **inputs}, context=context)


def test_merged_logits_equal_adapter_logits_under_plain_transformers(
    context: RecordingContext, adapter: Model, tiny_model_folder: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    outputs = export(context, adapter)

    live = load_adapter(load_base(tiny_model_folder, dtype=torch.float32), adapter.path)
    merged = AutoModelForCausalLM.from_pretrained(outputs.merged.path)
    tokenizer = AutoTokenizer.from_pretrained(outputs.merged.path)
    assert merged.dtype == torch.float32
    for text in PROBES:
        inputs = tokenizer(text, return_tensors="pt")
        with torch.inference_mode():
            torch.testing.assert_close(merged(**inputs).logits, live(**inputs).logits, rtol=1e-4, atol=5e-5)  # logits reach 10


def test_the_exported_adapter_is_the_trained_one_and_names_no_local_path(
    context: RecordingContext, adapter: Model, tiny_model_folder: Path
) -> None:
    import torch

    outputs = export(context, adapter)

    weights = "adapter_model.safetensors"
    assert (outputs.adapter.path / weights).read_bytes() == (adapter.path / weights).read_bytes()
    config = json.loads((outputs.adapter.path / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == BASE
    assert not any(str(tiny_model_folder) in path.read_text() for path in outputs.adapter.path.glob("*.json"))
    load_adapter(load_base(tiny_model_folder, dtype=torch.float32), outputs.adapter.path)


def test_report_and_metadata_hold_the_parity(context: RecordingContext, adapter: Model) -> None:
    outputs = export(context, adapter)

    report = json.loads(outputs.report.path.read_text())
    parity = {item["format"]: item["parity"] for item in report["data"]["exports"]}
    assert parity["adapter"]["max_logit_difference"] == 0.0
    assert parity["merged"]["max_logit_difference"] < 1e-3
    assert parity["merged"]["top1_agreement"] == 1.0
    assert outputs.merged.metadata["parity"] == parity["merged"]
    assert outputs.merged.metadata["model_kind"] == "merged"
    assert outputs.merged.metadata["training"] == {"steps": 3}
    assert [row[0] for row in report["tables"][0]["rows"]] == ["adapter", "merged"]
    assert context.fractions[-1] == 1.0


def test_summaries_of_reports_travel_with_the_model(context: RecordingContext, adapter: Model, tmp_path: Path) -> None:
    path = tmp_path / "comparison.json"
    document = ReportDocument(kind="comparison", title="Comparison", summary={"rows": 9}, verdict="tuned is better")
    report = Report(path=path, metadata=dict(document.write(path)))

    outputs = export(context, adapter, reports=[report])

    expected = [{"title": "Comparison", "kind": "comparison", "summary": {"rows": 9}, "verdict": "tuned is better"}]
    assert outputs.adapter.metadata["reports"] == expected


def test_bfloat16_halves_the_merged_weights(context: RecordingContext, adapter: Model) -> None:
    import torch

    outputs = export(context, adapter, {"formats": ["merged"], "merged_dtype": "bfloat16"})

    assert outputs.adapter is None
    weights = load_base(outputs.merged.path, dtype=torch.bfloat16)
    size = (outputs.merged.path / "model.safetensors").stat().st_size
    assert size < 2.2 * sum(parameter.numel() for parameter in weights.parameters())
    assert json.loads((outputs.merged.path / "config.json").read_text())["dtype"] == "bfloat16"


def test_weights_that_do_not_reload_to_the_live_logits_fail_the_node(
    context: RecordingContext, adapter: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    from celery_workers.export import merged

    def fold_badly(model):
        folded = model.merge_and_unload()
        folded.model.layers[0].self_attn.q_proj.weight.data.mul_(1.05)
        return folded

    monkeypatch.setattr(merged, "fold_adapter", fold_badly)

    with pytest.raises(BugError, match=r"merged model \(float32\) is not the live model: max \|logit difference\|") as caught:
        export(context, adapter)

    assert caught.value.code == "export_differs"
    assert caught.value.evidence["max_logit_difference"] > 0.01


def test_full_weights_have_no_adapter_to_export(context: RecordingContext, tiny_model_folder: Path) -> None:
    full = Model(path=tiny_model_folder, metadata={"model_kind": "merged", "base_model": BASE}, sha256="f" * 64)

    with pytest.raises(UserInputError, match="full weights without an adapter"):
        export(context, full)


def test_full_weights_can_be_written_in_another_type(context: RecordingContext, tiny_model_folder: Path) -> None:
    full = Model(path=tiny_model_folder, metadata={"model_kind": "merged", "base_model": BASE}, sha256="f" * 64)

    outputs = export(context, full, {"formats": ["merged"]})

    assert outputs.merged.metadata["parity"]["max_logit_difference"] == 0.0


@pytest.mark.parametrize(
    ("formats", "message"),
    [(["gguf"], "gguf is not built yet"), (["merged", "merged"], "name each format once"), ([], "at least 1 item")],
)
def test_formats_that_cannot_be_written_are_refused_by_name(
    context: RecordingContext, adapter: Model, formats: list[str], message: str
) -> None:
    with pytest.raises(UserInputError, match=message):
        export(context, adapter, {"formats": formats})


def test_cancel_stops_between_formats(context: RecordingContext, adapter: Model) -> None:
    context.cancel_after_checks = 1

    with pytest.raises(Canceled):
        export(context, adapter)
