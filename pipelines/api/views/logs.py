"""A run's events: the stored ones, and the live stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from uuid import UUID

from django.db import connection
from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param
from rest_framework.views import APIView

from pipelines.api.serializers.events import EventPageSerializer, EventSerializer, HistoryQuerySerializer, StreamQuerySerializer
from pipelines.api.views.runs import RUN_ID_PARAMETER, find_run
from pipelines.events import StoredEvent, TooSlow, follow_batches, read
from platform_site.common.negotiation import AnyAccept

KEEP_ALIVE_SECONDS = 15.0
RECONNECT_MILLISECONDS = 2_000


class LogHistoryView(APIView):
    """The stored events of one run."""

    @extend_schema(
        operation_id="logs_history", parameters=[RUN_ID_PARAMETER, HistoryQuerySerializer], responses=EventPageSerializer
    )
    def get(self, request: Request, run_id: str) -> Response:
        """List stored events in order."""
        run = find_run(request, run_id)
        query = HistoryQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        events = read(run.id, **query.validated_data)
        links: dict[str, str | None] = {"next": None, "previous": None}
        if len(events) == query.validated_data["limit"]:
            is_backward = query.validated_data["before"] is not None
            link, name, seq = ("previous", "before", events[0].seq) if is_backward else ("next", "after", events[-1].seq)
            links[link] = replace_query_param(request.build_absolute_uri(), name, seq)
        return Response({"results": [event.json for event in events], **links})


class LogStreamView(APIView):
    """The live events of one run."""

    content_negotiation_class = AnyAccept

    @extend_schema(
        operation_id="logs_stream",
        parameters=[
            RUN_ID_PARAMETER,
            StreamQuerySerializer,
            OpenApiParameter("Last-Event-ID", int, OpenApiParameter.HEADER, description="Overrides after."),
        ],
        responses={
            (200, "application/x-ndjson"): EventSerializer,
            (200, "text/event-stream"): OpenApiResponse(OpenApiTypes.STR, "Server-sent events; id is the event's number."),
            204: OpenApiResponse(description="To an EventSource that has every event of an ended run: do not reconnect."),
        },
    )
    def get(self, request: Request, run_id: str) -> HttpResponseBase:
        """Follow events live: SSE for ``Accept: text/event-stream``, else one JSON object a line. Ends with the run."""
        run = find_run(request, run_id)
        query = StreamQuerySerializer(data={**request.query_params.dict(), **_last_event_id(request)})
        query.is_valid(raise_exception=True)
        after = query.validated_data["after"]
        is_sse = "text/event-stream" in request.headers.get("Accept", "")
        if is_sse and run.is_terminal and after >= run.last_seq:
            return HttpResponse(status=204)
        if not connection.in_atomic_block:
            connection.close()  # a stream may last for hours; the feed asks PostgreSQL through connections of its own
        if is_sse:
            return _streamed(sse(run.id, after), "text/event-stream")
        return _streamed(json_lines(run.id, after), "application/x-ndjson")


async def json_lines(run_id: UUID, after: int) -> AsyncGenerator[bytes, None]:
    """Yield events as lines. No line can tell a slow reader to come again, so the server does that in its place."""
    while True:
        try:
            async with aclosing(follow_batches(run_id, after)) as batches:
                async for batch in batches:
                    yield "".join(f"{event.text}\n" for event in batch).encode()
        except TooSlow as slow:
            after = slow.last_seq
        else:
            return


async def sse(run_id: UUID, after: int) -> AsyncGenerator[bytes, None]:
    """Yield events as server-sent events, with a comment whenever nothing happened for a while."""
    yield f"retry: {RECONNECT_MILLISECONDS}\n\n".encode()
    try:
        async with aclosing(follow_batches(run_id, after)) as batches:
            async for batch in _with_pauses(batches):
                if batch is None:
                    yield b": nothing new\n\n"
                else:
                    yield "".join(_sse_event(event) for event in batch).encode()
    except TooSlow as slow:
        yield f": {slow}\n\n".encode()  # the browser reconnects by itself, with the number that it has


def _sse_event(event: StoredEvent) -> str:
    return f"id: {event.seq}\nevent: {event.type}\ndata: {event.text}\n\n"


async def _with_pauses(batches: AsyncIterator[Sequence[StoredEvent]]) -> AsyncGenerator[Sequence[StoredEvent] | None, None]:
    """Yield the batches, and None after every ``KEEP_ALIVE_SECONDS`` without one."""
    coming = asyncio.ensure_future(anext(batches, None))
    try:
        while True:
            done, _ = await asyncio.wait({coming}, timeout=KEEP_ALIVE_SECONDS)
            if not done:
                yield None
                continue
            batch = coming.result()
            if batch is None:
                return
            coming = asyncio.ensure_future(anext(batches, None))
            yield batch
    finally:
        coming.cancel()
        await asyncio.wait({coming})


def _streamed(content: AsyncIterator[bytes], content_type: str) -> HttpResponseBase:
    # X-Accel-Buffering: nginx would otherwise hold lines back until its buffer is full.
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingHttpResponse(content, content_type=content_type, headers=headers)


def _last_event_id(request: Request) -> dict[str, str]:
    value = request.headers.get("Last-Event-ID", "")
    return {"after": value} if value else {}
