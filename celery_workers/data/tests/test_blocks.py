"""Rows read and checked column by column must come out as row by row, whatever is wrong with them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_workers.contract import UserInputError
from celery_workers.data import jsonl_blocks, spilling
from celery_workers.data.blocks import block_of
from celery_workers.data.canonical import CanonicalRow
from celery_workers.data.canonical import texts as texts_of
from celery_workers.data.checks import check_row, is_fit
from celery_workers.data.dataset_folder import DatasetReader, GrowingDatasetWriter
from celery_workers.data.formats import jsonl_rows
from celery_workers.data.importing import open_rows
from celery_workers.data.personal_problems import personal_problems
from celery_workers.data.report_building import ReportBuilder
from celery_workers.data.row_formats import Detected, shape_of
from celery_workers.data.rows import RowProblem, SourceFile
from celery_workers.data.splits import named_side
from celery_workers.data.statistics import answer_of, question_of

PIECES = [
    "", " ", "\n", "plain", "Plain  text", "plain text", "ß", "SS", "żółty дёж", "schÃ¶n", "â€™", "\x07", "\x85", "\ufeff",
    "\ufffd", "\0", "ada@example.org", "4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00", "+44 20 7946 0958",
    "ghp_" + "a1B2" * 9, "A longer answer that many rows may share.", "x" * 300, "\u2028", "\u00a0", "=SUM(A1)",
]  # fmt: skip
TEXT = st.sampled_from(PIECES) | st.lists(st.sampled_from(PIECES), max_size=3).map(" ".join) | st.text(max_size=8)
ANY = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | TEXT
    | st.lists(TEXT, max_size=2)
    | st.dictionaries(TEXT, TEXT, max_size=1)
)
ROLE = st.sampled_from(["system", "user", "assistant", "tool", "human", "gpt", " User", "function_call", "boss", ""]) | ANY
SPLIT = st.sampled_from(["train", "test", "Train ", "other", "", None])


def message(role: str, content: str) -> st.SearchStrategy[dict[str, object]]:
    further = {key: st.none() | TEXT for key in ("name", "tool_calls", "train", "unknown")}
    usual = st.fixed_dictionaries({role: st.sampled_from(["user", "assistant", "human", "gpt"]), content: TEXT})
    return usual | st.fixed_dictionaries({}, optional={role: ROLE, content: ANY, **further})


def conversation(role: str, content: str) -> st.SearchStrategy[list[object]]:
    says = {"user": "human", "assistant": "gpt", "system": "system"} if role == "from" else {}
    orders = [["user", "assistant"], ["system", "user", "assistant"], ["user", "assistant", "user", "assistant"], ["user"]]
    usual = st.sampled_from(orders).flatmap(
        lambda order: st.tuples(*[st.fixed_dictionaries({role: st.just(says.get(one, one)), content: TEXT}) for one in order])
    )
    return usual.map(list) | st.lists(message(role, content) | ANY, max_size=4)


EXTRAS = {"split": SPLIT, "id": st.integers(), "score": st.integers() | st.floats(), "more": ANY}
CHAT = st.fixed_dictionaries(
    {"messages": conversation("role", "content")},
    optional={"system": TEXT | ANY, "tools": st.sampled_from(["", "[]", '[{"name": "f"}]', None, []]) | ANY, **EXTRAS},
)
SHAREGPT = st.fixed_dictionaries({"conversations": conversation("from", "value")}, optional=EXTRAS)
ALPACA = st.fixed_dictionaries({"instruction": TEXT, "output": TEXT}, optional={"input": TEXT | ANY, "system": ANY, **EXTRAS})
PAIR = st.fixed_dictionaries({}, optional={"question": TEXT | ANY, "answer": TEXT | ANY, **EXTRAS})
PLAIN = st.fixed_dictionaries({"text": TEXT | ANY}, optional=EXTRAS)
FIRST = {
    "chat": {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
    "sharegpt": {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
    "alpaca": {"instruction": "a", "output": "b"},
    "pair": {"question": "a", "answer": "b"},
    "text": {"text": "a"},
}
ROWS = {"chat": CHAT, "sharegpt": SHAREGPT, "alpaca": ALPACA, "pair": PAIR, "text": PLAIN}
BROKEN = st.sampled_from(
    [b"", b"  ", b"{", b"[1]", b"null", b'{"text": "a"} {"text": "b"}', b'{"text": "na\xefve"}', b'{"a": NaN}']
)
DEEP = st.sampled_from([98, 99, 100, 120]).map(lambda depth: b'{"more": ' + b"[" * depth + b"]" * depth + b"}")
HALF = st.just(b'{"text": "\\ud83d", "id": 12345678901234567890123}')


def lines_of(kind: str) -> st.SearchStrategy[list[bytes]]:
    row = ROWS[kind].map(lambda row: json.dumps(row).encode())
    return st.lists(row | row | row | BROKEN | DEEP | HALF, max_size=12).map(
        lambda lines: [json.dumps(FIRST[kind]).encode(), *lines, *lines[: len(lines) // 2]]
    )


def without_nulls(row: CanonicalRow) -> tuple[object, ...]:
    """What is kept of a row: a null and an absent extra column are the same in the end."""
    extras = {name: text for name, text in row.extras.items() if text is not None}
    return row.number, row.values, extras, row.problems


@pytest.mark.parametrize("kind", sorted(ROWS))
@settings(deadline=None, max_examples=60)
@given(data=st.data(), block_bytes=st.sampled_from([1, 40, 300, 4096]), ends=st.booleans())
def test_lines_read_as_blocks_are_the_rows_read_one_by_one(
    kind: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory, *, block_bytes: int, ends: bool
) -> None:
    path = tmp_path_factory.mktemp("blocks") / "stored"
    path.write_bytes(b"\n".join(data.draw(lines_of(kind))) + b"\n" * ends)
    source = SourceFile(path=path, name="rows.jsonl")
    one_by_one, together = open_rows(source), open_rows(source)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonl_blocks, "BLOCK_BYTES", block_bytes)
        blocks = [block for block, _ in together.blocks()]

    found = [block.row(position) for block in blocks for position in range(len(block))]

    assert list(map(without_nulls, found)) == [without_nulls(row) for rows, _ in one_by_one for row in rows]
    assert together.columns.as_json() == one_by_one.columns.as_json()


class Reference:
    """The report in the plainest way: every check on every row, everything remembered."""

    def __init__(self, detected: Detected, rows: list[CanonicalRow]) -> None:
        self.problems = [self._check(row, detected) for row in rows]
        shape = detected.shape
        fit = [row for row, problems in zip(rows, self.problems, strict=True) if is_fit(problems)]
        said = [{name: value for name, value in row.values.items() if value not in (None, "")} for row in fit]
        contents = [json.dumps(values, sort_keys=True) for values in said]
        self.duplicates = [row.number for place, row in enumerate(fit) if contents.index(contents[place]) < place]
        asked = {True: {}, False: {}, None: {}}
        for row in fit:
            if row.extras.get("split"):
                asked[named_side(row.extras["split"])][row.number] = question_of(row.values, shape)
        self.leaks = [number for number, question in asked[False].items() if question in asked[True].values()]
        unique = [row for row in fit if row.number not in self.duplicates]
        answers = Counter(answer_of(row.values, shape) for row in unique)
        answered = [(row.number, answer_of(row.values, shape)) for row in unique if detected.format != "text"]
        self.same = [number for number, answer in answered if answer and len(answer) >= 20 and answers[answer] >= 5]
        self.whole = (self.duplicates, self.leaks, self.same)
        self.fit_rows = len(fit)
        self.characters = [sum(len(text) for _, text in texts_of(row.values, detected.format)) for row in rows]
        self.fit_characters = sorted(sum(len(text) for _, text in texts_of(row.values, detected.format)) for row in fit)

    def _check(self, row: CanonicalRow, detected: Detected) -> list[RowProblem]:
        found = check_row(row, detected.shape, max_characters=250)
        return [*found, *personal_problems(row.number, texts_of(row.values, detected.format))]


@pytest.mark.parametrize("kind", sorted(ROWS))
@settings(deadline=None, max_examples=40)
@given(data=st.data(), block_bytes=st.sampled_from([40, 4096]), is_large=st.booleans())
def test_a_report_is_what_the_plainest_way_finds(
    kind: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory, *, block_bytes: int, is_large: bool
) -> None:
    path = tmp_path_factory.mktemp("report") / "stored"
    path.write_bytes(b"\n".join(data.draw(lines_of(kind))))
    source = SourceFile(path=path, name="rows.jsonl")
    expected_rows = [row for rows, _ in open_rows(source) for row in rows]
    opened = open_rows(source)
    expected = Reference(opened.detected, expected_rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonl_blocks, "BLOCK_BYTES", block_bytes)
        if is_large:
            for limit in ("SPILL_BYTES", "CHUNK_ROWS", "GROUPED_ROWS"):
                patch.setattr(spilling, limit, 3)
        builder = ReportBuilder(opened.detected, max_characters=250)
        for block, _ in opened.blocks():
            builder.add_block(block)
        report = builder.build()

    numbers = {count.code: count.row_numbers for count in report.counts}
    of_rows = [problem for problems in expected.problems for problem in problems]
    whole = ("duplicate_row", "leaked_row", "identical_answer", "label_imbalance", "length_outlier")
    assert numbers == {
        **{code: sorted({problem.row_number for problem in of_rows if problem.code == code}) for code in numbers},
        **{code: found for code, found in zip(whole, expected.whole, strict=False) if found},
    }
    assert {problem.code for problem in of_rows} == numbers.keys() - set(whole)
    shown = [(problem.row_number, problem.code, problem.field) for problem in report.problems if problem.code not in whole]
    assert sorted(shown) == sorted((problem.row_number, problem.code, problem.field) for problem in of_rows)
    assert (report.rows, report.fit_rows) == (len(expected_rows), expected.fit_rows)
    assert report.characters == sum(expected.characters)
    assert sum(report.lengths) == len(expected_rows)
    if expected.fit_rows:
        assert report.length_percentiles["median"] == np.percentile(expected.fit_characters, 50, method="lower")
        assert report.length_percentiles["longest"] == expected.fit_characters[-1]


@pytest.mark.parametrize("kind", sorted(ROWS))
@settings(deadline=None, max_examples=40)
@given(data=st.data(), block_bytes=st.sampled_from([1, 300]))
def test_a_dataset_folder_holds_the_rows_as_they_were_read(
    kind: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory, block_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("folder")
    (folder / "stored").write_bytes(b"\n".join(data.draw(lines_of(kind))))
    source = SourceFile(path=folder / "stored", name="rows.jsonl")
    opened = open_rows(source)
    shape = opened.detected.shape
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonl_blocks, "BLOCK_BYTES", block_bytes)
        with GrowingDatasetWriter(folder / "dataset", shape, has_problems=True) as writer:
            for block, _ in opened.blocks():
                writer.write_block(block)

    reader = DatasetReader(folder / "dataset", shape)

    expected = [row for rows, _ in open_rows(source) for row in rows]
    found = [row for batch in reader.batches() for row in batch]
    assert list(map(without_nulls, found)) == list(map(without_nulls, expected))
    assert reader.extras == list(dict.fromkeys(name for row in expected for name in row.extras))
    assert [path.name for path in (folder / "dataset").iterdir()] == ["rows.parquet"]


def test_a_realistic_file_is_read_by_its_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{**FIRST["chat"], "id": number, "split": "train", "tools": None} for number in range(500)]
    path = tmp_path / "stored"
    path.write_text("\n".join(map(json.dumps, rows)))
    read_alone: list[int] = []
    read_line = jsonl_blocks.read_line
    monkeypatch.setattr(
        jsonl_blocks, "read_line", lambda number, line, stream: read_alone.append(number) or read_line(number, line, stream)
    )

    blocks = [block for block, _ in open_rows(SourceFile(path=path, name="rows.jsonl")).blocks()]

    assert sum(map(len, blocks)) == 500
    assert read_alone == []


def test_a_file_of_nothing_but_new_columns_ends_at_their_limit(tmp_path: Path) -> None:
    path = tmp_path / "stored"
    path.write_text("\n".join(json.dumps({"text": "a", f"key{number}": 1}) for number in range(1200)))

    with pytest.raises(UserInputError, match="at most 1000 columns, got 1001"):
        list(open_rows(SourceFile(path=path, name="rows.jsonl")).blocks())


def test_a_line_that_is_too_long_is_named_and_the_rest_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (jsonl_blocks, jsonl_rows):
        monkeypatch.setattr(module, "MAX_ROW_CHARACTERS", 100)
    monkeypatch.setattr(jsonl_blocks, "MAX_LINE_BYTES", 400)
    monkeypatch.setattr(jsonl_blocks, "BLOCK_BYTES", 64)
    path = tmp_path / "stored"
    path.write_text('{"text": "a"}\n' + json.dumps({"text": "x" * 5000}) + '\n{"text": "b"}\n')

    blocks = [block for block, _ in open_rows(SourceFile(path=path, name="rows.jsonl")).blocks()]
    rows = [block.row(position) for block in blocks for position in range(len(block))]

    assert [(row.number, row.values["text"]) for row in rows] == [(1, "a"), (2, None), (3, "b")]
    assert [problem.message for problem in rows[1].problems] == ["a line must be shorter than 100 characters, got 5013"]


def test_first_rows_of_a_block_are_whole() -> None:
    problem = RowProblem(row_number=2, code="formula", field="text", message="text holds a formula")
    rows = [CanonicalRow(1, {"text": "a"}, {"n": "1"}), CanonicalRow(2, {"text": "=b"}, {"n": "2"}, [problem])]

    block = block_of([*rows, CanonicalRow(3, {"text": "c"}, {"n": "3"})], shape_of("text"))

    assert [block.first(2).row(position) for position in range(2)] == rows
    assert len(block.first(9)) == 3
