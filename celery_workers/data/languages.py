"""Keep rows of the wanted languages. What is too short to tell, or not clear, stays, and is counted.

py3langid brings its model of 97 languages in its wheel and takes 40 microseconds a text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from functools import cache
from typing import TYPE_CHECKING

from celery_workers.contract.errors import UserInputError

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

UNCLEAR = "unclear"
_LEAST_LETTERS = 20
_LEAST_PROBABILITY = 0.8
_READ_CHARACTERS = 2000


def language_of(text: str) -> str:
    """Return the ISO 639-1 code of the language of ``text``'s beginning, or ``UNCLEAR``."""
    beginning = text[:_READ_CHARACTERS]
    letters = sum(map(str.isalpha, beginning))
    # Scripts with a sign for a word say as much in a third of the letters.
    if letters < _LEAST_LETTERS and (beginning.isascii() or letters < _LEAST_LETTERS // 3):
        return UNCLEAR
    language, probability = _identifier().classify(beginning)
    return language if probability >= _LEAST_PROBABILITY and language != "zxx" else UNCLEAR


class LanguageFilter:
    """Judge texts, and count those of each language."""

    def __init__(self, languages: Collection[str]) -> None:
        """Keep ``languages``, codes of ISO 639-1.

        Raises: UserInputError: a code is not known.
        """
        known = sorted(str(label) for label in _identifier().labels if label != "zxx")
        if unknown := sorted(set(languages) - set(known)):
            message = f"languages must be among {', '.join(known)}, got {', '.join(unknown)}"
            raise UserInputError(message, code="unknown_language", field="languages")
        self._languages = frozenset(languages)
        self.rows: Counter[str] = Counter()

    def keeps(self, text: str) -> bool:
        """Whether ``text`` is in a wanted language, or may be."""
        language = language_of(text)
        self.rows[language] += 1
        return language == UNCLEAR or language in self._languages


@cache
def _identifier() -> LanguageIdentifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
