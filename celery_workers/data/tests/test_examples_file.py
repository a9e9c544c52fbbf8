from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_workers.contract import BugError
from celery_workers.data.examples_file import FILE_NAME, IGNORED_LABEL, ExamplesWriter, open_examples
from celery_workers.data.examples_schema import ExamplesKind, schema_of

ROWS = st.lists(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=9), max_size=30)


@settings(deadline=None)
@given(rows=ROWS)
def test_read_rows_equal_written_rows(rows: list[list[int]], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("examples")
    with ExamplesWriter(folder) as writer:
        for number, ids in enumerate(rows, 1):
            writer.append(ids, [IGNORED_LABEL, *ids[1:]], row_number=number * 10)

    table = open_examples(folder)

    assert [(ids.tolist(), labels.tolist(), number) for ids, labels, number in table] == [
        (ids, [IGNORED_LABEL, *ids[1:]], number * 10) for number, ids in enumerate(rows, 1)
    ]
    assert table.tokens == writer.tokens == sum(map(len, rows))
    assert table.supervised_tokens == writer.supervised_tokens == sum(len(ids) - 1 for ids in rows)


def test_counts_are_right_across_batches(tmp_path: Path) -> None:
    with ExamplesWriter(tmp_path) as writer:
        for number in range(1, 2501):
            length = 1 + number % 7
            writer.append(
                range(length), [IGNORED_LABEL] * (length - 1) + ([5] if length > 1 else [IGNORED_LABEL]), row_number=number
            )

    table = open_examples(tmp_path)

    assert len(table) == 2500
    assert table.lengths.tolist() == [1 + number % 7 for number in range(1, 2501)]
    assert table.supervised_counts.tolist() == [int(number % 7 > 0) for number in range(1, 2501)]
    assert table.row_numbers.tolist() == list(range(1, 2501))
    assert table.row_number(1024) == 1025
    assert table.input_ids(2499).tolist() == list(range(1 + 2500 % 7))


def test_rows_are_views_of_the_mapped_file(tmp_path: Path) -> None:
    with ExamplesWriter(tmp_path) as writer:
        writer.append(np.arange(1000), [IGNORED_LABEL] * 1000, row_number=1)
    before = pa.total_allocated_bytes()

    ids = open_examples(tmp_path).input_ids(0)

    assert not ids.flags.writeable
    assert pa.total_allocated_bytes() == before


def test_pairs_stand_together_across_batches(tmp_path: Path) -> None:
    with ExamplesWriter(tmp_path, kind=ExamplesKind.PREFERENCE) as writer:
        for number in range(1, 1301):
            writer.append_pair(([7, number], [IGNORED_LABEL, number]), ([7, 0, 0], [IGNORED_LABEL, 0, 0]), row_number=number)

    table = open_examples(tmp_path)

    assert (table.kind, len(table), table.example_count) == (ExamplesKind.PREFERENCE, 2600, 1300)
    assert table.pairs.shape == (1300, 2)
    assert [table.input_ids(int(position)).tolist() for position in table.pairs[777]] == [[7, 778], [7, 0, 0]]
    assert table.row_numbers[table.pairs[:, 0]].tolist() == list(range(1, 1301))
    assert table.lengths[table.pairs].tolist() == [[2, 3]] * 1300


def test_a_pair_of_two_prompts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BugError, match="row 7"), ExamplesWriter(tmp_path, kind=ExamplesKind.PREFERENCE) as writer:
        writer.append_pair(([1, 2], [IGNORED_LABEL, 2]), ([3, 2], [IGNORED_LABEL, 2]), row_number=7)


def test_labels_of_wanted_answers_are_kept(tmp_path: Path) -> None:
    with ExamplesWriter(tmp_path, kind=ExamplesKind.KTO) as writer:
        for number in range(1, 1031):
            writer.append([1, 2], [IGNORED_LABEL, 2], row_number=number, is_desirable=number % 3 == 0)

    table = open_examples(tmp_path)

    assert (table.kind, table.example_count) == (ExamplesKind.KTO, 1030)
    assert table.is_desirable.dtype == np.bool_
    assert table.is_desirable.tolist() == [number % 3 == 0 for number in range(1, 1031)]


@pytest.mark.parametrize("kind", [ExamplesKind.PREFERENCE, ExamplesKind.KTO])
def test_rows_of_another_kind_are_refused(kind: ExamplesKind, tmp_path: Path) -> None:
    with pytest.raises(BugError, match="row 7"), ExamplesWriter(tmp_path, kind=kind) as writer:
        writer.append([1, 2], [IGNORED_LABEL, 2], row_number=7)


def test_supervised_rows_have_no_pairs_and_no_labels(tmp_path: Path) -> None:
    with ExamplesWriter(tmp_path) as writer:
        writer.append([1, 2], [IGNORED_LABEL, 2], row_number=1)
    table = open_examples(tmp_path)

    assert (table.kind, table.example_count) == (ExamplesKind.SUPERVISED, 1)
    for name in ("pairs", "is_desirable"):
        with pytest.raises(BugError, match="supervised"):
            getattr(table, name)


def test_a_file_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    schema = schema_of(ExamplesKind.SUPERVISED).with_metadata({"kind": "wishes"})
    with pa.OSFile(str(tmp_path / FILE_NAME), "wb") as sink, pa.ipc.new_file(sink, schema):
        pass

    with pytest.raises(BugError, match="wishes"):
        open_examples(tmp_path)


def test_an_exception_leaves_no_file(tmp_path: Path) -> None:
    writer = ExamplesWriter(tmp_path)
    writer.append([1, 2], [IGNORED_LABEL, 2], row_number=1)

    with pytest.raises(RuntimeError, match="out of rows"), writer:
        raise RuntimeError("out of rows")

    assert not (tmp_path / FILE_NAME).exists()


@pytest.mark.parametrize(("ids", "labels"), [([1, 2], [IGNORED_LABEL]), ([], []), ([1, 2], [1, 2])])
def test_impossible_rows_are_refused(tmp_path: Path, ids: list[int], labels: list[int]) -> None:
    with pytest.raises(BugError, match="row 7"), ExamplesWriter(tmp_path) as writer:
        writer.append(ids, labels, row_number=7)


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"no arrow")

    with pytest.raises(BugError, match="not an examples file"):
        open_examples(tmp_path)


def test_a_position_out_of_range_is_refused(tmp_path: Path) -> None:
    with ExamplesWriter(tmp_path) as writer:
        writer.append([1], [IGNORED_LABEL], row_number=1)

    with pytest.raises(IndexError):
        open_examples(tmp_path).labels(1)
