"""Rows that compare or judge answers become examples whose prompts are equal and whose answers alone are trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from celery_workers.agents.preprocessing import PreprocessingConfig, selection_rules, set_up
from celery_workers.contract import UserInputError
from celery_workers.data.canonical import CanonicalRow
from celery_workers.data.example_making import ExampleMaker
from celery_workers.data.examples_file import IGNORED_LABEL, ExamplesTable, ExamplesWriter, open_examples
from celery_workers.data.preference_examples import check_sides
from celery_workers.data.row_formats import RowFormat, shape_of
from celery_workers.data.templates import RowRefused
from celery_workers.data.token_view import Preparation, look_at_row, measure_share
from celery_workers.data.tokenization import TokenRow

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
JUDGING = (
    "{% if messages[-1]['content'] == 'no' %}<|im_start|>system\nbad<|im_end|>\n{% endif %}" + CHATML
)  # what stands before the question depends on the last message, the answer
BEGINNING = "{{ bos_token }}" + CHATML

Prepare = Callable[..., Preparation]


@pytest.fixture(scope="session")
def prepare(make_bpe_tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Prepare:
    folder: Path = tmp_path_factory.mktemp("model")

    def make(row_format: RowFormat, chat_template: str = CHATML, **options: object) -> Preparation:
        config = PreprocessingConfig(base_model="local:a", **options)  # type: ignore[arg-type]
        shape, tokenizer = shape_of(row_format), make_bpe_tokenizer(chat_template)
        encoder, maker = set_up(config, shape, tokenizer, folder)
        return Preparation(
            shape=shape, tokenizer=tokenizer, encoder=encoder, maker=maker, rules=selection_rules(config),
            system_prompt=config.system_prompt,
        )  # fmt: skip

    return make


def said(role: str, content: str, **keys: object) -> dict[str, object]:
    return {"role": role, "content": content, **keys}


def preference(prompt: str, chosen: str, rejected: str, *, number: int = 1) -> CanonicalRow:
    answers = {"chosen": [said("assistant", chosen)], "rejected": [said("assistant", rejected)]}
    return CanonicalRow(number, {"prompt": [said("user", prompt)], **answers, "tools": None})  # type: ignore[dict-item]


def judged(prompt: str, completion: str, *, label: bool, number: int = 1) -> CanonicalRow:
    values = {"prompt": [said("user", prompt)], "completion": [said("assistant", completion)], "label": label, "tools": None}
    return CanonicalRow(number, values)  # type: ignore[arg-type]


def write(maker: ExampleMaker, rows: list[CanonicalRow], folder: Path) -> ExamplesTable:
    with ExamplesWriter(folder / "a", kind=maker.kind) as train, ExamplesWriter(folder / "b", kind=maker.kind) as held_out:
        maker.make(rows, [False] * len(rows), train=train, held_out=held_out)
        maker.check_lengths()
    return open_examples(folder / "a")


def texts(preparation: Preparation, table: ExamplesTable) -> list[tuple[str, str]]:
    """Return for each row the untrained and the trained text."""
    decode = preparation.tokenizer.decode
    return [(decode(ids[labels == IGNORED_LABEL]), decode(ids[labels != IGNORED_LABEL])) for ids, labels, _ in table]


def test_a_preference_becomes_a_pair_with_one_prompt(prepare: Prepare, tmp_path: Path) -> None:
    preparation = prepare(RowFormat.PREFERENCE)

    table = write(preparation.maker, [preference("hello?", "yes", "no"), preference("go", "a", "b", number=5)], tmp_path)

    asked = "<|im_start|>user\nhello?<|im_end|>\n<|im_start|>assistant\n\n"
    assert texts(preparation, table)[:2] == [(asked, "yes<|im_end|>"), (asked, "no<|im_end|>")]
    assert table.pairs.tolist() == [[0, 1], [2, 3]]
    assert table.row_numbers.tolist() == [1, 1, 5, 5]


def test_only_the_answer_is_trained_whatever_the_prompt_says(prepare: Prepare, tmp_path: Path) -> None:
    preparation = prepare(RowFormat.PREFERENCE)
    row = preference("hello?", "yes", "no")
    row.values["prompt"] = [
        said("user", "one"),
        said("assistant", "two", train=True),
        said("user", "three", train=True),
    ]  # type: ignore[list-item]

    table = write(preparation.maker, [row], tmp_path)

    assert [trained for _, trained in texts(preparation, table)] == ["yes<|im_end|>", "no<|im_end|>"]


def test_every_answer_of_several_messages_is_trained(prepare: Prepare, tmp_path: Path) -> None:
    preparation = prepare(RowFormat.PREFERENCE)
    row = preference("hello?", "yes", "no")
    row.values["chosen"] = [said("assistant", "yes"), said("user", "and"), said("assistant", "hello")]  # type: ignore[list-item]

    table = write(preparation.maker, [row], tmp_path)

    assert texts(preparation, table)[0][1] == "yes<|im_end|>hello<|im_end|>"


def test_judged_answers_keep_their_label(prepare: Prepare, tmp_path: Path) -> None:
    preparation = prepare(RowFormat.KTO)
    rows = [judged("a", "b", label=True), judged("a", "c", label=False, number=2)]

    table = write(preparation.maker, rows, tmp_path)

    assert table.is_desirable.tolist() == [True, False]
    assert [trained for _, trained in texts(preparation, table)] == ["b<|im_end|>", "c<|im_end|>"]


def test_a_template_that_writes_the_prompt_by_the_answer_is_refused(prepare: Prepare, tmp_path: Path) -> None:
    maker = prepare(RowFormat.PREFERENCE, JUDGING).maker

    with pytest.raises(UserInputError) as caught:
        write(maker, [preference("hello?", "yes", "no", number=7)], tmp_path)

    assert (caught.value.code, caught.value.message.partition(":")[0]) == ("template_not_prefix_preserving", "row 7")
    assert "rejected" in caught.value.message


def test_pairs_whose_prompts_differ_are_refused() -> None:
    sides = [TokenRow([1, 2, 3, 4], [-100, -100, 3, 4]), TokenRow([1, 5, 3, 4], [-100, -100, 3, 4])]

    refusal = check_sides(sides, RowFormat.PREFERENCE)

    assert isinstance(refusal, RowRefused)
    assert refusal.code == "prompts_differ"
    assert "got 2 and 2 that differ from token 1 on" in str(refusal)


def test_answers_that_become_the_same_tokens_are_refused(prepare: Prepare, tmp_path: Path) -> None:
    maker = prepare(RowFormat.PREFERENCE, CHATML.replace("message['content']", "message['content'] | trim")).maker

    with pytest.raises(UserInputError, match="row 7: chosen and rejected become the same tokens") as caught:
        write(maker, [preference("hello?", "yes", "yes ", number=7)], tmp_path)

    assert caught.value.code == "equal_answers"


@pytest.mark.parametrize("row_format", [RowFormat.PREFERENCE, RowFormat.KTO])
def test_other_roles_are_not_compared_or_judged(prepare: Prepare, row_format: RowFormat) -> None:
    with pytest.raises(UserInputError) as caught:
        prepare(row_format, train_on_roles=["assistant", "user"])

    assert (caught.value.code, caught.value.field) == ("untrainable_role", "train_on_roles")


LONG = preference("9 8 7 " * 20, "yes", "no no no no no no no no", number=3)


def test_a_pair_that_is_too_long_is_dropped_whole(prepare: Prepare, tmp_path: Path) -> None:
    maker = prepare(RowFormat.PREFERENCE, max_length_tokens=40).maker

    table = write(maker, [LONG, preference("a", "b", "c")], tmp_path)

    assert (len(table), table.example_count) == (2, 1)
    assert (maker.counts.too_long_rows, maker.counts.dropped_rows, maker.counts.too_long) == (1, 1, [3])


def test_a_pair_that_is_too_long_can_be_an_error(prepare: Prepare, tmp_path: Path) -> None:
    maker = prepare(RowFormat.PREFERENCE, max_length_tokens=40, over_long="error").maker

    with pytest.raises(UserInputError, match="1 rows have more than 40 tokens") as caught:
        write(maker, [LONG], tmp_path)

    assert caught.value.evidence["rows"] == [3]


@pytest.mark.parametrize("template", [CHATML, BEGINNING], ids=["without-beginning", "with-beginning"])
def test_truncating_a_pair_cuts_the_same_from_both_prompts_and_nothing_from_answers(
    prepare: Prepare, tmp_path: Path, template: str
) -> None:
    whole = write(prepare(RowFormat.PREFERENCE, template).maker, [LONG], tmp_path / "whole")
    maker = prepare(RowFormat.PREFERENCE, template, max_length_tokens=40, over_long="truncate").maker

    table = write(maker, [LONG], tmp_path / "cut")

    cut, kept = int(whole.lengths.max()) - 40, int(template is BEGINNING)
    for position in (0, 1):
        expected = whole.input_ids(position).tolist()
        assert table.input_ids(position).tolist() == expected[:kept] + expected[kept + cut :]
        assert np.array_equal(table.supervised_counts, whole.supervised_counts)
    assert table.lengths.max() == 40
    assert (maker.counts.truncated_rows, maker.counts.cut_prompt_rows, maker.counts.cut_answer_rows) == (1, 1, 0)
    assert maker.counts.tokens_cut == 2 * cut


def test_an_answer_that_alone_is_too_long_is_dropped(prepare: Prepare, tmp_path: Path) -> None:
    maker = prepare(RowFormat.KTO, max_length_tokens=24, over_long="truncate").maker

    table = write(maker, [judged("a", "9 8 7 " * 9, label=True), judged("a", "b", label=False)], tmp_path)

    assert (maker.counts.dropped_rows, maker.counts.truncated_rows) == (1, 0)
    assert table.is_desirable.tolist() == [False]


def test_the_token_view_shows_both_answers(prepare: Prepare) -> None:
    seen = look_at_row(preference("hello?", "yes", "no"), prepare(RowFormat.PREFERENCE))

    assert seen.rejected is not None
    for answer, tokens in (("yes", seen.tokens), ("no", seen.rejected.tokens)):
        assert "".join(token.text for token in tokens if token.part == "user") == "hello?"
        trained = [(token.part, token.text) for token in tokens if token.trained]
        assert "".join(text for part, text in trained if part == "assistant") == answer
        assert trained[-1] == ("end_of_turn", "<|im_end|>")
    assert (seen.supervised_tokens, seen.chunks, seen.is_desirable) == (sum(token.trained for token in seen.tokens), 1, None)


def test_the_token_view_shows_what_is_left_of_a_cut_prompt(prepare: Prepare) -> None:
    seen = look_at_row(LONG, prepare(RowFormat.PREFERENCE, BEGINNING, max_length_tokens=40, over_long="truncate"))

    assert seen.tokens[0].text == "<s>"
    assert {token.part for token in seen.tokens[1:4]} == {"user"}
    assert "".join(token.text for token in seen.tokens).endswith("8 7<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n")
    assert seen.cut_tokens > 0


def test_the_token_view_shows_the_label_and_counts_examples(prepare: Prepare) -> None:
    row = judged("a", "b", label=False)
    preparation = prepare(RowFormat.KTO)

    assert look_at_row(row, preparation).is_desirable is False
    share = measure_share([preference("a", "b", "c")], "all", prepare(RowFormat.PREFERENCE))
    assert (share.rows, share.kept_rows, share.supervised_tokens) == (1, 1, 4)
