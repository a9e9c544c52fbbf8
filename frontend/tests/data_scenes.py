"""Datasets to look at: with flaws, with versions, and a file that waits for a mapping. Made by the services, as people do."""

from __future__ import annotations

import json
import random

from django.core.files.uploadedfile import SimpleUploadedFile

from datasets_app.fixes import apply_fixes
from datasets_app.models import DatasetVersion, WaitingUpload
from datasets_app.services import import_upload
from datasets_app.uploads import import_or_keep
from platform_site.models import User

MAIL = "ada@example.org"
_SIZES, _DRINKS = ("small", "medium", "large"), ("latte", "espresso", "cappuccino", "flat white", "mocha", "filter coffee")
_WORDS = ("please", "to go", "for here", "with oat milk", "extra hot", "no sugar", "and a glass of water", "if any is left")


def orders(count: int = 400) -> list[dict[str, str]]:
    """Return orders in loose words with what the till needs; seeded."""
    chance = random.Random(3)  # a picture is the same each time
    rows = []
    for number in range(count):
        size, drink, many = chance.choice(_SIZES), chance.choice(_DRINKS), chance.randint(1, 4)
        words = ", ".join(chance.sample(_WORDS, chance.randint(0, 5)))
        prompt = f"Table {number % 37}: could I get {many} {size} {drink}s {words}".strip()
        rows.append(
            {"prompt": prompt, "completion": json.dumps({"item": drink, "size": size, "quantity": many, "note": words})}
        )
    return rows


def flawed_orders() -> list[dict[str, str]]:
    """Return orders of which some are repeated, empty, private or damaged."""
    rows = orders()
    damaged = "Two caf\u00c3\u00a9 au lait\u200b\u0007 for the corner"
    rows += rows[10:16]
    rows += [{**row, "prompt": f"{row['prompt']} thanks"} for row in rows[20:28]]
    rows += [{"prompt": f"Table {number}: the usual", "completion": ""} for number in range(5)]
    rows += [{"prompt": f"Send the bill to {MAIL}, order {number}", "completion": '{"item": "bill"}'} for number in range(3)]
    rows += [{"prompt": damaged, "completion": '{"item": "caf\u00e9 au lait", "quantity": 2}'}]
    rows += [{"prompt": "A very long story. " * 400, "completion": '{"item": "story"}'}]
    return rows


def upload_rows(user: User, rows: list[dict[str, str]], *, name: str = "orders") -> DatasetVersion:
    """Keep rows as a dataset's next version."""
    content = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
    return import_upload(user=user, upload=SimpleUploadedFile(f"{name}.jsonl", content), name=name).version


def dataset_with_versions(user: User) -> DatasetVersion:
    """Return the newest of four versions: an upload, two that fixes made of it, and another upload."""
    first = upload_rows(user, flawed_orders())
    apply_fixes(version=first, codes=["email_address", "control_characters", "mojibake"])
    second = first.dataset.versions.get(number=2)
    apply_fixes(version=second)
    apply_fixes(version=first, codes=["no_answer"])
    return first.dataset.versions.get(number=4)


def waiting_file(user: User) -> WaitingUpload:
    """Return a file whose columns name no part of a row."""
    rows = orders(40)
    lines = "".join(f"{row['prompt']}\t{row['completion']}\t{number}\n" for number, row in enumerate(rows))
    upload = SimpleUploadedFile("bestellungen.tsv", f"bestellung\tkasse\tnummer\n{lines}".encode())
    kept = import_or_keep(user=user, upload=upload, name="bestellungen")
    assert isinstance(kept, WaitingUpload)
    return kept
