"""Personal data as problems of a row: the code of each kind, and where it stands; never the value."""

from __future__ import annotations

from collections.abc import Iterable

from celery_workers.data.personal_data import PersonalData, find_personal_data, mask_personal_data
from celery_workers.data.rows import RowProblem

KINDS: dict[str, PersonalData] = {
    "email_address": PersonalData.EMAIL,
    "phone_number": PersonalData.PHONE,
    "payment_card": PersonalData.CARD,
    "bank_account": PersonalData.IBAN,
    "secret_key": PersonalData.KEY,
}
"""The kind that each code is about."""

_CODES = {kind: code for code, kind in KINDS.items()}
_NAMES = {
    PersonalData.EMAIL: ("an e-mail address", "e-mail addresses"),
    PersonalData.PHONE: ("a phone number", "phone numbers"),
    PersonalData.CARD: ("a payment card's number", "payment cards' numbers"),
    PersonalData.IBAN: ("a bank account's number", "bank accounts' numbers"),
    PersonalData.KEY: ("a secret key", "secret keys"),
}


def personal_problems(row_number: int, fields: Iterable[tuple[str, str]]) -> list[RowProblem]:
    """Return one problem for each kind of personal data in each of the (field, text) pairs."""
    problems = []
    for field, text in fields:
        places: dict[PersonalData, list[int]] = {}
        for found in find_personal_data(text):
            places.setdefault(found.kind, []).append(found.start + 1)
        for kind, starts in places.items():
            one, many = _NAMES[kind]
            what = f"{one} at character {starts[0]}" if len(starts) == 1 else f"{len(starts)} {many}, the first at {starts[0]}"
            problems.append(RowProblem(row_number=row_number, code=_CODES[kind], field=field, message=f"{field} holds {what}"))
    return problems


def without_personal_data(text: str) -> str:
    """Return ``text`` with a placeholder for every value that a report must not repeat."""
    return mask_personal_data(text)[0]
