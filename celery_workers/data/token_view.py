"""Look at rows as the trainer gets them: one row token by token, and how much of a set is trained.

Nothing is computed anew: rows are checked as validation does, cleaned by the first pass of preprocessing, and templated,
tokenized, masked and cut by its second; this module only looks at what comes out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from celery_workers.contract.errors import UserInputError
from celery_workers.contract.tokens import AnswerTokens, Part, RowTokens, SeenToken, Share, State
from celery_workers.data.canonical import CanonicalRow, Value
from celery_workers.data.checks import check_row, is_fit
from celery_workers.data.example_making import MakingCounts
from celery_workers.data.examples_file import IGNORED_LABEL
from celery_workers.data.examples_schema import ExamplesKind
from celery_workers.data.preference_examples import as_rendered, rendered_format
from celery_workers.data.row_formats import RowFormat, Shape
from celery_workers.data.rows import Severity
from celery_workers.data.selection import Selection, SelectionRules
from celery_workers.data.templates import Rendered, RowRefused
from celery_workers.data.token_parts import Span, content_spans, part_at, token_spans
from celery_workers.data.tokenization import Encoder, TokenRow

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from celery_workers.data.example_making import ExampleMaker

MAX_SHOWN_TOKENS = 4096
SAMPLED_ROWS = 1000
SAMPLED_CHARACTERS = 2_000_000
"""About as many as are tokenized in a second."""

Sample = Literal["all", "spread", "first"]


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How rows become examples: encoder and maker as the preprocessing agent sets them up. Used for one row after another."""

    shape: Shape
    tokenizer: PreTrainedTokenizerBase
    encoder: Encoder
    maker: ExampleMaker
    rules: SelectionRules
    system_prompt: str

    def start_counting(self) -> ExampleMaker:
        """Return the maker with its counts at zero."""
        self.maker.counts = MakingCounts()
        self.maker.samples = []
        return self.maker

    def select(self, *, is_deduplicating: bool) -> Selection:
        """Return the first pass of preprocessing, holding nothing out."""
        rules = replace(self.rules, is_deduplicating=is_deduplicating, eval_fraction=0, split_column=None, group_column=None)
        return Selection(self.shape, rules)


@dataclass
class _Taken:
    """Takes the examples where training would have them written to a file."""

    rows: list[TokenRow] = field(default_factory=list)
    examples: int = 0

    def append(self, input_ids: Sequence[int], labels: Sequence[int], **_: object) -> None:
        self.rows.append(TokenRow(list(input_ids), list(labels)))
        self.examples += 1

    def append_pair(self, *sides: tuple[Sequence[int], Sequence[int]], **_: object) -> None:
        self.rows += [TokenRow(list(ids), list(labels)) for ids, labels in sides]
        self.examples += 1


def look_at_row(row: CanonicalRow, preparation: Preparation, *, chunk: int = 0) -> RowTokens:
    """Return the tokens of ``row``, or why the trainer gets none of it; of one cut into several examples those of ``chunk``.

    Whether it repeats another row is not asked: ``measure_share`` counts those.

    Raises: UserInputError: model and template don't fit each other.
    """
    problems = [item for item in check_row(row, preparation.shape) if item.severity is Severity.ERROR]
    if problems:
        return _without_tokens(row, "unfit", problems[0].code, "; ".join(problem.message for problem in problems[:5]))
    selection = preparation.select(is_deduplicating=False)
    selected = selection.take([row])
    if not selected and selection.counts.other_language_rows:
        languages = ", ".join(preparation.rules.languages)
        return _without_tokens(row, "other_language", "other_language", f"its language is none of {languages}")
    if not selected:
        return _without_tokens(row, "emptied", "emptied", "cleaning leaves no question or no answer")
    maker = preparation.start_counting()
    taken = _Taken()
    try:
        maker.make(selected, [False], train=taken, held_out=taken)  # type: ignore[arg-type]
    except UserInputError as refusal:
        return _without_tokens(row, "refused", refusal.code, refusal.message)
    if not taken.rows:
        longest, limit = maker.counts.longest_tokens, maker.max_length_tokens
        message = f"the row has {longest} tokens, and at most {limit} are taken; rows that are longer are left out"
        return _without_tokens(row, "too_long", "too_long", message, length_tokens=longest)
    return _describe(selected[0], taken.rows, preparation, chunk)


def measure_share(rows: Iterable[CanonicalRow], sample: Sample, preparation: Preparation) -> Share:
    """Return how much of ``rows`` is trained; stops after ``SAMPLED_CHARACTERS``, and then says so.

    Raises: UserInputError: model and template don't fit each other.
    """
    maker = preparation.start_counting()
    selection = preparation.select(is_deduplicating=preparation.rules.is_deduplicating)
    taken, left_out = _Taken(), Counter[str]()
    seen = characters = 0
    for row in rows:
        if characters > SAMPLED_CHARACTERS:
            sample = "first"
            break
        seen += 1
        characters += sum(len(str(value)) for value in row.values.values())
        if not is_fit(check_row(row, preparation.shape)):
            left_out["unfit"] += 1
            continue
        selected = selection.take([row])
        try:
            maker.make(selected, [False] * len(selected), train=taken, held_out=taken)  # type: ignore[arg-type]
        except UserInputError:  # counted as refused; a run would stop at the first
            maker.counts.refusals.clear()
    left_out |= {
        "duplicate": selection.counts.duplicate_rows,
        "emptied": selection.counts.emptied_rows,
        "other_language": selection.counts.other_language_rows,
        "refused": maker.counts.refused_rows.total(),
        "too_long": maker.counts.dropped_rows,
    }
    return Share(
        sample=sample,
        rows=seen,
        kept_rows=taken.examples,
        left_out_rows={reason: count for reason, count in left_out.items() if count},
        tokens=sum(len(row.input_ids) for row in taken.rows),
        supervised_tokens=sum(map(_supervised, taken.rows)),
    )


def _without_tokens(row: CanonicalRow, state: State, code: str, message: str, *, length_tokens: int = 0) -> RowTokens:
    return RowTokens(state=state, row_number=row.number, code=code, message=message, length_tokens=length_tokens)


def _supervised(example: TokenRow) -> int:
    return sum(label != IGNORED_LABEL for label in example.labels)


def _describe(row: CanonicalRow, examples: Sequence[TokenRow], preparation: Preparation, chunk: int) -> RowTokens:
    maker, row_format = preparation.maker, preparation.shape.format
    if maker.kind is not ExamplesKind.PREFERENCE and len(examples) > 1:
        return _describe_chunk(row, examples, preparation, min(chunk, len(examples) - 1))
    answers = [
        AnswerTokens(
            tokens=_seen_tokens(values, example, preparation),
            length_tokens=len(example.input_ids),
            supervised_tokens=_supervised(example),
        )
        for values, example in zip(as_rendered(row.values, row_format), examples, strict=False)
    ]
    counts, is_pair = maker.counts, maker.kind is ExamplesKind.PREFERENCE
    return RowTokens(
        state="kept",
        row_number=row.number,
        **vars(answers[0]),
        rejected=answers[1] if is_pair else None,
        is_desirable=bool(row.values["label"]) if maker.kind is ExamplesKind.KTO else None,
        chunks=1 if is_pair else len(examples),
        cut_tokens=counts.tokens_cut,
        is_answer_cut=counts.cut_answer_rows > 0,
        has_special_tokens=counts.special_token_rows > 0,
    )


def _describe_chunk(row: CanonicalRow, examples: Sequence[TokenRow], preparation: Preparation, chunk: int) -> RowTokens:
    """Describe one example of a text that is cut into several. They join to the text without what each repeats."""
    first, example = len(preparation.encoder.prefix_ids), examples[chunk]
    repeated = [0, *(_repeated(item, first) for item in examples[1:])]
    start = sum(len(item.input_ids) - first for item in examples[:chunk]) - sum(repeated[: chunk + 1])
    return RowTokens(
        state="kept",
        row_number=row.number,
        tokens=_seen_tokens(row.values, example, preparation, start=start),
        length_tokens=len(example.input_ids),
        supervised_tokens=_supervised(example),
        chunks=len(examples),
        chunk=chunk + 1,
        repeated_tokens=repeated[chunk],
        has_special_tokens=preparation.maker.counts.special_token_rows > 0,
    )


def _repeated(example: TokenRow, first: int) -> int:
    """Return how many tokens behind the first ``first`` are not trained: of a text, those of the chunk before."""
    labels = example.labels[first:]
    return next((place for place, label in enumerate(labels) if label != IGNORED_LABEL), len(labels))


def _seen_tokens(
    values: Mapping[str, Value], example: TokenRow, preparation: Preparation, *, start: int | None = None
) -> list[SeenToken]:
    """Return the first ``MAX_SHOWN_TOKENS`` tokens of a conversation with their texts and parts."""
    tokenizer, row_format = preparation.tokenizer, rendered_format(preparation.shape.format)
    template = preparation.maker.template
    rendered = template.render(values, row_format)
    first = len(preparation.encoder.prefix_ids)
    places = _places(rendered, example, preparation, start=start)
    system_prompt = "" if row_format is RowFormat.TEXT else preparation.system_prompt
    spans = content_spans(template, values, row_format, rendered, system_prompt=system_prompt)
    seen: list[SeenToken] = []
    for position, (token, label) in enumerate(zip(example.input_ids, example.labels, strict=True)):
        if position >= MAX_SHOWN_TOKENS:
            break
        trained = label != IGNORED_LABEL
        place = places[position - first] if places is not None and position >= first else None
        text = rendered.text[slice(*place)] if place else str(tokenizer.decode([token]))
        part = _part(place, spans, is_before_text=position < first)
        if trained and part == "template":  # what the model writes beyond the content: calls of tools, the end of its turn
            part = "end_of_turn" if token in preparation.encoder.end_of_turn_ids else "assistant"
        seen.append(SeenToken(id=token, text=text, part=part, trained=trained))
    return seen


def _places(
    rendered: Rendered, example: TokenRow, preparation: Preparation, *, start: int | None = None
) -> list[tuple[int, int]] | None:
    """Return the place of each token behind the tokenizer's own beginning; None where the tokenizer does not say.

    ``start`` is the place of the example's first such token among those of the whole text, where it is a chunk of it.
    """
    first = len(preparation.encoder.prefix_ids)
    if start is None and not preparation.maker.counts.cut_prompt_rows:
        return token_spans(preparation.tokenizer, rendered, example.input_ids[first:])
    (whole,) = preparation.encoder.encode([rendered])
    if isinstance(whole, RowRefused):
        return None
    places = token_spans(preparation.tokenizer, rendered, whole.input_ids[first:])
    if start is not None:
        return None if places is None else places[start : start + len(example.input_ids) - first]
    kept, cut = preparation.maker.kept_beginning(whole) - first, len(whole.input_ids) - len(example.input_ids)
    return None if places is None else places[:kept] + places[kept + cut :]


def _part(place: tuple[int, int] | None, spans: Sequence[Span], *, is_before_text: bool) -> Part:
    if is_before_text:
        return "template"
    return "other" if place is None else part_at(spans, place[1])
