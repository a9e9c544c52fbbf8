from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_workers.contract import BugError
from celery_workers.data.canonical import CanonicalRow
from celery_workers.data.dataset_folder import FILE_NAME, DatasetReader, DatasetWriter
from celery_workers.data.row_formats import shape_of
from celery_workers.data.rows import RowProblem

TEXT = st.none() | st.text(st.characters(codec="utf-8"), max_size=10)
MESSAGES = st.none() | st.lists(st.fixed_dictionaries({"role": TEXT, "content": TEXT}), max_size=3)


@settings(deadline=None)
@given(conversations=st.lists(st.tuples(MESSAGES, TEXT), max_size=20))
def test_no_row_is_lost_or_changed(conversations: list, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder, shape = tmp_path_factory.mktemp("dataset"), shape_of("chat")
    rows = [
        CanonicalRow(number, {"messages": messages, "tools": None}, {"split": split})
        for number, (messages, split) in enumerate(conversations, 1)
    ]
    with DatasetWriter(folder, shape, extras=["split"]) as writer:
        writer.write(rows[:7])
        writer.write(rows[7:])

    reader = DatasetReader(folder, shape)

    assert [row for batch in reader.batches() for row in batch] == rows
    assert reader.rows == writer.rows == len(rows)
    assert reader.extras == ["split"]


def test_problems_travel_with_their_rows(tmp_path: Path) -> None:
    problem = RowProblem(
        row_number=3, code="wrong_type", field="text", message="text must be text, got a number", fix="Quote it."
    )
    row = CanonicalRow(3, {"text": None}, {}, [problem])
    with DatasetWriter(tmp_path, shape_of("text"), has_problems=True) as writer:
        writer.write([row])

    assert list(DatasetReader(tmp_path, shape_of("text")).batches()) == [[row]]


def test_an_exception_leaves_no_file(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path, shape_of("text"))

    with pytest.raises(BugError, match="not announced"), writer:
        writer.write([CanonicalRow(1, {"text": "a"}, {"surprise": "b"})])

    assert not (tmp_path / FILE_NAME).exists()


def test_another_format_is_refused(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path, shape_of("text")) as writer:
        writer.write([CanonicalRow(1, {"text": "a"})])

    with pytest.raises(BugError, match="messages"):
        DatasetReader(tmp_path, shape_of("chat"))
