"""A Valkey of a test's own, which it may stop and start while runs are followed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings

from pipelines.events import write
from pipelines.events.valkey import writing_client
from platform_site.embedded.ports import free_port
from platform_site.embedded.valkey import Valkey


@contextmanager
def own_valkey(folder: Path) -> Iterator[Valkey]:
    """Run a server in ``folder`` and make it the one of the settings; ``stop()`` and ``start()`` it at will."""
    server = Valkey(home=folder, port=free_port(), password="secret", log_file=folder / "valkey.log", is_durable=False)
    server.prepare()
    server.start()
    server.wait_ready()
    before = settings.REDIS_URL
    settings.REDIS_URL = f"redis://:{server.password}@127.0.0.1:{server.port}/0"
    writing_client.cache_clear()
    try:
        yield server
    finally:
        settings.REDIS_URL = before
        writing_client.cache_clear()
        write._pause = write._Pause()
        server.stop()
