"""The report of an export."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from celery_workers.contract.context import ReportDocument, Table
from celery_workers.contract.ports import Model, Report
from celery_workers.export.exporter import Export, Exported
from celery_workers.export.parity import Parity
from celery_workers.modeling.quantization import NF4

REPORT_KIND = "export"


def report_summaries(reports: Sequence[Report]) -> list[dict[str, object]]:
    """Return what travels with the model: title, kind, summary and verdict of every report."""
    found = []
    for report in reports:
        document = json.loads(report.path.read_bytes())
        found.append({key: document.get(key) for key in ("title", "kind", "summary", "verdict")})
    return found


def write_report(path: Path, exported: Exported, *, model: Model, summaries: Sequence[dict[str, object]]) -> dict[str, object]:
    """Write the report and return the port's metadata."""
    exports, as_trained = exported.exports, exported.as_trained
    document = ReportDocument(
        kind=REPORT_KIND,
        title="Export as " + " and ".join(export.format for export in exports),
        summary=_summary(exports),
        verdict="; ".join([*(_verdict(export) for export in exports), *([_say_as_trained(as_trained)] if as_trained else [])]),
        tables=[_parity_table(exported), _files_table(exports)],
        data={
            "model_sha256": model.sha256,
            "base_model": model.metadata["base_model"],
            "exports": [
                {
                    "format": export.format,
                    "dtype": export.dtype,
                    "size_bytes": export.size_bytes,
                    "parity": asdict(export.parity),
                    "tolerance": asdict(export.tolerance),
                }
                for export in exports
            ],
            "as_trained": asdict(as_trained) if as_trained else None,
            "reports": list(summaries),
        },
    )
    return dict(document.write(path))


def _summary(exports: Sequence[Export]) -> dict[str, str | int | float | bool | None]:
    summary: dict[str, str | int | float | bool | None] = {}
    for export in exports:
        summary[f"{export.format}_size_bytes"] = export.size_bytes
        summary[f"{export.format}_max_logit_difference"] = export.parity.max_logit_difference
        summary[f"{export.format}_top1_agreement"] = export.parity.top1_agreement
        summary[f"{export.format}_kl_nats"] = export.parity.kl_nats
    return summary


def _verdict(export: Export) -> str:
    parity = export.parity
    return (
        f"{export.format} ({export.dtype}) matches the live model on {parity.positions} positions: "
        f"max |logit difference| {parity.max_logit_difference:.2g}, top-1 agreement {parity.top1_agreement:.3f}"
    )


def _say_as_trained(parity: Parity) -> str:
    return (
        f"over the full weights the adapter gives other numbers than over the base in {NF4} that it was trained over: top-1"
        f" agreement {parity.top1_agreement:.3f}, KL {parity.kl_nats:.2g} nats; evaluate it with base_weights full"
    )


def _parity_table(exported: Exported) -> Table:
    """Return a row per format, and one for the model as it was trained, which nothing is asked of."""
    return Table(
        title="Parity with the live model in float32",
        columns=[
            "Format",
            "Number type",
            "Positions",
            "Max |logit difference|",
            "Allowed",
            "Top-1 agreement",
            "Least allowed",
            "KL divergence (nats)",
            "Most allowed",
        ],
        rows=[
            [
                export.format,
                export.dtype,
                export.parity.positions,
                export.parity.max_logit_difference,
                export.tolerance.max_logit_difference,
                export.parity.top1_agreement,
                export.tolerance.min_top1_agreement,
                export.parity.kl_nats,
                export.tolerance.max_kl_nats,
            ]
            for export in exported.exports
        ]
        + ([_as_trained_row(exported.as_trained)] if exported.as_trained else []),
    )


def _as_trained_row(parity: Parity) -> list[str | int | float | bool | None]:
    measured = (parity.max_logit_difference, None, parity.top1_agreement, None, parity.kl_nats, None)
    return ["as trained", NF4, parity.positions, *measured]


def _files_table(exports: Sequence[Export]) -> Table:
    rows: list[list[str | int | float | bool | None]] = []
    for export in exports:
        for path in sorted(item for item in export.path.rglob("*") if item.is_file()):
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            rows.append([export.format, str(path.relative_to(export.path)), path.stat().st_size, digest])
    return Table(title="Files", columns=["Format", "File", "Size (bytes)", "SHA-256"], rows=rows)
