"""The whole ASGI application behind a real server, for tests of streams, uploads and downloads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn

from platform_site.models import ApiToken, User


@dataclass(frozen=True)
class LiveSite:
    """Where the site listens."""

    host: str

    @property
    def api(self) -> str:
        """Address of the REST API."""
        return f"http://{self.host}/api/v1"

    def key_of(self, user: User, *scopes: str) -> str:
        """Return the key of a new token of ``user``."""
        return ApiToken.issue(owner=user, name=f"token {ApiToken.objects.count()}", scopes=list(scopes or ["run"]))[1]


@contextmanager
def live_site() -> Iterator[LiveSite]:
    """Serve the site on a free port of loopback, in a thread of this process and hence on the test's database."""
    from platform_site.asgi import application

    server = uvicorn.Server(uvicorn.Config(application, host="127.0.0.1", port=0, log_level="warning", lifespan="off"))
    is_listening = threading.Event()

    async def serve() -> None:
        serving = asyncio.create_task(server.serve())
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        is_listening.set()
        await serving

    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="site")
    thread.start()
    try:
        assert is_listening.wait(20)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield LiveSite(host=f"127.0.0.1:{port}")
    finally:
        server.should_exit = True
        server.force_exit = True
        thread.join(20)
