"""The live events of a run over a websocket: ``/ws/runs/<run_id>?after=<seq>``, one event per text frame.

A browser comes with its session from this site's own pages; a script offers two subprotocols, ``token.<key>`` and
``truetune.events``, of which the second is accepted. The close code says why the stream is over:

====  ========================================================
1000  the run has ended and every event was sent
4401  not signed in, a bad token, or a page of another site
4404  there is no such run, or it is someone else's
4408  too slow: connect again with the ``after`` of the reason
1011  the stream broke here; connect again with the last number
====  ========================================================
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

from asgiref.typing import WebSocketScope
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.contrib.auth.models import AnonymousUser

from pipelines.events import TooSlow, follow
from pipelines.models import Run
from platform_site.common.authentication import find_token
from platform_site.models import ApiToken, User

logger = logging.getLogger(__name__)

SUBPROTOCOL = "truetune.events"
TOKEN_PREFIX = "token."  # noqa: S105 (the name of a protocol)
ENDED, BROKEN = 1000, 1011
NOT_SIGNED_IN, NOT_FOUND, TOO_SLOW = 4401, 4404, 4408


class RunConsumer(AsyncWebsocketConsumer):
    """One viewer of one run."""

    _sending: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Accept, so that a refusal reaches the client with its code and reason; then authenticate, find and follow."""
        offered = self.scope["subprotocols"]
        await self.accept(next((name for name in offered if not name.startswith(TOKEN_PREFIX)), None))
        user = await self._user(offered)
        if not user.is_authenticated:
            await self.close(NOT_SIGNED_IN, "sign in, or offer the subprotocol token.<key>")
            return
        run_id = await _find_run(user, self.scope["url_route"]["kwargs"]["run_id"])
        if run_id is None:
            await self.close(NOT_FOUND, "there is no such run")
            return
        self._sending = asyncio.create_task(self._send_events(run_id, _after(self.scope)))

    async def disconnect(self, code: int) -> None:  # noqa: ARG002 (the framework's signature)
        """Stop following."""
        if self._sending is not None:
            self._sending.cancel()

    async def _send_events(self, run_id: UUID, after: int) -> None:
        try:
            async with aclosing(follow(run_id, after)) as events:
                async for event in events:
                    await self.send(text_data=event.text)
        except TooSlow as slow:
            await self.close(TOO_SLOW, str(slow))
        except OSError as error:  # the server's way to say that the viewer went away while it was sent something
            logger.info("websocket.left: %s", error)
        except Exception:
            logger.exception("websocket.broken", extra={"run_id": str(run_id)})
            await self.close(BROKEN, "the stream broke; connect again with the last number")
        else:
            await self.close(ENDED, "the run has ended")

    async def _user(self, offered: list[str]) -> User | AnonymousUser:
        key = next((name.removeprefix(TOKEN_PREFIX) for name in offered if name.startswith(TOKEN_PREFIX)), None)
        if key is not None:
            token = await database_sync_to_async(find_token)(key)
            return token.owner if token and token.allows(ApiToken.Scope.READ) else AnonymousUser()
        return self.scope["user"] if _comes_from_this_site(self.scope) else AnonymousUser()


class NoSuchSocket(AsyncWebsocketConsumer):
    """What every other address answers."""

    async def connect(self) -> None:
        """Accept and close with the code for "not found"."""
        await self.accept()
        await self.close(NOT_FOUND, "there is nothing at this address")


@database_sync_to_async
def _find_run(user: User, reference: str) -> UUID | None:
    run = Run.objects.visible_to(user).referred_to_as(reference).only("id").first()
    return run.id if run else None


def _comes_from_this_site(scope: WebSocketScope) -> bool:
    """Say whether the page that opened the socket is ours; a browser sends the session's cookie from any page."""
    headers = dict(scope["headers"])
    origin = headers.get(b"origin", b"").decode("latin-1")
    host = headers.get(b"host", b"").decode("latin-1")
    return bool(origin) and (urlsplit(origin).netloc == host or origin in settings.CSRF_TRUSTED_ORIGINS)


def _after(scope: WebSocketScope) -> int:
    values = parse_qs(scope["query_string"].decode("latin-1")).get("after", ["0"])
    return int(values[0]) if values[0].isdecimal() else 0
