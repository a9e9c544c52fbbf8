from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_workers.data.canonical import CanonicalRow
from celery_workers.data.checks import text_problems
from celery_workers.data.personal_data import find_personal_data
from celery_workers.data.report_building import ReportBuilder
from celery_workers.data.row_formats import Detected, shape_of
from celery_workers.data.screening import screen
from celery_workers.data.validation_report import ValidationReport

CARD = "4111 1111 1111 1111"
IBAN = "DE89 3704 0044 0532 0130 00"
MAIL = "ada.lovelace@example.org"
PHONE = "+44 20 7946 0958"
KEY = "ghp_" + "a1B2" * 9


def report(rows: list[dict[str, str | None]], row_format: str = "prompt_completion", **options: bool) -> ValidationReport:
    detected = Detected(shape=shape_of(row_format), sources={}, reason="")
    builder = ReportBuilder(detected, **options)
    canonical = [
        CanonicalRow(number, {name: value for name, value in row.items() if name != "split"}, {"split": row.get("split")})
        for number, row in enumerate(rows, 1)
    ]
    builder.add_batch(canonical)
    return builder.build()


def numbers(found: ValidationReport, code: str) -> list[int]:
    return next((count.row_numbers for count in found.counts if count.code == code), [])


def pair(prompt: str, completion: str = "c", split: str | None = None) -> dict[str, str | None]:
    return {"prompt": prompt, "completion": completion, "split": split}


FILLER = [pair(f"plain question {number}", f"plain answer {number}") for number in range(20)]


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (MAIL, "email_address"),
        (PHONE, "phone_number"),
        (CARD, "payment_card"),
        (IBAN, "bank_account"),
        (KEY, "secret_key"),
    ],
)
def test_personal_data_is_told_by_kind_and_never_repeated(value: str, code: str) -> None:
    found = report([*FILLER, pair("Who?", f"Write to {value} please.")])

    assert [(item.row_number, item.code, item.field) for item in found.problems] == [(21, code, "completion")]
    written = json.dumps(found.as_document().model_dump(mode="json"), ensure_ascii=False)
    assert value not in written
    assert value[-9:] not in written
    assert "at character 10" in found.problems[0].message
    assert found.samples[0]["text"].startswith("Write to [")


def test_a_value_quoted_by_another_problem_is_masked_too() -> None:
    found = report([pair(f"q{number}", CARD) for number in range(60)])

    assert numbers(found, "label_imbalance") == [1]
    assert CARD not in json.dumps(found.as_document().model_dump(mode="json"))


def test_personal_data_is_not_looked_for_where_that_is_off() -> None:
    assert report([*FILLER, pair("Who?", MAIL)], with_personal_data=False).counts == []


def test_training_rows_that_ask_what_evaluation_asks_are_leaks() -> None:
    rows = [
        pair("What is  two and two?", "4", "train"), pair("Other?", "x", "train"), pair("what is two and two?", "Four", "test"),
        pair("No side", "y", None), pair("Late", "z", "train"), pair("LATE", "z", "validation"),
    ]  # fmt: skip

    found = report(rows)

    assert numbers(found, "leaked_row") == [1, 5]
    assert found.problems[0].message == "a training row that asks the same as row 3, which is held out for evaluation"
    assert found.splits == {"train": 3, "eval": 2}


def test_a_long_answer_to_many_questions_is_said_and_repetitions_do_not_count() -> None:
    refusal = "I am sorry, but I cannot help with that."
    four = [pair(f"q{number}", refusal) for number in range(4)]

    assert numbers(report([*FILLER, *four, four[0]]), "identical_answer") == []
    assert numbers(report([*FILLER, *four, pair("q4", refusal)]), "identical_answer") == [21, 22, 23, 24, 25]


def test_labels_are_counted_and_imbalance_is_said() -> None:
    balanced = report([pair(f"q{number}", "yes" if number % 2 else "no") for number in range(60)])
    skewed = report([pair(f"q{number}", "no" if number == 7 else "yes") for number in range(60)])

    assert (sorted(balanced.labels), balanced.counts) == ([("no", 30), ("yes", 30)], [])
    assert [(count.code, count.rows) for count in skewed.counts] == [("label_imbalance", 59)]
    assert skewed.as_document().tables[2].rows[0] == ["yes", 59, 59 / 60]


def test_a_row_many_times_as_long_as_the_others_is_said() -> None:
    rows = [pair(f"question number {number}", "an answer of some length") for number in range(200)]

    found = report([*rows, pair("joined", "x" * 5000)])

    assert numbers(found, "length_outlier") == [201]
    assert found.statistics["row_characters"]["longest"] == 5006


def test_statistics_say_what_the_rows_are_like() -> None:
    found = report([pair("a", "b"), pair("a", "b"), pair("", "b")])

    assert found.statistics["problems"] == {"empty_field": 1, "duplicate_row": 1}
    assert (found.statistics["fit_rows"], found.statistics["duplicate_rows"]) == (2, 1)
    assert sum(found.statistics["length_histogram"]["rows"]) == 3


def test_languages_are_told_from_a_sample() -> None:
    german = pair("Bitte schreibe mir eine kurze Antwort auf diese Frage.", "Das mache ich sehr gern für dich.")
    english = pair("Please write me a short answer to this question.", "I will gladly do that for you today.")

    found = report([german, english] * 400 + [english] * 200)

    counts = found.statistics["languages_of_sample"]
    assert sum(counts.values()) == 300
    assert 0.3 < counts["de"] / 300 < 0.5
    assert list(counts) == ["en", "de"]


pieces = st.sampled_from(
    [
        *(MAIL, CARD, CARD.replace(" ", "-"), IBAN, IBAN.replace(" ", ""), PHONE, "(020) 555-0134", "212-555-0134", KEY),
        *("AKIA" + "Q" * 16, "-----BEGIN RSA PRIVATE KEY-----", "4.50", "ü", "漢字"),
        *("schÃ¶n", "â€™", "\x07", "\x85", "\ufeff", "\ufffd", "\0", "\ud800"),
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.text(max_size=30), pieces, st.tuples(st.text(max_size=9), pieces).map("".join)), min_size=16))
def test_what_passes_the_screen_has_no_problem(texts: list[str]) -> None:
    flags, lengths = screen(texts, with_personal_data=True)

    missed = [
        text
        for text, flag in zip(texts, flags, strict=True)
        if not flag and (list(text_problems(text)) or find_personal_data(text))
    ]
    assert missed == []
    assert lengths.tolist() == list(map(len, texts))


def test_plain_text_and_sums_pass_the_screen() -> None:
    texts = [f"Order {number}: two lattes, 4.50 at 10:30. 48+24 = <<48+24=72>>72, f(120)." for number in range(50)]

    assert not any(screen(texts, with_personal_data=True)[0])
