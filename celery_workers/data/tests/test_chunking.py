from __future__ import annotations

from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st

from celery_workers.data.chunking import PARAGRAPH, SENTENCE, WORD, BorderFinder
from celery_workers.data.examples_file import IGNORED_LABEL
from celery_workers.data.token_chunks import chunk
from celery_workers.data.tokenization import TokenRow

# A tokenizer of one token a character.
CHARACTERS = SimpleNamespace(convert_ids_to_tokens=chr, decode=lambda ids: "".join(map(chr, ids)))
PARTS = ["One two. ", "Three?\n", "four five ", "Six!\n\n", "x" * 30, "日本。", "3.14 ", "\n"]
TEXTS = st.lists(st.sampled_from(PARTS), min_size=1, max_size=30).map("".join)


def pieces_of(text: str, limit: int, *, overlap_tokens: int = 0) -> list[tuple[str, str]]:
    """Return what each piece repeats and what it adds."""
    ids = [ord(letter) for letter in text]
    strengths = BorderFinder(CHARACTERS).strengths(ids)
    example = TokenRow(ids, [IGNORED_LABEL, *ids[1:]])
    found = []
    for number, piece in enumerate(chunk(example, limit, prefix_ids=[], strengths=strengths, overlap_tokens=overlap_tokens)):
        assert len(piece.input_ids) <= limit
        repeated = 0 if number == 0 else piece.labels.count(IGNORED_LABEL)
        letters = "".join(map(chr, piece.input_ids))
        found.append((letters[:repeated], letters[repeated:]))
    return found


@given(text=TEXTS, limit=st.integers(4, 60), overlap=st.integers(0, 40))
@settings(deadline=None)
def test_chunks_rejoin_to_the_text(text: str, limit: int, overlap: int) -> None:
    pieces = pieces_of(text, limit, overlap_tokens=overlap)

    done = ""
    for repeated, added in pieces:
        assert done.endswith(repeated)
        assert added
        done += added
    assert done == text


def test_cuts_lie_between_paragraphs_then_sentences_then_words() -> None:
    assert [added for _, added in pieces_of("One two. Three.\n\nFour five six seven.", 22)] == [
        "One two. Three.\n\n", "Four five six seven.",
    ]  # fmt: skip
    assert [added for _, added in pieces_of("One two three. Four five six seven.", 22)] == [
        "One two three. ", "Four five six seven.",
    ]  # fmt: skip
    assert [added for _, added in pieces_of("one two three four five", 12)] == ["one two ", "three four ", "five"]


def test_the_overlap_begins_with_a_sentence() -> None:
    text = "First one here. Second one. Third sentence is here. Fourth."

    pieces = pieces_of(text, 32, overlap_tokens=14)

    assert pieces[0] == ("", "First one here. Second one. ")
    assert pieces[1][0] == " Second one. "


def test_strengths_tell_numbers_from_sentences() -> None:
    strengths = BorderFinder(CHARACTERS).strengths([ord(letter) for letter in "3.1 a. b\n\nc。d"])

    assert strengths == [0, 0, WORD, WORD, 0, SENTENCE, SENTENCE, WORD, SENTENCE, PARAGRAPH, 0, SENTENCE, 0]
