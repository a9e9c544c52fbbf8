"""What is shown of a row is what preprocessing makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_workers.agents.preprocessing import PreprocessingConfig, selection_rules, set_up
from celery_workers.contract.tokens import RowTokens
from celery_workers.data.canonical import CanonicalRow, Value
from celery_workers.data.examples_file import IGNORED_LABEL
from celery_workers.data.row_formats import RowFormat, shape_of
from celery_workers.data.templates import Rendered
from celery_workers.data.token_view import Preparation, look_at_row, measure_share
from celery_workers.data.tokenization import TokenRow

CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SHOUTING = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}"
    "{{ '!' if 'hello' in message['content'] }}</s>{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)

Prepare = Callable[..., Preparation]


@pytest.fixture(scope="session")
def prepare(make_bpe_tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Prepare:
    """Return a function that sets preprocessing up for a format, a chat template and options."""
    folder: Path = tmp_path_factory.mktemp("model")

    def make(row_format: RowFormat = RowFormat.CHAT, chat_template: str = CHATML, **options: object) -> Preparation:
        config = PreprocessingConfig(base_model="local:a", **options)  # type: ignore[arg-type]
        shape, tokenizer = shape_of(row_format), make_bpe_tokenizer(chat_template)
        encoder, maker = set_up(config, shape, tokenizer, folder)
        return Preparation(
            shape=shape, tokenizer=tokenizer, encoder=encoder, maker=maker, rules=selection_rules(config),
            system_prompt=config.system_prompt,
        )  # fmt: skip

    return make


def chat(*turns: tuple[str, str], number: int = 1) -> CanonicalRow:
    """Return a conversation."""
    values: dict[str, Value] = dict.fromkeys(shape_of("chat").columns)
    return CanonicalRow(number, {**values, "messages": [{"role": role, "content": content} for role, content in turns]})


def stretches(row: RowTokens) -> list[tuple[str, str, bool]]:
    """Return (part, text, trained) of neighbours that agree in part and training."""
    joined: list[tuple[str, str, bool]] = []
    for token in row.tokens:
        if joined and (joined[-1][0], joined[-1][2]) == (token.part, token.trained):
            joined[-1] = (token.part, joined[-1][1] + token.text, token.trained)
        else:
            joined.append((token.part, token.text, token.trained))
    return joined


def test_contents_that_repeat_the_template_are_told_from_it(prepare: Prepare) -> None:
    row = look_at_row(chat(("user", "user"), ("assistant", "assistant"), ("user", "system"), ("assistant", "hello")), prepare())

    assert stretches(row) == [
        ("template", "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n", False),
        ("user", "user", False),
        ("template", "<|im_end|>\n<|im_start|>assistant\n", False),
        ("assistant", "assistant", True),
        ("end_of_turn", "<|im_end|>", True),
        ("template", "\n<|im_start|>user\n", False),
        ("user", "system", False),
        ("template", "<|im_end|>\n<|im_start|>assistant\n", False),
        ("assistant", "hello", True),
        ("end_of_turn", "<|im_end|>", True),
        ("template", "\n", False),
    ]


def test_a_template_whose_text_depends_on_the_content_is_followed_as_well(prepare: Prepare) -> None:
    row = look_at_row(chat(("user", "hello"), ("assistant", "yes")), prepare(chat_template=SHOUTING))

    assert [(part, text) for part, text, _ in stretches(row)] == [
        ("template", "user: "),
        ("user", "hello"),
        ("template", "!</s>assistant: "),
        ("assistant", "yes"),
        ("end_of_turn", "</s>"),
    ]


def test_a_system_prompt_of_the_config_is_a_system_part(prepare: Prepare) -> None:
    row = look_at_row(chat(("user", "hello"), ("assistant", "yes")), prepare(system_prompt="no yes no"))

    assert ("system", "no yes no", False) in stretches(row)


def test_an_alpaca_row_has_its_parts(prepare: Prepare) -> None:
    values: dict[str, Value] = {"instruction": "hello", "input": "there", "output": "yes", "system": None}
    row = look_at_row(CanonicalRow(7, values), prepare(RowFormat.ALPACA, template="alpaca"))

    parts = [(part, text, trained) for part, text, trained in stretches(row) if part != "template"]
    assert parts == [
        ("user", "hello", False),
        ("user", "there", False),
        ("assistant", "yes", True),
        ("end_of_turn", "</s>", True),
    ]
    assert row.row_number == 7


CONTENT = st.text(st.characters(exclude_categories=("Cs", "Cc", "Co")), min_size=1, max_size=40).filter(str.strip)


@settings(max_examples=60, deadline=None)
@given(question=CONTENT, answer=CONTENT)
def test_the_texts_of_the_tokens_join_to_the_text_that_is_trained(prepare: Prepare, question: str, answer: str) -> None:
    preparation = prepare_once(prepare)
    row = look_at_row(chat(("user", question), ("assistant", answer)), preparation)
    if row.state != "kept":
        assert row.code  # a content may be nothing but marks that cleaning removes
        return

    (cleaned,) = preparation.select(is_deduplicating=False).take([chat(("user", question), ("assistant", answer))])
    rendered = preparation.maker.template.render(cleaned.values, RowFormat.CHAT)
    (expected,) = preparation.encoder.encode([rendered])
    assert isinstance(rendered, Rendered)
    assert isinstance(expected, TokenRow)
    assert "".join(token.text for token in row.tokens) == rendered.text
    assert [token.id for token in row.tokens] == expected.input_ids
    assert [token.trained for token in row.tokens] == [label != IGNORED_LABEL for label in expected.labels]


_prepared: list[Preparation] = []


def prepare_once(prepare: Prepare) -> Preparation:
    """Return one preparation for all examples of a property."""
    if not _prepared:
        _prepared.append(prepare())
    return _prepared[0]


def test_what_the_trainer_does_not_get_is_said(prepare: Prepare) -> None:
    preparation = prepare(max_length_tokens=40)

    unfit = look_at_row(chat(("user", "hello")), preparation)
    long = look_at_row(chat(("user", "hello"), ("assistant", "no " * 200)), preparation)
    refused = look_at_row(
        chat(("user", "hello"), ("assistant", "yes")),
        prepare(chat_template=CHATML.replace("content'] }}", "content'] | upper }}")),
    )

    assert (unfit.state, unfit.code) == ("unfit", "no_answer")
    assert (long.state, long.tokens) == ("too_long", [])
    assert f"the row has {long.length_tokens} tokens, and at most 40 are taken" in long.message
    assert (refused.state, refused.code) == ("refused", "content_lost")


def test_the_share_counts_every_row_of_the_sample(prepare: Prepare) -> None:
    preparation = prepare(max_length_tokens=60)
    rows = [
        chat(("user", "hello"), ("assistant", "yes"), number=1),
        chat(("user", "hello"), ("assistant", "yes"), number=2),
        chat(("user", "hello"), number=3),
        chat(("user", "hello"), ("assistant", "no " * 200), number=4),
    ]
    first = look_at_row(rows[0], preparation)

    share = measure_share(rows, "all", preparation)

    assert (share.sample, share.rows, share.kept_rows) == ("all", 4, 1)
    assert share.left_out_rows == {"duplicate": 1, "unfit": 1, "too_long": 1}
    assert (share.tokens, share.supervised_tokens) == (first.length_tokens, first.supervised_tokens)
    assert share.kept_rows + sum(share.left_out_rows.values()) == share.rows


def test_a_sample_that_ends_early_is_called_the_first_rows(prepare: Prepare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celery_workers.data.token_view.SAMPLED_CHARACTERS", 10)
    rows = [chat(("user", "hello"), ("assistant", f"yes {n}"), number=n) for n in range(5)]

    share = measure_share(rows, "spread", prepare())

    assert (share.sample, share.rows) == ("first", 1)


def test_what_preprocessing_masks_and_strips_is_shown_so(prepare: Prepare) -> None:
    preparation = prepare(mask_personal_data=["email"], strip_html=True, languages=["de"])

    row = look_at_row(chat(("user", "<b>yes</b> to ann@example.com"), ("assistant", "hello")), preparation)

    assert ("user", "yes to [EMAIL]", False) in stretches(row)


def text_row(text: str) -> CanonicalRow:
    """Return a row of plain text."""
    return CanonicalRow(1, {**dict.fromkeys(shape_of("text").columns), "text": text})


@pytest.mark.parametrize("overlap", [0, 8], ids=["apart", "overlapping"])
def test_every_chunk_can_be_looked_at_and_they_join_to_the_text(prepare: Prepare, overlap: int) -> None:
    text = "\n\n".join(f"Paragraph {number} says hello. It is short." for number in range(12))
    options = {"max_length_tokens": 32, "over_long": "chunk", "chunk_overlap_tokens": overlap}
    preparation = prepare(RowFormat.TEXT, **options)

    first = look_at_row(text_row(text), preparation)
    shown = [look_at_row(text_row(text), preparation, chunk=place) for place in range(first.chunks)]

    assert first.chunks > 2
    assert [row.chunk for row in shown] == list(range(1, first.chunks + 1))
    assert "".join(token.text for row in shown for token in row.tokens[row.repeated_tokens :]).startswith(text)
    assert all(not token.trained for row in shown for token in row.tokens[: row.repeated_tokens])
    assert (max(row.repeated_tokens for row in shown) > 1) == (overlap > 0)
    assert look_at_row(text_row(text), preparation, chunk=99).chunk == first.chunks


def test_a_row_in_another_language_is_told_so(prepare: Prepare) -> None:
    german = "Guten Morgen, ich hätte gerne zwei große Tassen Kaffee mit Milch und ein Stück Apfelkuchen mit Sahne dazu."

    row = look_at_row(text_row(german), prepare(RowFormat.TEXT, languages=["en"]))

    assert (row.state, row.code) == ("other_language", "other_language")
    assert "none of en" in row.message


def test_html_and_addresses_are_shown_as_they_are_trained(prepare: Prepare) -> None:
    row = chat(("user", "<p>Who <b>are</b> you?</p>"), ("assistant", "Write to ada.lovelace@example.com please"))

    shown = look_at_row(row, prepare(strip_html=True, mask_personal_data=["email"]))

    text = "".join(token.text for token in shown.tokens)
    assert "Who are you?" in text
    assert "Write to [EMAIL] please" in text
