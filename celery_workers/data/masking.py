"""Labels: which tokens are trained on.

Trained are the answers, each up to and including its end-of-turn token; what a template writes behind that (a line end, a
second end) is not. A row whose labels would teach something else is refused with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet

from celery_workers.data.chat_rendering import RowRefused
from celery_workers.data.examples_file import IGNORED_LABEL

Span = tuple[int, int]


def make_labels(
    input_ids: Sequence[int],
    answers: Sequence[Span],
    *,
    end_of_turn_ids: AbstractSet[int],
    is_blank: Callable[[tuple[int, ...]], bool],
    others: Sequence[Span] = (),
) -> list[int]:
    """Return labels (L,) for ``input_ids`` (L,): the ids themselves within ``answers`` (token ranges), else
    ``IGNORED_LABEL``. The first token has nothing before it to be predicted from, so it is never trained.

    ``is_blank`` says whether ids decode to nothing but white space. ``others`` are trained parts of other roles: up to
    their end-of-turn token, or whole where the template ends such turns otherwise.

    Raises: RowRefused: an answer has lost its end-of-turn token, or no token is left to train on.
    """
    labels = [IGNORED_LABEL] * len(input_ids)
    is_trained = False
    for start, end in answers:
        stop = _end_of_turn(input_ids, start, end, end_of_turn_ids, is_blank)
        if stop is None:
            raise RowRefused(
                "lost_end_of_turn", "an answer does not end with an end-of-turn token, so the model would never stop"
            )
        labels[start:stop] = input_ids[start:stop]
        is_trained |= stop > max(start, 1)
    for start, end in others:
        stop = _end_of_turn(input_ids, start, end, end_of_turn_ids, is_blank) or end
        labels[start:stop] = input_ids[start:stop]
        is_trained |= stop > max(start, 1)
    if labels:
        labels[0] = IGNORED_LABEL
    if not is_trained:
        raise RowRefused("no_supervised_token", "no token of the row would be trained on")
    return labels


def check_beginning(input_ids: Sequence[int], bos_id: int | None) -> None:
    """Refuse a row that begins with two beginning-of-text tokens: the model never saw that.

    Raises: RowRefused.
    """
    if bos_id is not None and list(input_ids[:2]) == [bos_id, bos_id]:
        raise RowRefused("double_bos", "the row begins with two beginning-of-text tokens; remove the one in the text")


def _end_of_turn(
    input_ids: Sequence[int],
    start: int,
    end: int,
    end_of_turn_ids: AbstractSet[int],
    is_blank: Callable[[tuple[int, ...]], bool],
) -> int | None:
    """Return the position behind the token that ends the turn; None where something else than white space is last.

    Phi-3 closes its last turn with ``<|end|>``, a line end and the end-of-text token: generation stops at the first.
    """
    found: int | None = None
    after = end
    for position in range(end - 1, start - 1, -1):
        if input_ids[position] in end_of_turn_ids:
            if not is_blank(tuple(input_ids[position + 1 : after])):
                break
            found, after = position + 1, position
            if end_of_turn_ids.isdisjoint(input_ids[start:position]):
                break
    return found
