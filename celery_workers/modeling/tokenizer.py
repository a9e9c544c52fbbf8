"""Name a tokenizer by what it does, so that examples are never trained on a model that reads their ids otherwise."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from celery_workers.contract.errors import UserInputError

TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_FILES = (
    TOKENIZER_FILE,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
_STATE = ("padding", "truncation")


def tokenizer_digest(folder: Path) -> str:
    """Return the sha256 (64 hex digits) of the text-to-ids mapping of the tokenizer in ``folder``.

    Two folders with one digest give the same ids for the same text: vocabulary, merges, normalization and added tokens
    count; padding and truncation settings, chat template and file layout do not. Loads neither torch nor transformers.

    Raises: UserInputError: there is no readable ``tokenizer.json``.
    """
    try:
        content = json.loads((folder / TOKENIZER_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserInputError(f"the tokenizer has no readable {TOKENIZER_FILE}: {error}", code="unusable_tokenizer") from error
    mapping = {key: value for key, value in content.items() if key not in _STATE}
    return hashlib.sha256(json.dumps(mapping, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def copy_tokenizer(source: Path, destination: Path) -> None:
    """Copy the files of the tokenizer in ``source``, chat template included, byte for byte.

    Saved through transformers, a tokenizer whose file departs from its class's own would come out as another one.
    """
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, destination / name)
