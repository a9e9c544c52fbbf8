"""Cut the tokens of a long text into examples, without losing or repeating what is trained."""

from __future__ import annotations

from collections.abc import Sequence

from celery_workers.data.examples_file import IGNORED_LABEL
from celery_workers.data.tokenization import TokenRow


def chunk(example: TokenRow, max_length_tokens: int, *, prefix_ids: Sequence[int]) -> list[TokenRow]:
    """Return ``example`` in pieces of at most ``max_length_tokens``, each beginning with ``prefix_ids`` as the whole does.

    Where that leaves a piece without a token before its first, it begins with the last token of the piece before, untrained.
    So every token that was trained is trained once, and the pieces without what they repeat join to the whole.
    """
    start = len(prefix_ids)
    ids, labels = example.input_ids[start:], example.labels[start:]
    context = 0 if start else 1
    size = max_length_tokens - start
    pieces: list[TokenRow] = []
    done = 0
    while done < len(ids):
        begin = max(0, done - context)
        piece_ids, piece_labels = ids[begin : begin + size], labels[begin : begin + size]
        piece_labels[: done - begin] = [IGNORED_LABEL] * (done - begin)
        pieces.append(TokenRow([*prefix_ids, *piece_ids], [*[IGNORED_LABEL] * start, *piece_labels]))
        done = begin + len(piece_ids)
    return pieces
