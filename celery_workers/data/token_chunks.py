"""Cut the tokens of a long text into examples, without losing or repeating what is trained."""

from __future__ import annotations

from collections.abc import Sequence

from celery_workers.data.chunking import find_cut, find_overlap
from celery_workers.data.examples_file import IGNORED_LABEL
from celery_workers.data.tokenization import TokenRow


def chunk(
    example: TokenRow,
    max_length_tokens: int,
    *,
    prefix_ids: Sequence[int],
    strengths: Sequence[int] | None = None,
    overlap_tokens: int = 0,
) -> list[TokenRow]:
    """Return ``example`` in pieces of at most ``max_length_tokens``, each beginning with ``prefix_ids`` as the whole does.

    ``strengths`` say how good a place each token's end is for a cut (see ``chunking``); without them pieces are as long as
    they may be. A piece begins with up to ``overlap_tokens`` of the piece before (at most half a piece), untrained, and with
    one at least where it would have no token before its first. So every token that was trained is trained once, and the
    pieces without what they repeat join to the whole.
    """
    start = len(prefix_ids)
    ids, labels = example.input_ids[start:], example.labels[start:]
    borders = [0] * len(ids) if strengths is None else list(strengths)[start:]
    context = 0 if start else 1
    size = max_length_tokens - start
    pieces: list[TokenRow] = []
    done = 0
    while done < len(ids):
        overlap_begin = find_overlap(borders, done, min(overlap_tokens, size // 2))
        begin = max(0, min(overlap_begin, done - context))
        end = min(find_cut(borders, done, begin + size), len(ids))
        piece_ids, piece_labels = ids[begin:end], labels[begin:end]
        piece_labels[: done - begin] = [IGNORED_LABEL] * (done - begin)
        pieces.append(TokenRow([*prefix_ids, *piece_ids], [*[IGNORED_LABEL] * start, *piece_labels]))
        done = end
    return pieces
