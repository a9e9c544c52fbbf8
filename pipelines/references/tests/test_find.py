from __future__ import annotations

from pydantic import BaseModel, Field

from celery_workers.contract import AgentConfig, BaseModelRef, DataRef
from pipelines.references import find_references
from pipelines.references.find import _schema, _walk
from pipelines.tests.agents import specs


class Part(BaseModel):
    file: DataRef | None = None


class ManyConfig(AgentConfig):
    base: BaseModelRef = Field("bundled:x", description="d", json_schema_extra={"group": "g"})
    parts: list[Part] = Field([], description="d")
    extra: dict[str, DataRef] = Field({}, description="d")
    plain: str = Field("example:not-a-reference", description="d")


def test_references_are_found_wherever_the_schema_has_them() -> None:
    config = {
        "base": "bundled:y",
        "parts": [{"file": None}, {"file": "example:a"}],
        "extra": {"k": "example:b"},
        "plain": "example:c",
    }
    schema = _schema(ManyConfig)
    found = [(item.field, item.value, item.kind) for item in _walk(schema, config, path="", root=schema)]
    assert found == [
        ("base", "bundled:y", "base_model"),
        ("parts.1.file", "example:a", "data"),
        ("extra.k", "example:b", "data"),
    ]


def test_an_agents_config_is_read_by_its_schema() -> None:
    found = find_references(specs()["SourceAgent"], {"text": "example:x", "file_path": "example:y"})
    assert [item.field for item in found] == ["file_path"]
