"""Where the embedded services of a VAR_DIR listen, as their keeper wrote it down."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

STATE_FILE = "embedded/state.json"


class EmbeddedError(RuntimeError):
    """The services cannot start; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class EmbeddedUrls:
    """Addresses of the running services; port 1 refuses at once where none was ever started."""

    database_url: str = "postgresql://nobody@127.0.0.1:1/not-started"
    redis_url: str = "redis://127.0.0.1:1/0"


@dataclass(kw_only=True)
class State:
    """What one start leaves to the next: folders, ports and passwords. Empty and 0 mean not chosen yet."""

    home: str = ""  # relative to VAR_DIR, or absolute
    postgres_port: int = 0
    postgres_password: str = ""
    valkey_port: int = 0
    valkey_password: str = ""
    running: list[str] = field(default_factory=list)  # names of the services that the present keeper keeps
    keeper_pid: int = 0

    @property
    def urls(self) -> EmbeddedUrls:
        """Return the addresses with their passwords."""
        chosen: dict[str, str] = {}
        if self.postgres_port:
            chosen["database_url"] = f"postgresql://truetune:{self.postgres_password}@127.0.0.1:{self.postgres_port}/truetune"
        if self.valkey_port:
            chosen["redis_url"] = f"redis://:{self.valkey_password}@127.0.0.1:{self.valkey_port}/0"
        return EmbeddedUrls(**chosen)


def read_state(var_dir: Path) -> State:
    """Read what the last start under ``var_dir`` wrote; a fresh state if there was none.

    Raises: EmbeddedError: the file is there but is not one of ours.
    """
    path = var_dir / STATE_FILE
    try:
        return State(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return State()
    except (ValueError, TypeError) as error:
        raise EmbeddedError(
            f"{path} is damaged ({error}). It holds the passwords of the embedded services: restore it, or move "
            f"{path.parent} away to start with empty ones."
        ) from error


def write_state(var_dir: Path, state: State) -> None:
    """Replace the state file in one step; only its owner may read it."""
    path = var_dir / STATE_FILE
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(asdict(state), indent=1), encoding="utf-8")
    draft.replace(path)


def embedded_urls(var_dir: Path) -> EmbeddedUrls:
    """Read the addresses of the services under ``var_dir``; the defaults if there are none."""
    try:
        return read_state(var_dir).urls
    except EmbeddedError:
        return EmbeddedUrls()
