"""Preprocessing as a node runs it, on rows given one by one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from celery_workers.agents.preprocessing import PreprocessingAgent
from celery_workers.agents.tests.preparing import BASE
from celery_workers.contract import Dataset
from celery_workers.contract.testing import RecordingContext, run_agent
from celery_workers.data.canonical import CanonicalRow
from celery_workers.data.dataset_folder import DatasetWriter
from celery_workers.data.row_formats import shape_of


@pytest.fixture
def run(tmp_path: Path, tiny_model_folder: Path):
    def run(
        rows: list[CanonicalRow],
        *,
        row_format: str = "prompt_completion",
        evaluation_sets: list[Dataset] | None = None,
        **config: object,
    ):
        folder, workdir = tmp_path / "in", tmp_path / f"work{len(list(tmp_path.iterdir()))}"
        extras = sorted({name for row in rows for name in row.extras})
        with DatasetWriter(folder, shape_of(row_format), extras=extras) as writer:
            writer.write(rows)
        workdir.mkdir()
        context = RecordingContext(workdir=workdir, references={BASE: tiny_model_folder})
        dataset = Dataset(path=folder, metadata={"format": row_format})
        inputs = {"dataset": dataset, "evaluation_sets": evaluation_sets}
        outputs = run_agent(PreprocessingAgent, {"base_model": BASE, **config}, inputs, context=context)
        return outputs, json.loads(outputs.report.path.read_text()), context

    return run
