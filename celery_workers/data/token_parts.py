"""Which part of a row each token belongs to: the template, a system message, the user, the assistant.

The template is rendered once more with a mark in the place of every content: what stands between the marks is the template's
own text, so a content that happens to repeat the template's words is not mistaken for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from celery_workers.contract.tokens import Part
from celery_workers.data.canonical import Value
from celery_workers.data.row_formats import RowFormat
from celery_workers.data.templates import Rendered, RowRefused, Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MARK, _MARK_END = "\ue000", "\ue001"
"""Private use characters: no template writes them, and no content keeps them apart from a mark."""

PARTS: dict[str, Part] = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "instruction": "user",
    "input": "user",
    "output": "assistant",
    "prompt": "user",
    "completion": "assistant",
    "text": "text",
}
"""Of roles and of canonical columns."""


@dataclass(frozen=True, slots=True)
class Span:
    """``text[start:end]`` belongs to ``part``."""

    start: int
    end: int
    part: Part


def content_spans(
    template: Template, values: Mapping[str, Value], row_format: RowFormat, rendered: Rendered, *, system_prompt: str = ""
) -> list[Span]:
    """Return where the contents of a row stand in its rendered text, in order; the rest is the template's."""
    contents: list[tuple[str, Part]] = []
    marked = _mark(values, contents)
    try:
        between = _between_marks(template.render(marked, row_format).text, len(contents))
    except RowRefused:
        between = None
    found = _walk(rendered.text, between, contents) if between else None
    spans = found if found is not None else _search(rendered.text, contents)
    return sorted([*spans, *_system_prompt_span(rendered.text, system_prompt, spans)], key=lambda span: span.start)


def token_spans(
    tokenizer: PreTrainedTokenizerBase, rendered: Rendered, input_ids: Sequence[int]
) -> list[tuple[int, int]] | None:
    """Return the place of each token in the text; consecutive places meet, and the last one ends where it may be cut.

    ``input_ids`` are the trainer's, without what stands before the text. None: the tokenizer does not say.
    """
    if not tokenizer.is_fast:
        return None
    whole = [0, len(rendered.text)]
    apart = sorted({*whole, *(place for span in (*rendered.answers, *rendered.others) for place in span)})
    for cuts in (whole, apart):
        ids, places = _tokenize_pieces(tokenizer, rendered.text, cuts)
        if ids[: len(input_ids)] == list(input_ids):
            return _joined(places[: len(input_ids)], len(rendered.text), is_whole=len(ids) == len(input_ids))
    return None


def part_at(spans: Sequence[Span], end: int) -> Part:
    """Return the part of what ends at ``end``: where its last character stands."""
    place = max(0, end - 1)
    return next((span.part for span in spans if span.start <= place < span.end), "template")


def _mark(values: Mapping[str, Value], contents: list[tuple[str, Part]]) -> dict[str, Value]:
    """Return ``values`` with marks for contents, and write those down; empty ones stay: templates leave them out."""
    marked: dict[str, Value] = {}
    for column, value in values.items():
        if isinstance(value, str) and value and column in PARTS:
            marked[column] = _next_mark(contents, value, PARTS[column])
        elif isinstance(value, list):
            marked[column] = [
                {**message, "content": _next_mark(contents, message["content"], PARTS.get(str(message["role"]), "other"))}
                if message.get("content")
                else message
                for message in value
            ]
        else:
            marked[column] = value
    return marked


def _next_mark(contents: list[tuple[str, Part]], content: object, part: Part) -> str:
    contents.append((str(content), part))
    return f"{_MARK}{len(contents) - 1}{_MARK_END}"


def _between_marks(text: str, count: int) -> list[tuple[str, int | None]] | None:
    """Return the template's stretches, each with the content behind it; None where a mark is gone or stands twice."""
    found = sorted((text.find(mark), len(mark), index) for index in range(count) for mark in [f"{_MARK}{index}{_MARK_END}"])
    if any(place < 0 for place, _, _ in found) or text.count(_MARK) != count:
        return None
    stretches: list[tuple[str, int | None]] = []
    end = 0
    for place, length, index in found:
        stretches.append((text[end:place], index))
        end = place + length
    return [*stretches, (text[end:], None)]


def _walk(text: str, between: Sequence[tuple[str, int | None]], contents: Sequence[tuple[str, Part]]) -> list[Span] | None:
    """Follow stretch and content through the real text; None where it does not read so."""
    spans: list[Span] = []
    place = 0
    for stretch, index in between:
        if not text.startswith(stretch, place):
            return None
        place += len(stretch)
        if index is None:
            continue
        content, part = contents[index]
        shown = next(
            (form for form in (content, content.strip(), content.rstrip(), content.lstrip()) if text.startswith(form, place)),
            None,
        )
        if shown is None:
            return None
        spans.append(Span(place, place + len(shown), part))
        place += len(shown)
    return spans


def _search(text: str, contents: Sequence[tuple[str, Part]]) -> list[Span]:
    """Look for the contents one after the other: for templates whose own text depends on the content."""
    spans: list[Span] = []
    place = 0
    for content, part in contents:
        shown = content.strip()
        start = text.find(shown, place)
        if start >= 0 and shown:
            place = start + len(shown)
            spans.append(Span(start, place, part))
    return spans


def _system_prompt_span(text: str, system_prompt: str, spans: Sequence[Span]) -> list[Span]:
    prompt = system_prompt.strip()
    start = text.find(prompt) if prompt else -1
    first = min((span.start for span in spans), default=len(text))
    return [Span(start, start + len(prompt), "system")] if start >= 0 and start + len(prompt) <= first else []


def _tokenize_pieces(
    tokenizer: PreTrainedTokenizerBase, text: str, cuts: Sequence[int]
) -> tuple[list[int], list[tuple[int, int]]]:
    ids: list[int] = []
    places: list[tuple[int, int]] = []
    for start, end in pairwise(cuts):
        made = tokenizer(text[start:end], add_special_tokens=False, return_offsets_mapping=True, return_attention_mask=False)
        ids += made["input_ids"]
        places += [(start + first, start + last) for first, last in made["offset_mapping"]]
    return ids, places


def _joined(places: Sequence[tuple[int, int]], length: int, *, is_whole: bool) -> list[tuple[int, int]]:
    """Let each token begin where the one before ended: some tokenizers leave white space out of the places they name."""
    spans: list[tuple[int, int]] = []
    before = 0
    for position, (_, end) in enumerate(places):
        is_last = is_whole and position == len(places) - 1
        stop = length if is_last else max(before, end)
        spans.append((before, stop))
        before = stop
    return spans
