"""Measure a dataset on demand: ``python -m celery_workers.measure_process < question.json > answer.json``.

The web server starts one for each question, as it must import neither transformers nor numpy for it. The process has no
credential in its environment, reads local files only, may take a bounded time and memory, and ends with its answer.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from celery_workers.contract.errors import AgentError, ErrorKind, ResourceError
from celery_workers.contract.measures import CountTokens, FindPairs, FoundPairs, TokenLengths, to_measure
from celery_workers.contract.tokens import Refused

logger = logging.getLogger(__name__)

ALARM_SECONDS = 200
"""When it ends by itself, should the server be gone and not end it."""
MEMORY_BYTES = 8 * 1024**3
"""Of addresses, most of which libraries only reserve."""


def main() -> int:
    """Answer one question; return the exit status."""
    signal.alarm(ALARM_SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    answer_fd = os.dup(1)
    os.dup2(2, 1)  # what a library prints must not get into the answer
    answer = _answer(to_measure.validate_json(sys.stdin.buffer.read()))
    with os.fdopen(answer_fd, "wb") as output:
        output.write(answer.model_dump_json().encode())
    return 0


def _answer(question: CountTokens | FindPairs) -> TokenLengths | FoundPairs | Refused:
    try:
        return _count_tokens(question) if isinstance(question, CountTokens) else _find_pairs(question)
    except MemoryError:
        return _refusal(ResourceError("the rows take too much memory", code="out_of_memory"))
    except AgentError as error:
        return _refusal(error)
    except Exception as error:  # noqa: BLE001 (answered as a bug; the text may hold rows, which are never logged)
        logger.error("measure_process.failed: %s", type(error).__name__)  # noqa: TRY400 (the traceback quotes rows as well)
        message = f"the dataset could not be measured ({type(error).__name__})"
        return Refused(error_kind=ErrorKind.BUG, code="bug", message=message)


def _find_pairs(question: FindPairs) -> FoundPairs:
    from celery_workers.data.near_pairs import find_pairs

    with tempfile.TemporaryDirectory() as folder:
        return find_pairs(question.file, Path(folder) / "texts", threshold=question.threshold)


def _count_tokens(question: CountTokens) -> TokenLengths:
    from celery_workers.data.token_lengths import count_lengths
    from celery_workers.modeling import bundled
    from celery_workers.modeling.loading import load_tokenizer

    folder = Path(question.folder)
    if question.bundled and not bundled.is_current(question.bundled, folder):
        bundled.ensure(question.bundled, folder)
    tokenizer = load_tokenizer(folder)

    def count(texts: Sequence[str]) -> list[int]:
        ids = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"] if texts else []
        return [len(one) for one in ids]

    return count_lengths(question.file, count)


def _refusal(error: AgentError) -> Refused:
    return Refused(error_kind=error.kind, code=error.code, message=error.message, field=error.field, evidence=error.evidence)


if __name__ == "__main__":
    sys.exit(main())
