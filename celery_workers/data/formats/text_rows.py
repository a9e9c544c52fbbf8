"""Read plain text and Markdown: a row is a paragraph, its number that of its first line, as editors count them.

Blank lines part paragraphs. In Markdown a heading belongs to what follows it, and blank lines within fenced code part
nothing. Paragraphs, not files, are rows, so that repetitions can be found, rows held out and long files read in bounded
memory; nothing but blank lines lies between two rows.
"""

from __future__ import annotations

from collections.abc import Iterator

from celery_workers.data.rows import (
    BATCH_CHARACTERS,
    BATCH_ROWS,
    MAX_ROW_CHARACTERS,
    RowBatch,
    SourceFile,
    SourceRow,
    broken,
)
from celery_workers.data.text_stream import TextStream, open_text

COLUMN = "text"
_FENCES = ("```", "~~~")


def read_text(source: SourceFile) -> Iterator[RowBatch]:
    """Yield the paragraphs of a text file; one that is too long is a broken row, and reading goes on."""
    yield from _read(source, is_markdown=False)


def read_markdown(source: SourceFile) -> Iterator[RowBatch]:
    """Yield the paragraphs of a Markdown file, headings with what follows them, fenced code whole."""
    yield from _read(source, is_markdown=True)


def _read(source: SourceFile, *, is_markdown: bool) -> Iterator[RowBatch]:
    with open_text(source) as stream:
        rows: list[SourceRow] = []
        characters = 0
        for row, length in _paragraphs(stream, is_markdown=is_markdown):
            rows.append(row)
            characters += length
            if len(rows) >= BATCH_ROWS or characters >= BATCH_CHARACTERS:
                yield RowBatch(rows, stream.fraction)
                rows, characters = [], 0
        yield RowBatch(rows, 1.0)


def _paragraphs(stream: TextStream, *, is_markdown: bool) -> Iterator[tuple[SourceRow, int]]:
    """Yield each paragraph and its length in characters."""
    paragraph = _Paragraph()
    number = 0
    while line := stream.line(MAX_ROW_CHARACTERS):
        number += 1
        if len(line) >= MAX_ROW_CHARACTERS and not line.endswith("\n"):
            paragraph.skip(number, stream.skip_line())
        if line.isspace() and not (is_markdown and paragraph.goes_on):
            if paragraph.lines:
                yield paragraph.row(), paragraph.length
            paragraph = _Paragraph()
        else:
            paragraph.add(number, line)
    if paragraph.lines:
        yield paragraph.row(), paragraph.length


class _Paragraph:
    """The lines of a paragraph so far; only their number where they are too long together."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.length = 0
        self._first = 0
        self._fence = ""
        self._ends_with_heading = False

    @property
    def goes_on(self) -> bool:
        """Whether a blank line does not end it, in Markdown."""
        return bool(self._fence) or self._ends_with_heading

    def add(self, number: int, line: str) -> None:
        """Append a line."""
        self._first = self._first or number
        self.length += len(line)
        if self.length < MAX_ROW_CHARACTERS:
            self.lines.append(line)
        else:
            self.lines = [""]
        start = line.lstrip()[:3]
        if start in _FENCES:
            self._fence = "" if self._fence == start else self._fence or start
        if not line.isspace():
            self._ends_with_heading = not self._fence and line.startswith("#")

    def skip(self, number: int, characters: int) -> None:
        """Count the rest of a line that is too long to be kept."""
        self._first = self._first or number
        self.length += characters

    def row(self) -> SourceRow:
        """Return the paragraph as a row."""
        if self.length >= MAX_ROW_CHARACTERS:
            message = f"a paragraph must be shorter than {MAX_ROW_CHARACTERS} characters, got {self.length}"
            return broken(self._first, message, code="row_too_long")
        return SourceRow(self._first, {COLUMN: "".join(self.lines).rstrip()})
