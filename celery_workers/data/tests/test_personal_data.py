from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_workers.data.personal_data import PersonalData, find_personal_data, mask_personal_data

# Numbers that payment networks, the SWIFT registry and telephone authorities publish as examples. Keys are put together
# here, so that no scanner of this repository takes them for real ones.
FOUND = [
    ("Write to Ann.Lee+news@mail.example.co.uk.", PersonalData.EMAIL, "Ann.Lee+news@mail.example.co.uk"),
    ("<bob_1@example.com>", PersonalData.EMAIL, "bob_1@example.com"),
    ("call +44 20 7946 0958 today", PersonalData.PHONE, "+44 20 7946 0958"),
    ("Tel.: +49 (0)30 90182-0, office", PersonalData.PHONE, "+49 (0)30 90182-0"),
    ("(650) 253-0000 or not", PersonalData.PHONE, "(650) 253-0000"),
    ("ring 650-253-0000", PersonalData.PHONE, "650-253-0000"),
    ("Visa 4111 1111 1111 1111, exp. 12/30", PersonalData.CARD, "4111 1111 1111 1111"),
    ("5555555555554444", PersonalData.CARD, "5555555555554444"),
    ("amex 378282246310005.", PersonalData.CARD, "378282246310005"),
    ("to DE89 3704 0044 0532 0130 00 BY Friday", PersonalData.IBAN, "DE89 3704 0044 0532 0130 00"),
    ("GB82WEST12345698765432", PersonalData.IBAN, "GB82WEST12345698765432"),
    ("key=" + "AKIA" + "IOSFODNN7EXAMPLE;", PersonalData.KEY, "AKIA" + "IOSFODNN7EXAMPLE"),
    ("token " + "ghp_" + "a1B2" * 9 + " here", PersonalData.KEY, "ghp_" + "a1B2" * 9),
    ("OPENAI=" + "sk-" + "proj-Ab3dEf6hIj9kLm2nOp5q", PersonalData.KEY, "sk-" + "proj-Ab3dEf6hIj9kLm2nOp5q"),
    ("hf" + "_" + "AbCdEfGhIjKlMnOpQrStUvWxYz012345", PersonalData.KEY, "hf" + "_" + "AbCdEfGhIjKlMnOpQrStUvWxYz012345"),
    (
        "x\n-----BEGIN RSA PRIVATE" + " KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\ny",
        PersonalData.KEY,
        "-----BEGIN RSA PRIVATE" + " KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
    ),
]

NOT_FOUND = [
    "4111 1111 1111 1112",  # Luhn digit wrong
    "1234567812345670",  # Luhn digit right, no network's number
    "4242 4242-4242 4242",  # mixed separators
    "0000 0000 0000 0000",
    "DE89 3704 0044 0532 0130 01",  # checksum wrong
    "XX89 3704 0044 0532 0130 00",
    "order 2025551234 of 4000000 rows",  # a number, not written as a phone number
    "+1 000 000 0000",
    "on 2024-12-31 10:15:00 at 192.168.100.200, version 3.141.592.6535",
    "2 + 2 = 4; 555 * 1234",
    "git clone git@github.com:owner/name.git",
    "@property\ndef f(x): return x@y",
    "a @ b.c and user@localhost",
    "sk-learn-is-not-a-key-in-this-text",
    "eyJhbGciOi is how a token begins",
    "isbn 978-3-16-148410-0",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "pi is 3.14159265358979323846",
]


@pytest.mark.parametrize(("text", "kind", "expected"), FOUND)
def test_personal_data_is_found_whole(text: str, kind: PersonalData, expected: str) -> None:
    (item,) = find_personal_data(text)

    assert (item.kind, text[item.start : item.end]) == (kind, expected)
    assert mask_personal_data(text) == (text.replace(expected, f"[{kind.upper()}]"), [kind])


@pytest.mark.parametrize("text", NOT_FOUND)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert mask_personal_data(text) == (text, [])


def test_only_the_asked_kinds_are_masked() -> None:
    text = "ann@example.com, +44 20 7946 0958"

    assert mask_personal_data(text, [PersonalData.PHONE]) == ("ann@example.com, [PHONE]", [PersonalData.PHONE])


def test_several_findings_are_masked_in_place() -> None:
    text = "a@b.io, c@d.io: 5555555555554444"

    assert mask_personal_data(text)[0] == "[EMAIL], [EMAIL]: [CARD]"


@given(text=st.text(st.sampled_from("a1 @.+-_(){}DE89"), max_size=80))
@settings(deadline=None)
def test_masking_twice_changes_nothing_more(text: str) -> None:
    once, _ = mask_personal_data(text)

    assert mask_personal_data(once)[0] == once


@pytest.mark.parametrize("unit", ["a", "1", "1 ", "a.", "a@", "+1 ", "DE89", "eyJa", "-----BEGIN PRIVATE KEY-----", "(650) "])
def test_hostile_text_takes_time_in_proportion_to_its_length(unit: str) -> None:
    start = time.process_time()
    find_personal_data(unit * (30_000 // len(unit)))

    assert time.process_time() - start < 5
