"""Read conversations that stand as one text, each turn after a blank line and the name of who speaks.

Source: Bai et al. 2022, arXiv:2204.05862 (the published pairs, known as hh-rlhf: ``\\n\\nHuman: …\\n\\nAssistant: …``).
"""

from __future__ import annotations

import re

from celery_workers.data.message_reading import Message

_TURN = re.compile(r"(?:\A|\n\n)(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}


def read_transcript(text: object) -> list[Message] | None:
    """Return the messages of a transcript, or nothing where ``text`` is none: one begins with ``Human:`` and goes on with
    ``Assistant:``. White space around a turn is not part of it.
    """
    if not isinstance(text, str) or "\n\nAssistant:" not in text:
        return None
    pieces = _TURN.split(text.lstrip())
    if pieces[0] or pieces[1] != "Human":
        return None
    return [{"role": _ROLES[name], "content": said.strip()} for name, said in zip(pieces[1::2], pieces[2::2], strict=True)]


def read_question(text: object) -> list[Message] | None:
    """Return the messages of a transcript that ends where the assistant is to answer, or nothing where ``text`` is none."""
    messages = read_transcript(text)
    if messages and messages[-1] == {"role": "assistant", "content": ""}:
        return messages[:-1]
    return messages
