"""The process that makes tokens visible: ``python -m celery_workers.token_process --socket-fd N``.

The web server keeps one for a short while, as it must not import transformers itself. It has no credential in its
environment, reads local files only, and answers one message at a time over its own socket. It ends with the server (end of
file), by the alarm of a request that takes far too long, and by running out of the memory it may have.
"""

from __future__ import annotations

import argparse
import logging
import resource
import signal
import socket
import sys
from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from celery_workers.contract.errors import AgentError, BugError, ErrorKind, ResourceError, UserInputError
from celery_workers.contract.messages import Message, receive, send
from celery_workers.contract.tokens import (
    Load,
    Loaded,
    Look,
    Ready,
    Refused,
    Seen,
    Share,
    to_token_process,
)
from celery_workers.data.canonical import CanonicalRow
from celery_workers.data.formats import FileFormat
from celery_workers.data.importing import OpenedRows, open_rows
from celery_workers.data.rows import SourceFile

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from celery_workers.data.token_view import Preparation, Sample

logger = logging.getLogger(__name__)

MEMORY_BYTES = 1024**3
"""What the process may take beyond the libraries that it has loaded."""
SPREAD_BYTES = 64 * 1024**2
"""Files up to this size are read to their end for a sample from all over them."""
KEPT_TOKENIZERS, KEPT_PREPARATIONS, KEPT_SHARES = 3, 4, 32

Item = TypeVar("Item")


class RowsInOrder:
    """The rows of a file by position; going on is cheap, going back opens the file again."""

    def __init__(self, source: SourceFile, file_format: FileFormat) -> None:
        self.source = source
        self._format = file_format
        self._open()

    def _open(self) -> None:
        self.opened: OpenedRows = open_rows(self.source, file_format=self._format)
        self._batches: Iterator[tuple[list[CanonicalRow], float]] = iter(self.opened)
        self._first = 0
        self._rows: list[CanonicalRow] = []

    def at(self, position: int) -> CanonicalRow | None:
        """Return the row at ``position``, from 0; None behind the last.

        Raises: UserInputError: the file cannot be read.
        """
        if position < self._first:
            self._open()
        while position >= self._first + len(self._rows):
            batch = next(self._batches, None)
            if batch is None:
                self._open()
                return None
            self._first += len(self._rows)
            self._rows = batch[0]
        return self._rows[position - self._first]


class TokenServer:
    """Answers messages; keeps the tokenizers, the open file and the shares that it has."""

    def __init__(self) -> None:
        self._tokenizers: OrderedDict[str, PreTrainedTokenizerBase] = OrderedDict()
        self._preparations: OrderedDict[str, Preparation] = OrderedDict()
        self._shares: OrderedDict[str, Share] = OrderedDict()
        self._stamps: dict[str, int] = {}
        self._rows: tuple[str, RowsInOrder] | None = None

    def load(self, request: Load) -> Loaded:
        """Load a tokenizer, converting a bundled model first where it has not been yet."""
        from celery_workers.modeling import bundled
        from celery_workers.modeling.loading import load_tokenizer

        folder = Path(request.folder)
        if request.bundled and not bundled.is_current(request.bundled, folder):
            bundled.ensure(request.bundled, folder)
            return Loaded(is_spent=True)
        if self._stamps.get(request.folder) != (stamp := _stamp(folder)):
            self.forget()
            self._stamps[request.folder] = stamp
        if request.folder not in self._tokenizers:
            _keep(self._tokenizers, request.folder, load_tokenizer(folder), at_most=KEPT_TOKENIZERS)
        return Loaded()

    def forget_file(self) -> None:
        """Drop the open file: after an error it cannot be read on."""
        self._rows = None

    def forget(self) -> None:
        """Drop what was made of models and files that may have changed or cannot be read on."""
        self._rows = None
        for kept in (self._tokenizers, self._preparations, self._shares):
            kept.clear()

    def look(self, request: Look) -> Seen:
        """Make the tokens of one row, and the share of the set where it is not known yet."""
        from celery_workers.data.token_view import look_at_row

        rows = self._open(request)
        preparation = self._prepare(request, rows.opened)
        row = rows.at(request.position)
        if row is None:
            message = f"row must be at most the number of rows that can be read, got {request.position + 1}"
            raise UserInputError(message, code="row_out_of_range", field="row")
        seen = look_at_row(row, preparation, chunk=request.chunk)
        share = self._share(request, preparation)
        limit = preparation.maker.max_length_tokens
        return Seen(format=preparation.shape.format.value, max_length_tokens=limit, row=seen, share=share)

    def _open(self, request: Look) -> RowsInOrder:
        if self._rows is None or self._rows[0] != request.sha256:
            self._rows = (request.sha256, RowsInOrder(_source(request), FileFormat(request.file_format)))
        self._rows[1].source = _source(request)  # a file of an object store lies elsewhere at each request
        return self._rows[1]

    def _prepare(self, request: Look, opened: OpenedRows) -> Preparation:
        from celery_workers.agents.preprocessing import PreprocessingConfig, selection_rules, set_up
        from celery_workers.data.token_view import Preparation

        shape, folder = opened.detected.shape, Path(request.folder)
        key = f"{shape.format} {_key_of(request)}"
        if key in self._preparations:
            return self._preparations[key]
        config = PreprocessingConfig.model_validate(request.config)
        tokenizer = self._tokenizers.get(request.folder)
        if tokenizer is None:
            raise BugError("a row was asked for before its tokenizer", code="not_loaded")
        encoder, maker = set_up(config, shape, tokenizer, folder)
        preparation = Preparation(
            shape=shape, tokenizer=tokenizer, encoder=encoder, maker=maker, rules=selection_rules(config),
            system_prompt=config.system_prompt,
        )  # fmt: skip
        _keep(self._preparations, key, preparation, at_most=KEPT_PREPARATIONS)
        return preparation

    def _share(self, request: Look, preparation: Preparation) -> Share:
        from celery_workers.data.token_view import measure_share

        key = f"{request.sha256} {_key_of(request)}"
        if key not in self._shares:
            rows, sample = _sample(request)
            _keep(self._shares, key, measure_share(rows, sample, preparation), at_most=KEPT_SHARES)
        self._shares.move_to_end(key)
        return self._shares[key]


def main(arguments: list[str] | None = None) -> int:
    """Answer until the server is gone; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m celery_workers.token_process")
    parser.add_argument("--socket-fd", type=int, required=True, help="descriptor of the socket to the server")
    connection = socket.socket(fileno=parser.parse_args(arguments).socket_fd)
    connection.set_inheritable(False)
    import transformers  # noqa: F401 (the first request must not wait for it)

    send(connection, Ready())
    server = TokenServer()
    while (payload := receive(connection)) is not None:
        request = to_token_process.validate_json(payload)
        signal.alarm(request.alarm_seconds)
        answer = _answer(server, request)
        signal.alarm(0)
        _send_bounded(connection, answer)
    return 0


def _answer(server: TokenServer, request: Load | Look) -> Message:
    try:
        if isinstance(request, Load):
            return server.load(request)
        _limit_memory()
        return server.look(request)
    except MemoryError:
        server.forget()
        return _refusal(ResourceError("the row or its template takes too much memory", code="out_of_memory"))
    except AgentError as error:
        server.forget_file()
        return _refusal(error)
    except Exception as error:  # noqa: BLE001 (answered as a bug; the text may hold rows, which are never logged)
        logger.error("token_process.failed: %s", type(error).__name__)  # noqa: TRY400 (the traceback quotes rows as well)
        return Refused(error_kind=ErrorKind.BUG, code="bug", message=f"the tokens could not be made ({type(error).__name__})")


def _refusal(error: AgentError) -> Refused:
    return Refused(error_kind=error.kind, code=error.code, message=error.message, field=error.field, evidence=error.evidence)


def _send_bounded(connection: socket.socket, answer: Message) -> None:
    try:
        send(connection, answer)
    except ValueError as error:
        send(connection, Refused(error_kind=ErrorKind.USER, code="row_too_long", message=f"the row is too long: {error}"))


def _limit_memory() -> None:
    """Let the process take ``MEMORY_BYTES`` more than it has mapped now; once, after the libraries are there."""
    if sys.platform != "linux" or resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        return
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _key_of(request: Look) -> str:
    return f"{request.folder} {sorted(request.config.items())}"


def _stamp(folder: Path) -> int:
    """Return when the newest of a model's files was changed, in nanoseconds; 0 where there are none."""
    return max((path.stat().st_mtime_ns for path in folder.glob("*.*")), default=0)


def _source(request: Look) -> SourceFile:
    return SourceFile(path=Path(request.path), name=request.file_name)


def _sample(request: Look) -> tuple[Iterator[CanonicalRow], Sample]:
    """Return all rows, every n-th of a file that is quickly read, or the first rows; and which of the three it is."""
    from celery_workers.data.token_view import SAMPLED_ROWS

    opened = open_rows(_source(request), file_format=FileFormat(request.file_format))
    rows = (row for batch, _ in opened for row in batch)
    if request.rows <= SAMPLED_ROWS:
        return rows, "all"
    if Path(request.path).stat().st_size <= SPREAD_BYTES:
        return islice(rows, 0, None, -(-request.rows // SAMPLED_ROWS)), "spread"
    return islice(rows, SAMPLED_ROWS), "first"


def _keep(kept: OrderedDict[str, Item], key: str, item: Item, *, at_most: int) -> None:
    kept[key] = item
    while len(kept) > at_most:
        kept.popitem(last=False)


if __name__ == "__main__":
    sys.exit(main())
