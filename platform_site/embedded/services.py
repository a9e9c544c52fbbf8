"""Use the embedded services: start their keeper or join it, and leave them in order.

::

    with available_for(sys.argv):
        ...  # DATABASE_URL and REDIS_URL are set in os.environ

The first user starts the keeper (``keeper.py``); the last one to leave waits until it has stopped the services.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from platform_site.embedded.state import EmbeddedError, EmbeddedUrls, read_state

if TYPE_CHECKING:
    from platform_site.embedded.locks import FileLock

# Commands that neither read nor write a database.
WITHOUT_SERVICES = frozenset(
    {"check", "collectstatic", "compilemessages", "diffsettings", "env_example", "findstatic", "help", "makemessages",
     "spectacular", "startapp", "startproject", "version"}
)  # fmt: skip
_ROOT = Path(__file__).resolve().parents[2]


class ServicesInUse:
    """A share in the running services of ``var_dir``. The kernel drops it if this process dies."""

    def __init__(self, var_dir: Path, names: Sequence[str], *, is_durable: bool = True) -> None:
        if sys.platform not in ("linux", "darwin"):
            raise EmbeddedError(
                "Embedded PostgreSQL and Valkey run on Linux and macOS: set DATABASE_URL and REDIS_URL (see .env.example)."
            )
        from platform_site.embedded.keeper import KEEPER_LOCK, USERS_LOCK
        from platform_site.embedded.locks import FileLock

        self.var_dir = var_dir.resolve()
        self._keeper_path = self.var_dir / KEEPER_LOCK
        self._users = FileLock(self.var_dir / USERS_LOCK)
        self._keeper: subprocess.Popen[str] | None = None  # where it is our child
        starting = FileLock(self.var_dir / "embedded/start.lock")
        starting.take()
        try:
            self._users.share()  # waits while a keeper stops its services
            if not self._is_kept():
                self._start_keeper(names, is_durable=is_durable)
            missing = set(names) - set(read_state(self.var_dir).running)
            if missing:
                raise EmbeddedError(
                    f"The services under {self.var_dir} run without {', '.join(sorted(missing))}, for a process with other "
                    "settings: stop that one first, or set the same DATABASE_URL and REDIS_URL."
                )
        except BaseException:
            self._users.release()
            raise
        finally:
            starting.release()

    @property
    def urls(self) -> EmbeddedUrls:
        """Where the services listen."""
        return read_state(self.var_dir).urls

    @property
    def descriptor(self) -> int:
        """The file descriptor that holds the share: a child that inherits it keeps the services up as well."""
        return self._users.descriptor

    def leave(self) -> None:
        """Give up the share; if it was the last one, wait until the services have stopped."""
        from platform_site.embedded.locks import FileLock

        if self._users.descriptor < 0:
            return
        is_last = self._users.try_take()
        self._users.release()
        if is_last:
            keeper = FileLock(self._keeper_path)
            keeper.share()
            keeper.release()
        if self._keeper:
            if is_last:
                self._keeper.wait()
            else:
                self._keeper.returncode = 0  # it outlives us: Popen need not warn

    def _is_kept(self) -> bool:
        from platform_site.embedded.locks import FileLock

        keeper = FileLock(self._keeper_path)
        is_free = keeper.try_share()
        keeper.release()
        return not is_free

    def _start_keeper(self, names: Sequence[str], *, is_durable: bool) -> None:
        command = [sys.executable, "-m", "platform_site.embedded.keeper", str(self.var_dir), *names]
        logs = self.var_dir / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        with (logs / "keeper.log").open("ab") as log:
            keeper = subprocess.Popen(
                command if is_durable else [*command, "--fast-and-fragile"],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True, cwd=_ROOT, text=True,
            )  # fmt: skip
        if keeper.stdout is None:
            raise EmbeddedError("The keeper of the embedded services has no pipe.")
        with keeper.stdout:
            answer = keeper.stdout.read()  # until the keeper closes its end
        if answer.startswith("ready"):
            self._keeper = keeper
            return
        keeper.wait()
        reason = answer.removeprefix("error ").strip()
        raise EmbeddedError(reason or f"The keeper of the embedded services failed; see {logs / 'keeper.log'}.")


@contextmanager
def available_for(arguments: Sequence[str]) -> Iterator[ServicesInUse | None]:
    """Have the services that no URL names running while a management command works; set DATABASE_URL and REDIS_URL.

    Yields: the share in them, or None where the command or the settings need none.
    Raises: SystemExit: they cannot start; one clear message.
    """
    from platform_site.env import read_environment

    command = arguments[1] if len(arguments) > 1 else "help"
    if command.startswith("-") or command in WITHOUT_SERVICES or {"-h", "--help", "--version"} & set(arguments[2:]):
        yield None
        return
    environment = read_environment()
    wanted = {"postgres": not environment.database_url, "valkey": not environment.redis_url}
    names = [name for name, is_wanted in wanted.items() if is_wanted]
    if not names:
        yield None
        return
    try:
        services = ServicesInUse(environment.var_dir, names)
    except EmbeddedError as error:
        sys.exit(str(error))
    try:
        publish(services.urls, names)
        yield services
    finally:
        services.leave()


def share_for_children(var_dir: Path) -> FileLock | None:
    """Return one more share in the services that this process uses, for its children to inherit; None without any.

    With its ``descriptor`` passed on, the services stay up until the last child has ended, whatever becomes of us.
    """
    from platform_site.embedded.keeper import USERS_LOCK
    from platform_site.embedded.locks import FileLock

    urls = read_state(var_dir).urls
    if os.environ.get("DATABASE_URL") != urls.database_url and os.environ.get("REDIS_URL") != urls.redis_url:
        return None
    users = FileLock(var_dir / USERS_LOCK)
    users.share()
    return users


def publish(urls: EmbeddedUrls, names: Sequence[str]) -> None:
    """Set the addresses in ``os.environ``, for Django's settings and for child processes."""
    if "postgres" in names:
        os.environ["DATABASE_URL"] = urls.database_url
    if "valkey" in names:
        os.environ["REDIS_URL"] = urls.redis_url
