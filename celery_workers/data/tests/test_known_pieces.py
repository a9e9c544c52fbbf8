"""Texts in pieces must have the tokens of texts as a whole, wherever pieces are cut and whatever stands there."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celery_workers.data import known_pieces as known_pieces_module
from celery_workers.data.chat_rendering import Conversation, Rendered
from celery_workers.data.known_pieces import SPLITS, KnownPieces, known_pieces
from celery_workers.data.renderer import ChatRenderer
from celery_workers.data.tokenization import Encoder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Make = Callable[[str], "PreTrainedTokenizerFast"]
SHAPES = Path(__file__).parent / "chat_templates"
KINDS = ["gpt2", "digits", *SPLITS]
ADDED = ["</s>", "<s>", "<|im_start|>", "<|im_end|>", "<|im", "[INST]", "[/INST]", "<tool call>"]
FRAGMENTS = [
    *ADDED, "<", "<|", "im_", "|>", "[", "]", " ", "  ", "\n", "\n\n", "\r\n", "\t", ".", "!?", "'s", "'", "it's", "a", "Word",
    "7", "2024", "ünï", "日本", "e\u0301", "\u0301", "\xa0", "\u3000", "\u2028", "\x1c", "\x85", "\u200b", "🙂", "assistant",
]  # fmt: skip
TEXTS = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=3)), max_size=24).map("".join)
BOUNDLESS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def make() -> Make:
    """Return a function that makes a byte-level tokenizer whose words are parted as ``kind`` says."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    def words(kind: str):
        if kind in SPLITS:
            bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
            return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(SPLITS[kind]), "isolated"), bytes_only])
        gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
        return gpt2 if kind == "gpt2" else pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2])

    def made(kind: str) -> PreTrainedTokenizerFast:
        backend = Tokenizer(models.BPE())
        backend.normalizer = normalizers.NFC() if kind == "qwen2" else None
        backend.pre_tokenizer = words(kind)
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
        texts = ["hello there.\n\n  It's 2024!?\r\n assistant user Word\t\tünï  日本 \n Word.\n Word\n"] * 9
        backend.train_from_iterator(texts, trainer)
        backend.add_tokens([AddedToken(token, normalized=False, special=token != "<|im") for token in ADDED])
        return PreTrainedTokenizerFast(
            tokenizer_object=backend, bos_token="<s>", eos_token="</s>", clean_up_tokenization_spaces=False
        )

    return made


def in_pieces(tokenizer: PreTrainedTokenizerFast) -> KnownPieces:
    pieces = known_pieces(tokenizer)
    assert pieces is not None
    return pieces


def whole(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    return tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("kind", KINDS)
def test_no_character_makes_a_cut_uncertain(make: Make, kind: str) -> None:
    tokenizer = make(kind)
    every = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    odd = [character for character in every if unicodedata.category(character) in ("Zs", "Zl", "Zp", "Cc", "Cf")]
    characters = odd + every[:1024] + every[1024::97]
    texts = [f"a{c} b{c}\nd {c}{c} \n{c}e.{c}\t{c}7{c}\r\n{c} '{c}s" for c in characters]

    aligned = in_pieces(tokenizer).align(texts, [[0, len(text)] for text in texts])

    expected = [item.ids for item in tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)]
    assert [item and item[0] for item in aligned] == expected


@pytest.mark.parametrize("kind", KINDS)
@BOUNDLESS
@given(texts=st.lists(TEXTS, max_size=4), data=st.data())
def test_pieces_have_the_tokens_of_the_whole(make: Make, kind: str, texts: list[str], data: st.DataObject) -> None:
    tokenizer = make(kind)
    cuts = [sorted({0, len(text), *data.draw(st.lists(st.integers(0, len(text)), max_size=4))}) for text in texts]

    aligned = in_pieces(tokenizer).align(texts, cuts)

    for text, cut, item in zip(texts, cuts, aligned, strict=True):
        ids, prefixes = whole(tokenizer, text), [whole(tokenizer, text[:place]) for place in cut]
        certain = [ids[: len(prefix)] == prefix for prefix in prefixes]
        if item is None:
            assert not all(certain)
        else:
            assert all(certain)
            assert item == (ids, dict(zip(cut, map(len, prefixes), strict=True)))


@BOUNDLESS
@given(
    shape=st.sampled_from(sorted(path.stem for path in SHAPES.glob("*.jinja"))),
    kind=st.sampled_from(KINDS),
    system=st.none() | TEXTS,
    turns=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=3),
    tools=st.booleans(),
)
def test_conversations_come_out_as_tokenized_apart(make: Make, renderers, shape, kind, system, turns, tools) -> None:
    tokenizer = make(kind)
    messages = [] if system is None else [{"role": "system", "content": system}]
    for question, answer in turns:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    trained = [position for position, message in enumerate(messages) if message["role"] == "assistant"]
    tool = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}
    rendered = renderers(shape).render([Conversation(messages, trained, [tool] if tools else [])])
    rows = [item for item in rendered if isinstance(item, Rendered)]
    product, oracle = (Encoder(tokenizer, Path("/nonexistent"), adds_special_tokens=False) for _ in range(2))
    assert isinstance(product._one_pass, KnownPieces)
    oracle._one_pass = None

    made, expected = product.encode(rows), oracle.encode(rows)

    assert [str(item) for item in made] == [str(item) for item in expected]
    assert product.split_at_answer == oracle.split_at_answer


@pytest.fixture(scope="module")
def renderers() -> Callable[[str], ChatRenderer]:
    made: dict[str, ChatRenderer] = {}

    def renderer(shape: str) -> ChatRenderer:
        if shape not in made:
            text = (SHAPES / f"{shape}.jinja").read_text(encoding="utf-8")
            made[shape] = ChatRenderer(text, variables={"bos_token": "<s>", "eos_token": "</s>"})
        return made[shape]

    return renderer


def test_a_piece_is_asked_for_once(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = in_pieces(make("gpt2"))
    asked: list[str] = []
    encode = pieces._encode
    monkeypatch.setattr(pieces, "_encode", lambda texts: asked.extend(texts) or encode(texts))
    text = "<s>hello there, hello you"

    first, second = (pieces.align([text], [[0, len(text)]]) for _ in range(2))

    assert first == second
    assert sorted("".join(asked).split(pieces._separator)) == [" hello", " there,", " you", "hello"]


def test_pieces_that_join_with_the_separator_are_asked_for_alone(make: Make) -> None:
    from tokenizers import AddedToken

    tokenizer = make("gpt2")
    tokenizer.add_tokens([AddedToken("hello<", normalized=False)])
    pieces = in_pieces(tokenizer)
    text = "a hello b"

    ((ids, _),) = pieces.align([text], [[0, len(text)]])

    assert pieces._separator.startswith("<")
    assert ids == whole(tokenizer, text)


def test_what_is_known_stays_bounded(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_pieces_module, "_MAX_KEPT", 20)
    tokenizer = make("gpt2")
    pieces = in_pieces(tokenizer)
    texts = [f"word{number} of {number} words" for number in range(40)]

    for text in texts:
        assert pieces.align([text], [[0, len(text)]]) == [
            (whole(tokenizer, text), {0: 0, len(text): len(whole(tokenizer, text))})
        ]
        assert len(pieces._known) <= 20


def test_a_cut_within_an_added_token_is_uncertain(make: Make) -> None:
    assert in_pieces(make("gpt2")).align(["a<s>b"], [[0, 2, 5]]) == [None]


def prepending(tokenizer: PreTrainedTokenizerFast) -> None:
    from tokenizers import pre_tokenizers

    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)


def unparted(tokenizer: PreTrainedTokenizerFast) -> None:
    from tokenizers import pre_tokenizers

    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def lowering(tokenizer: PreTrainedTokenizerFast) -> None:
    from tokenizers import normalizers

    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()


def dropping(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.backend_tokenizer.model.dropout = 0.5


def stripping(tokenizer: PreTrainedTokenizerFast) -> None:
    from tokenizers import AddedToken

    tokenizer.add_tokens([AddedToken("<strip>", rstrip=True, normalized=False)])


def parting_by_another_expression(tokenizer: PreTrainedTokenizerFast) -> None:
    from tokenizers import Regex, pre_tokenizers

    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    parts = [pre_tokenizers.Split(Regex(r"\w+\s*|\W+"), "isolated"), bytes_only]
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)


def reading_special_tokens_as_text(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.backend_tokenizer.encode_special_tokens = True


@pytest.mark.parametrize(
    "change",
    [
        prepending, unparted, lowering, dropping, stripping, parting_by_another_expression, reading_special_tokens_as_text,
    ],
)  # fmt: skip
def test_tokenizers_that_might_join_pieces_are_left_alone(
    make: Make, change: Callable[[PreTrainedTokenizerFast], None]
) -> None:
    tokenizer = make("gpt2")
    assert known_pieces(tokenizer)

    change(tokenizer)

    assert known_pieces(tokenizer) is None


def test_tokenizers_that_mark_words_are_left_alone(metaspace_tokenizer) -> None:
    assert known_pieces(metaspace_tokenizer) is None
