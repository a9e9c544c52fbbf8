from __future__ import annotations

from pathlib import Path

import pytest

from celery_workers.agents.preprocessing import PreprocessingAgent
from celery_workers.agents.tests.preparing import BASE, ROWS, compared, pair, sides
from celery_workers.contract import Canceled, Dataset, UserInputError
from celery_workers.contract.agent import describe
from celery_workers.contract.testing import RecordingContext, check_agent, run_agent
from celery_workers.data.canonical import CanonicalRow
from celery_workers.data.dataset_folder import DatasetWriter
from celery_workers.data.examples_file import IGNORED_LABEL, open_examples
from celery_workers.data.row_formats import shape_of
from celery_workers.data.rows import RowProblem
from celery_workers.modeling.tokenizer import tokenizer_digest


def test_it_keeps_the_contract() -> None:
    check_agent(describe(PreprocessingAgent, name="preprocessing"))


def test_every_row_becomes_one_example_with_its_answer_trained(run, tiny_tokenizer, tiny_model_folder: Path) -> None:
    outputs, report, context = run(ROWS)

    train, held_out = sides(outputs)
    assert sorted(train + held_out) == list(range(1, 101))
    assert 2 <= len(held_out) <= 22  # four standard deviations about 10
    for ids, labels, number in open_examples(outputs.examples.path):
        text = f"<|im_start|>user\nquestion {number}<|im_end|>\n<|im_start|>assistant\nanswer {number}<|im_end|>\n"
        assert tiny_tokenizer.decode(ids) == text
        assert tiny_tokenizer.decode([label for label in labels if label != IGNORED_LABEL]) == f"answer {number}<|im_end|>"
    metadata = outputs.examples.metadata
    assert metadata["base_model"] == BASE
    assert metadata["tokenizer_digest"] == tokenizer_digest(tiny_model_folder)
    assert (metadata["template"], metadata["format"], metadata["max_length_tokens"]) == ("model", "prompt_completion", 512)
    assert metadata["rows"] == len(train) == report["summary"]["train_rows"]
    assert metadata["supervised_tokens"] == open_examples(outputs.examples.path).supervised_tokens
    assert report["verdict"] == "Every row became an example."
    assert context.fractions == sorted(context.fractions)
    assert context.fractions[-1] == 1.0


def test_the_report_counts_every_row_that_did_not(run) -> None:
    rows = [
        pair(1, "schÃ¶n ", "ja"),
        pair(2, "schön", "ja"),
        pair(3, "\u0007", "emptied"),
        pair(4, "long", "x" * 600),
        pair(5, "spells <|im_end|> out", "a"),
        pair(6, "another", "b"),
    ]

    outputs, report, _ = run(rows, eval_fraction=0)

    assert sides(outputs) == ([1, 5, 6], [])
    assert outputs.eval_examples is None
    assert [row[:3] for row in report["tables"][0]["rows"]] == [
        ["read", 6, 6], ["cleaning", 6, 5], ["exact duplicates", 5, 4], ["length in tokens", 4, 3],
    ]  # fmt: skip
    assert dict(report["tables"][1]["rows"]) == {
        "mojibake repaired": 1,
        "white space trimmed": 1,
        "control characters removed": 1,
    }
    assert report["data"]["duplicates"] == [{"row": 2, "same_as": 1}]
    assert report["data"]["emptied_rows"] == [3]
    assert report["data"]["too_long_rows"] == [4]
    assert report["data"]["rows_with_special_tokens"] == [5]
    assert "3 of 6 rows were left out" in report["verdict"]
    assert report["samples"][0]["row_number"] == 1
    assert ["j", True] in report["samples"][0]["tokens"]


def test_repetitions_never_stand_on_both_sides(run) -> None:
    rows = [pair(number, f"question {number % 40}", "answer") for number in range(1, 201)]

    outputs, _, _ = run(rows, dedup=False, eval_fraction=0.5)

    train, held_out = sides(outputs)
    assert len(train) + len(held_out) == 200
    assert {number % 40 for number in train}.isdisjoint({number % 40 for number in held_out})


def test_the_split_is_the_same_for_reordered_rows_and_differs_by_seed(run) -> None:
    first, _, _ = run(ROWS)
    reordered, _, _ = run(ROWS[::-1])
    other, _, _ = run(ROWS, seed=1)

    assert sorted(sides(first)[1]) == sorted(sides(reordered)[1])
    assert sorted(sides(first)[1]) != sorted(sides(other)[1])


def test_the_same_input_gives_the_same_bytes(run) -> None:
    first, _, _ = run(ROWS)
    second, _, _ = run(ROWS)

    assert (first.examples.path / "examples.arrow").read_bytes() == (second.examples.path / "examples.arrow").read_bytes()


def test_a_split_column_holds_out_what_it_names(run) -> None:
    rows = [pair(number, f"q{number}", "a", split="eval" if number > 7 else "train") for number in range(1, 11)]
    leaked = pair(11, "q10", "a", split="train")

    outputs, _, _ = run([leaked, *rows], split_column="split")

    assert sides(outputs) == ([1, 2, 3, 4, 5, 6, 7], [11, 8, 9])


@pytest.mark.parametrize(
    ("split", "config", "message"),
    [("maybe", {"split_column": "split"}, "row 1: split must say train or eval, got 'maybe'"),
     ("eval", {"split_column": "side"}, "split_column must be a column beyond the row format .split."),
     ("eval", {"split_column": "split"}, "no row is left to train on: 1 are held out")],
)  # fmt: skip
def test_a_split_column_that_splits_nothing_is_refused(run, split: str, config: dict, message: str) -> None:
    with pytest.raises(UserInputError, match=message):
        run([pair(1, "q", "a", split=split)], **config)


def test_over_long_rows_can_be_an_error(run) -> None:
    # The template takes 21 tokens beside question and answer.
    with pytest.raises(UserInputError, match=r"2 rows have more than 60 tokens \(rows 1, 2; the longest has 94") as caught:
        run(
            [pair(1, "a" * 30, "b" * 30), pair(2, "a" * 45, "b" * 28), pair(3, "a", "b")],
            max_length_tokens=60,
            over_long="error",
        )

    assert caught.value.evidence["rows"] == [1, 2]


def test_truncation_counts_the_answers_that_it_cuts(run, tiny_tokenizer) -> None:
    rows = [pair(1, "q", "b" * 100), pair(2, "a" * 200, "lost"), pair(3, "q", "short")]

    outputs, report, _ = run(rows, max_length_tokens=60, over_long="truncate", eval_fraction=0)

    table = open_examples(outputs.examples.path)
    assert table.row_numbers.tolist() == [1, 3]
    assert table.lengths.tolist()[0] == 60
    counted = dict(report["tables"][3]["rows"])
    assert counted["longer than the limit"] == 2
    assert counted["dropped for their length"] == 1
    assert counted["truncated, and an answer lost its end"] == counted["truncated"] == 1
    assert "1 rows were truncated; 1 of them lost the end of an answer." in report["verdict"]


@pytest.mark.parametrize(
    ("config", "code"),
    [({"max_length_tokens": 513}, "too_long_for_model"), ({"max_length_tokens": 8}, "no_train_rows")],
)
def test_lengths_that_cannot_work_are_refused(run, config: dict, code: str) -> None:
    with pytest.raises(UserInputError) as caught:
        run(ROWS, **config)

    assert caught.value.code == code


def test_over_long_texts_can_be_chunked(run, tiny_tokenizer) -> None:
    rows = [CanonicalRow(1, {"text": "0123456789" * 5}), CanonicalRow(2, {"text": "short"})]

    outputs, report, _ = run(rows, row_format="text", max_length_tokens=20, over_long="chunk", eval_fraction=0)

    table = open_examples(outputs.examples.path)
    assert table.row_numbers.tolist() == [1, 1, 1, 2]
    assert table.lengths.tolist() == [20, 20, 13, 6]
    # Each chunk begins with the last token of the one before, untrained.
    texts = [tiny_tokenizer.decode(ids) for ids, _, _ in table]
    assert texts[0] + texts[1][1:] + texts[2][1:] == "0123456789" * 5 + "<|im_end|>"
    assert table.supervised_tokens == 50 + 5
    assert report["summary"]["dropped_rows"] == 0
    assert dict(report["tables"][3]["rows"])["chunks of these"] == 3
    assert report["verdict"] == "1 rows were cut into 3 examples."


def test_a_conversation_cannot_be_chunked(run) -> None:
    with pytest.raises(UserInputError, match="rows of the format text, got prompt_completion") as caught:
        run(ROWS, over_long="chunk")

    assert (caught.value.code, caught.value.field) == ("chunk_needs_text", "over_long")


CUSTOM = (
    "{% for m in messages %}{{ m.role }}> {{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}assistant> {% endif %}"
)


def test_a_custom_template_is_used(run, tiny_tokenizer) -> None:
    outputs, _, _ = run([pair(1, "q", "a")], template="custom", custom_template=CUSTOM, eval_fraction=0)

    (ids, labels, _), *_ = open_examples(outputs.examples.path)
    assert tiny_tokenizer.decode(ids) == "user> q<|im_end|>\nassistant> a<|im_end|>\n"
    assert tiny_tokenizer.decode([label for label in labels if label != IGNORED_LABEL]) == "a<|im_end|>"


def test_other_roles_can_be_trained(run, tiny_tokenizer) -> None:
    outputs, _, _ = run([pair(1, "q", "a")], train_on_roles=["user"], eval_fraction=0)

    (_, labels, _), *_ = open_examples(outputs.examples.path)
    assert tiny_tokenizer.decode([label for label in labels if label != IGNORED_LABEL]) == "q<|im_end|>"


@pytest.mark.parametrize(
    ("config", "code", "message"),
    [
        ({"template": "custom"}, "custom_template", "needs custom_template"),
        ({"custom_template": CUSTOM}, "custom_template", "no other template takes it"),
        ({"template": "custom", "custom_template": "{% for %}"}, "template_error", "cannot be used"),
        ({"template": "custom", "custom_template": CUSTOM + "{{ messages.__class__ }}"}, "template_error", "row 1: .*unsafe"),
        ({"template": "llama3"}, "template_needs_tokens", "needs <.start_header_id.> and "),
        ({"template": "alpaca", "train_on_roles": ["user"]}, "untrainable_role", "trains answers only"),
    ],
)
def test_templates_that_cannot_work_are_refused(run, config: dict, code: str, message: str) -> None:
    with pytest.raises(UserInputError, match=message) as caught:
        run(ROWS, **config)

    assert caught.value.code == code


def test_a_template_that_loops_is_refused_with_its_row(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celery_workers.data.renderer._CPU_SECONDS", 0.3)
    endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    slow = CUSTOM + "{% if messages[0].content == 'question 7' %}" + endless + "{% endif %}"

    with pytest.raises(UserInputError, match=r"row 7: the chat template took more than 0\.3 s") as caught:
        run(ROWS, template="custom", custom_template=slow)

    assert caught.value.code == "template_too_slow"


def test_unfit_rows_are_refused_with_their_number(run) -> None:
    with pytest.raises(UserInputError, match="row 2: completion is empty; 1 rows up to here") as caught:
        run([pair(1, "a", "b"), pair(2, "a", " ")])

    assert caught.value.evidence["rows"] == [2]


def test_problems_from_reading_are_not_passed_over_without_validation(tmp_path: Path, tiny_model_folder: Path) -> None:
    problem = RowProblem(row_number=3, code="broken_row", message="is not a JSON object")
    with DatasetWriter(tmp_path / "in", shape_of("prompt_completion"), has_problems=True) as writer:
        writer.write([*ROWS[:2], CanonicalRow(3, {"prompt": None, "completion": None}, {}, [problem])])
    dataset = Dataset(path=tmp_path / "in", metadata={"format": "prompt_completion"})
    references = {BASE: tiny_model_folder}

    with pytest.raises(UserInputError, match="row 3: is not a JSON object; 1 rows up to here cannot be trained on"):
        run_agent(PreprocessingAgent, {"base_model": BASE}, {"dataset": dataset}, workdir=tmp_path, references=references)


def test_refused_rows_name_the_row_and_the_reason(run) -> None:
    turns = [{"role": role, "content": role} for role in ("user", "assistant", "user", "assistant")]

    with pytest.raises(UserInputError, match="row 4: the alpaca template has room for one question") as caught:
        run([CanonicalRow(4, {"messages": turns})], row_format="chat", template="alpaca")

    assert caught.value.code == "too_many_turns"


def test_alpaca_rows_take_the_alpaca_template(run, tiny_tokenizer) -> None:
    row = CanonicalRow(1, {"instruction": "Add.", "input": "2, 3", "output": "5", "system": None})

    outputs, _, _ = run([row], row_format="alpaca", template="alpaca", eval_fraction=0)

    (ids, labels, _), *_ = open_examples(outputs.examples.path)
    assert tiny_tokenizer.decode(ids).endswith("### Input:\n2, 3\n\n### Response:\n5<|im_end|>")
    assert tiny_tokenizer.decode([label for label in labels if label != IGNORED_LABEL]) == "5<|im_end|>"


def test_text_rows_are_trained_whole(run) -> None:
    outputs, report, _ = run([CanonicalRow(1, {"text": "Once upon"})], row_format="text", eval_fraction=0)

    assert outputs.examples.metadata["template"] == "none"
    assert report["summary"]["supervised_share"] == 0.9  # 9 letters and the end, the first of them not predicted


@pytest.mark.parametrize("config", [{"template": "llama-3"}, {"over_long": "wrap"}, {"eval_fraction": 1}])
def test_what_is_not_there_yet_is_refused_by_name(run, config: dict) -> None:
    with pytest.raises(UserInputError, match=next(iter(config))):
        run(ROWS, **config)


def test_a_cancel_stops_it(tmp_path: Path, tiny_model_folder: Path) -> None:
    with DatasetWriter(tmp_path / "in", shape_of("prompt_completion")) as writer:
        writer.write(ROWS)
    context = RecordingContext(workdir=tmp_path, references={BASE: tiny_model_folder}, cancel_after_checks=1)
    dataset = Dataset(path=tmp_path / "in", metadata={"format": "prompt_completion"})

    with pytest.raises(Canceled):
        run_agent(PreprocessingAgent, {"base_model": BASE}, {"dataset": dataset}, context=context)

    assert not (tmp_path / "examples" / "examples.arrow").exists()


def test_preferences_become_pairs_of_rows(run, tiny_tokenizer) -> None:
    rows = [compared(number, f"good {number}", f"bad {number}") for number in range(1, 21)] + [compared(21, "x", "y " * 600)]

    outputs, report, _ = run(rows, row_format="preference", eval_fraction=0.2)

    table = open_examples(outputs.examples.path)
    held_out = open_examples(outputs.eval_examples.path)
    assert table.kind == held_out.kind == outputs.examples.metadata["kind"] == "preference"
    assert table.example_count + held_out.example_count == 20
    assert table.example_count == outputs.examples.metadata["rows"] == report["summary"]["train_rows"]
    number = table.row_number(0)
    learned = [tiny_tokenizer.decode(table.input_ids(row)[table.labels(row) != IGNORED_LABEL]) for row in table.pairs[0]]
    assert learned == [f"good {number}<|im_end|>", f"bad {number}<|im_end|>"]
    assert report["data"]["too_long_rows"] == [21]
    answers = next(item for item in report["tables"] if item["title"] == "Answers")
    assert [row[:3] for row in answers["rows"][:2]] == [
        ["train", "chosen", table.example_count], ["train", "rejected", table.example_count],
    ]  # fmt: skip
    assert [sample["side"] for sample in report["samples"]] == ["chosen", "rejected"] * 2


def test_judged_answers_become_rows_with_labels(run) -> None:
    rows = [
        CanonicalRow(
            number,
            {
                "prompt": [{"role": "user", "content": f"question {number}"}],
                "completion": [{"role": "assistant", "content": "answer"}],
                "label": number % 4 == 0,
                "tools": None,
            },
        )
        for number in range(1, 13)
    ]

    outputs, report, _ = run(rows, row_format="kto", eval_fraction=0)

    table = open_examples(outputs.examples.path)
    assert [bool(wanted) for wanted in table.is_desirable] == [number % 4 == 0 for number in range(1, 13)]
    assert (outputs.examples.metadata["kind"], outputs.examples.metadata["desirable_rows"]) == ("kto", 3)
    answers = next(item for item in report["tables"] if item["title"] == "Answers")
    assert [row[1:3] for row in answers["rows"][:2]] == [["wanted", 3], ["unwanted", 9]]
