from __future__ import annotations

import pytest
from ftfy import fix_encoding

from celery_workers.data.mojibake import looks_like_mojibake, repair_mojibake

WORDS = ["schön", "Größe", "l’humanité", "voilà le", "“quoted”", "😀", "привет", "naïve", "日本語", "50 €", "a – b", "ﬁx"]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "cp1251", "mac-roman"])
@pytest.mark.parametrize("word", WORDS)
def test_the_quick_pattern_misses_nothing_that_is_repaired(word: str, encoding: str) -> None:
    damaged = f"{word} and {word}".encode().decode(encoding, errors="replace")

    assert repair_mojibake(damaged) == fix_encoding(damaged)


@pytest.mark.parametrize("text", ["plain", *WORDS, "это обычный русский текст, без ошибок"])
def test_healthy_text_is_left_alone(text: str) -> None:
    assert repair_mojibake(text) == text
    assert not looks_like_mojibake(text)


@pytest.mark.parametrize("word", ["schön", "l’humanité", "“quoted”", "😀", "привет"])
def test_damage_is_told(word: str) -> None:
    assert looks_like_mojibake(word.encode().decode("cp1252", errors="replace"))
