"""Refuse a request body that is too large while it arrives, before Django writes it to its temporary file."""

from __future__ import annotations

import asyncio
import errno
import json
import logging

from asgiref.typing import ASGI3Application, ASGIReceiveCallable, ASGIReceiveEvent, ASGISendCallable, ASGISendEvent, Scope
from django.conf import settings

from platform_site.common.errors import DomainError, StorageFull, TooLarge
from platform_site.common.exceptions import error_body

logger = logging.getLogger(__name__)

UPLOAD_PATH = "/api/v1/datasets/upload"
OTHER_BODY_MAX_BYTES = 16 * 1024 * 1024
LINGER_SECONDS = 5.0


class BodyLimit:
    """ASGI middleware: at most ``MAX_UPLOAD_BYTES`` of body at the upload's address, 16 MiB elsewhere.

    A declared length over the limit is refused at once, an undeclared one as soon as the count passes it.
    """

    def __init__(self, application: ASGI3Application) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        limit = settings.ENV.max_upload_bytes if scope["path"] == UPLOAD_PATH else OTHER_BODY_MAX_BYTES
        has_started = False

        async def send_and_note(event: ASGISendEvent) -> None:
            nonlocal has_started
            has_started = True
            await send(event)

        try:
            _check(_declared_length(scope), limit)
            await self._application(scope, _counted(receive, limit), send_and_note)
        except _Refused as refused:
            if has_started:
                raise
            await _answer(refused.error, receive, send)
        except OSError as error:
            if has_started or error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            logger.exception("uploads.no_room")
            await _answer(StorageFull("There is no room left on the disk; nothing was stored."), receive, send)


class _Refused(Exception):
    def __init__(self, error: DomainError) -> None:
        super().__init__(error.detail)
        self.error = error


def _declared_length(scope: Scope) -> int:
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    return int(lengths[0]) if lengths and lengths[0].isdigit() else 0


def _check(size_bytes: int, limit_bytes: int) -> None:
    if size_bytes > limit_bytes:
        raise _Refused(TooLarge(f"A request body may have at most {limit_bytes} bytes here."))


def _counted(receive: ASGIReceiveCallable, limit_bytes: int) -> ASGIReceiveCallable:
    size_bytes = 0

    async def receive_and_count() -> ASGIReceiveEvent:
        nonlocal size_bytes
        event = await receive()
        if event["type"] == "http.request":
            size_bytes += len(event.get("body", b""))
            _check(size_bytes, limit_bytes)
        return event

    return receive_and_count


async def _answer(error: DomainError, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    body = json.dumps(error_body(error.error_code, error.detail)).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": error.status, "headers": headers, "trailers": False})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    # A connection closed while its client still writes is reset, and the answer may be lost with it.
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            while (event := await receive())["type"] == "http.request" and event.get("more_body", False):
                pass
    except TimeoutError:
        logger.info("uploads.refused while the client went on sending")
    await send({"type": "http.response.body", "body": b"", "more_body": False})
