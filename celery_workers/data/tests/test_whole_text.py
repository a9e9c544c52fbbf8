"""One pass must give what prompts and whole texts tokenized apart give."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celery_workers.data.chat_rendering import Rendered
from celery_workers.data.tokenization import Encoder, TokenRow
from celery_workers.data.whole_text import WholeText

PIECES = st.sampled_from(
    [
        "hello",
        " there",
        "\n",
        "\n\n",
        " ",
        "<|im_end|>",
        "<|im_start|>",
        "</s>",
        "<s>",
        "ünï",
        "日",
        "assistant",
        "[/INST]",
        "|",
        "<",
    ]
)
TEXTS = st.lists(PIECES, max_size=6).map("".join)


def tokenizers(make_bpe_tokenizer, metaspace_tokenizer) -> list:
    from tokenizers import AddedToken, normalizers

    greedy = make_bpe_tokenizer()
    greedy.add_tokens(
        [AddedToken("<|rstrip|>", rstrip=True), AddedToken("hello|", single_word=True), AddedToken("<|lstrip|>", lstrip=True)]
    )
    lower = make_bpe_tokenizer()
    lower.backend_tokenizer.normalizer = normalizers.Lowercase()
    return [make_bpe_tokenizer(), metaspace_tokenizer, greedy, lower]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    turns=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=3),
    opening=st.sampled_from(["<|im_start|>assistant\n", "\n[/INST]", "### Response:\n", "<|rstrip|>", "<|lstrip|>", ""]),
    which=st.integers(0, 3),
)
def test_one_pass_finds_what_tokenizing_apart_finds(make_bpe_tokenizer, metaspace_tokenizer, turns, opening, which) -> None:
    tokenizer = tokenizers(make_bpe_tokenizer, metaspace_tokenizer)[which]
    text, answers = "", []
    for question, answer in turns:
        text += question + opening
        answers.append((len(text), len(text) + len(answer) + 4))
        text += answer + "</s>"
    row = Rendered(text, answers)
    encoder = Encoder(tokenizer, Path("/nonexistent"), adds_special_tokens=False)

    (once,) = WholeText(tokenizer).align([text], [sorted({0, len(text), *(place for answer in answers for place in answer)})])
    (apart,) = encoder._align_apart([row])

    if once is not None and isinstance(apart, tuple):
        assert once[0] == apart[0]
        assert {place: once[1][place] for place in apart[1]} == apart[1]


def test_most_rows_take_one_pass(make_bpe_tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder(make_bpe_tokenizer(), Path("/nonexistent"), adds_special_tokens=False)
    monkeypatch.setattr(encoder, "_align_apart", lambda rows: [] if not rows else pytest.fail("tokenized apart"))
    text = "<|im_start|>user\nyes<|im_end|>\n<|im_start|>assistant\nhello<|im_end|>\n"

    (result,) = encoder.encode([Rendered(text, [(text.index("hello"), len(text))])])

    assert isinstance(result, TokenRow)
