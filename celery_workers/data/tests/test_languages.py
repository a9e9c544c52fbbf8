from __future__ import annotations

import pytest

from celery_workers.contract import UserInputError
from celery_workers.data.languages import UNCLEAR, LanguageFilter, language_of


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Could you please bring us two coffees and the bill?", "en"),
        ("Könnten Sie uns bitte zwei Kaffee und die Rechnung bringen?", "de"),
        ("Pourriez-vous nous apporter deux cafés et l'addition ?", "fr"),
        ("コーヒーを二つお願いします", "ja"),
        ("yes", UNCLEAR),
        ("42 + 17 = 59", UNCLEAR),
        ("", UNCLEAR),
    ],
)
def test_the_language_is_told_where_it_is_clear(text: str, language: str) -> None:
    assert language_of(text) == language


def test_other_languages_go_and_unclear_texts_stay() -> None:
    languages = LanguageFilter(["en"])

    kept = [languages.keeps(text) for text in ("This is plainly written in English.", "Das ist ganz klar auf Deutsch.", "ok")]

    assert kept == [True, False, True]
    assert languages.rows == {"en": 1, "de": 1, UNCLEAR: 1}


def test_an_unknown_code_is_refused() -> None:
    with pytest.raises(UserInputError, match=r"languages must be among .*, got english"):
        LanguageFilter(["english"])
