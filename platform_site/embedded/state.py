"""Where the embedded services of a VAR_DIR listen, as their keeper wrote it down."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

STATE_FILE = "embedded/state.json"


@dataclass(frozen=True, kw_only=True)
class EmbeddedUrls:
    """Addresses of the running services; port 1 refuses at once where none was ever started."""

    database_url: str = "postgresql://nobody@127.0.0.1:1/not-started"
    redis_url: str = "redis://127.0.0.1:1/0"


def embedded_urls(var_dir: Path) -> EmbeddedUrls:
    """Read the addresses of the services under ``var_dir``; the defaults if there are none."""
    try:
        state = json.loads((var_dir / STATE_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return EmbeddedUrls()
    return EmbeddedUrls(database_url=state["database_url"], redis_url=state["redis_url"])
