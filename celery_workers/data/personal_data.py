"""Find personal data and secrets in text: e-mail addresses, phone numbers, payment cards, IBANs and access keys.

What has a check digit is taken only if it is right, and phone numbers only if they can be dialled, so that order numbers and
measurements stay. Names and postal addresses are not looked for.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum


class PersonalData(StrEnum):
    """What can be found."""

    EMAIL = "email"
    PHONE = "phone"
    CARD = "card"
    IBAN = "iban"
    KEY = "key"

    @property
    def placeholder(self) -> str:
        """What takes its place in a masked text."""
        return f"[{self.value.upper()}]"


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """A place in a text, in characters: ``text[start:end]``."""

    start: int
    end: int
    kind: PersonalData


_EMAIL = re.compile(
    r"(?<![\w.%+-])[A-Za-z0-9_%+-](?:[A-Za-z0-9._%+-]{0,62}[A-Za-z0-9_%+-])?@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}\b"
)
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9])")
_CARD = re.compile(r"(?<![\w.+-])[2-6]\d{3}(?:[ -]?\d){9,15}(?!\w|[.,-]\d)")
# Those of the large networks; a Luhn digit alone is right by chance in every tenth number.
_CARD_NUMBER = re.compile(
    r"4\d{12}(?:\d{3}){0,2}|(?:5[1-5]\d{2}|222[1-9]|22[3-9]\d|2[3-6]\d{2}|27[01]\d|2720)\d{12}|3[47]\d{13}"
    r"|3(?:0[0-5]|[68]\d)\d{11}|(?:6011|65\d{2}|64[4-9]\d|35(?:2[89]|[3-8]\d))\d{12}|62\d{14,17}"
)
# The search for phone numbers reads 0.3 MB/s, so sums such as 48+24 = 72 must not start it.
_PHONE_HINT = re.compile(r"\+[0-9][^A-Za-z\n=<>+*,;:]{5}|\([0-9]{3}\)[ .-]?[0-9]{3}|[0-9]{3}[ .-][0-9]{3}[ .-][0-9]{4}")
_WRITTEN_AS_PHONE = re.compile(r"[+(]|\d[ .-]\d+[ .-]\d")

_KEYS: dict[str, str] = {
    "AKIA": r"\bAKIA[A-Z2-7]{16}\b",
    "ASIA": r"\bASIA[A-Z2-7]{16}\b",
    "AIza": r"\bAIza[\w-]{35}(?![\w-])",
    "gh": r"\bgh[pousr]_[A-Za-z0-9]{36,255}\b",
    "github_pat_": r"\bgithub_pat_[A-Za-z0-9_]{50,255}\b",
    "glpat-": r"\bglpat-[\w-]{20,}",
    "hf_": r"\bhf_[A-Za-z0-9]{30,}\b",
    "npm_": r"\bnpm_[A-Za-z0-9]{36}\b",
    "pypi-": r"\bpypi-[\w-]{50,}",
    "sk-": r"(?<![\w-])sk-(?=[\w-]*\d)(?=[\w-]*[A-Z])[A-Za-z0-9][\w-]{19,}",
    "xox": r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}",
    "k_live_": r"\b[sr]k_live_[A-Za-z0-9]{16,}\b",
    "eyJ": r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}",
    "PRIVATE KEY-----": (
        r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----(?:(?!-----)[\s\S]){0,20000}(?:-----END [A-Z ]{0,30}PRIVATE KEY-----|\Z)"
    ),
}
"""A text that must occur, for speed, and the pattern of the key: prefixes that the issuers document."""
_KEY_PATTERNS = {hint: re.compile(pattern) for hint, pattern in _KEYS.items()}


def find_personal_data(text: str, kinds: Collection[PersonalData] = tuple(PersonalData)) -> list[Finding]:
    """Return what is found of ``kinds``, in order and without overlap."""
    found: list[Finding] = []
    for kind, detect in _DETECTORS.items():
        if kind in kinds:
            found = sorted(found + [Finding(*place, kind) for place in detect(text) if _is_free(found, *place)])
    return found


def mask_personal_data(text: str, kinds: Collection[PersonalData] = tuple(PersonalData)) -> tuple[str, list[PersonalData]]:
    """Return ``text`` with a placeholder such as ``[EMAIL]`` for each finding, and the kinds of the findings."""
    found = find_personal_data(text, kinds)
    if not found:
        return text, []
    parts, done = [], 0
    for item in found:
        parts += [text[done : item.start], item.kind.placeholder]
        done = item.end
    return "".join([*parts, text[done:]]), [item.kind for item in found]


def _is_free(found: Sequence[Finding], start: int, end: int) -> bool:
    """Whether none of ``found``, which are in order and apart, overlaps the place."""
    after = bisect_left(found, start, key=lambda item: item.end - 1)
    return after == len(found) or found[after].start >= end


def _emails(text: str) -> Iterator[tuple[int, int]]:
    if "@" not in text:
        return
    for match in _EMAIL.finditer(text):
        is_address_of_repository = match[0].startswith("git@") and text[match.end() : match.end() + 1] == ":"
        if not is_address_of_repository:
            yield match.span()


def _ibans(text: str) -> Iterator[tuple[int, int]]:
    matches = list(_IBAN.finditer(text))
    if not matches:
        return
    from stdnum import iban

    for match in matches:
        candidate = match[0]
        while candidate and not iban.is_valid(candidate):  # the pattern may have taken the next word as well
            candidate = candidate.rpartition(" ")[0]
        if candidate:
            yield match.start(), match.start() + len(candidate)


def _cards(text: str) -> Iterator[tuple[int, int]]:
    matches = list(_CARD.finditer(text))
    if not matches:
        return
    from stdnum import luhn

    for match in matches:
        digits = re.sub(r"\D", "", match[0])
        is_card = _CARD_NUMBER.fullmatch(digits) and len(set(digits)) > 1 and luhn.is_valid(digits)
        if is_card and not (" " in match[0] and "-" in match[0]):
            yield match.span()


def _phones(text: str) -> Iterator[tuple[int, int]]:
    if not _PHONE_HINT.search(text):
        return
    from phonenumbers import Leniency, PhoneNumberMatcher

    # A region only says what numbers without a country code mean; those are taken if they are written as phone numbers are.
    for match in PhoneNumberMatcher(text, "US", leniency=Leniency.VALID):
        if _WRITTEN_AS_PHONE.search(match.raw_string):
            yield match.start, match.end


def _keys(text: str) -> Iterator[tuple[int, int]]:
    for hint, pattern in _KEY_PATTERNS.items():
        if hint in text:
            yield from (match.span() for match in pattern.finditer(text))


# What comes first keeps its place: digits of an IBAN may look like a card, those of a card like a phone number.
_DETECTORS: dict[PersonalData, Callable[[str], Iterator[tuple[int, int]]]] = {
    PersonalData.KEY: _keys,
    PersonalData.EMAIL: _emails,
    PersonalData.IBAN: _ibans,
    PersonalData.CARD: _cards,
    PersonalData.PHONE: _phones,
}
