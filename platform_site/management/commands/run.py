"""Start the whole platform on this machine and keep it running until Ctrl-C."""

from __future__ import annotations

import http.client
import signal
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from rich.console import Console

from platform_site.embedded.ports import is_free
from platform_site.embedded.processes import Processes
from platform_site.embedded.services import share_for_children
from platform_site.login import login_path
from platform_site.models import User
from platform_site.platform_programs import beat, programs

MIGRATION_LOCK = 7_412_025  # any number of our own: two launchers must not migrate at once
START_TIMEOUT_SECONDS = 120.0
CHECK_SECONDS = 0.2
FIRST_USER = "admin"


class Command(BaseCommand):
    """``manage.py run [--quiet]``: database, first user, web, workers, beat."""

    help = "Start the platform on this machine: web server, workers and beat. Ctrl-C stops every process."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the command's arguments."""
        parser.add_argument("--quiet", action="store_true", help="print only what goes wrong")

    def handle(self, **options: object) -> None:
        """Start everything, tell when it is ready, and keep it running.

        Raises: CommandError: the port is taken, or the platform is not ready in time.
        """
        started_at = time.monotonic()
        self.stop_asked = threading.Event()
        self.console = Console(stderr=True, quiet=bool(options["quiet"]), highlight=False)
        self.alarm = Console(stderr=True, highlight=False)
        _require_free_port(settings.ENV.api_host, settings.ENV.api_port)
        _migrate()
        link = _first_login()
        _keep_link(link, settings.VAR_DIR / "logs" / "login.txt")
        connection.close()
        connection.close_pool()  # the launcher asks the database nothing from here on
        with ExitStack() as stack:
            if share := share_for_children(settings.VAR_DIR.resolve()):
                stack.callback(share.release)
            processes = stack.enter_context(
                Processes(
                    programs(settings.ENV),
                    log_folder=settings.VAR_DIR / "logs",
                    report=self._report,
                    keep_open=[share.descriptor] if share else [],
                )
            )
            self._listen_for_signals(processes)
            if self._wait_until_ready(processes, started_at + START_TIMEOUT_SECONDS):
                processes.add(beat())
                self._announce(link, time.monotonic() - started_at)
            while not self.stop_asked.wait(CHECK_SECONDS):
                processes.check()
            self.console.print("Stopping: running nodes save and stop. Ctrl-C again stops at once.")
        self.console.print("Stopped.")

    def _listen_for_signals(self, processes: Processes) -> None:
        def stop(*_: object) -> None:
            if self.stop_asked.is_set():
                processes.kill()
            self.stop_asked.set()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, stop)

    def _report(self, name: str, message: str) -> None:
        if message != "stopping":
            self.alarm.print(f"[yellow]{name}[/] {message}")

    def _wait_until_ready(self, processes: Processes, deadline: float) -> bool:
        """Return whether everything answers; False if asked to stop before that.

        Raises: CommandError: it took too long; what /ready last said is in the message.
        """
        answer = "no answer"
        while not self.stop_asked.wait(0.1):
            processes.check()
            is_ready, answer = _ask_ready(settings.ENV.api_host, settings.ENV.api_port)
            if is_ready:
                return True
            if time.monotonic() > deadline:
                raise CommandError(
                    f"Not ready after {START_TIMEOUT_SECONDS:.0f} s ({answer}). See {settings.VAR_DIR / 'logs'}."
                )
        return False

    def _announce(self, link: str, seconds: float) -> None:
        self.console.print(f"\n[bold]Truetune[/] is ready after {seconds:.1f} s at [bold]{_address()}[/]")
        if link:
            self.console.print(f"  log in once  {link}", soft_wrap=True)
        self.console.print(f"  API          {_address()}/docs")
        self.console.print(f"  logs         {settings.VAR_DIR / 'logs'}", soft_wrap=True)
        self.console.print("  Ctrl-C stops everything.\n")


def _address() -> str:
    return f"http://{_reachable(settings.ENV.api_host)}:{settings.ENV.api_port}"


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104 - compares, does not bind


def _require_free_port(host: str, port: int) -> None:
    if not is_free(port, host=host):
        raise CommandError(
            f"API_PORT: port {port} of {host} is taken by another program. "
            f"Stop it, or choose another one: API_PORT={port + 1} make run"
        )


def _migrate() -> None:
    """Bring the database up to date, one launcher at a time."""
    executor = MigrationExecutor(connection)
    if not executor.migration_plan(executor.loader.graph.leaf_nodes()):
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [MIGRATION_LOCK])
        try:
            call_command("migrate", verbosity=0, interactive=False)
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [MIGRATION_LOCK])


def _first_login() -> str:
    """Make the first user if there is none; return a link that signs the first operator in once, or ''."""
    if not User.objects.exists():
        User.objects.create_superuser(FIRST_USER)
    operator = User.objects.filter(is_superuser=True, is_active=True).order_by("pk").first()
    return f"{_address()}{login_path(operator)}" if operator else ""


def _keep_link(link: str, path: Path) -> None:
    """Write the link where only we can read it, for whoever did not see the terminal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(f"{link}\n", encoding="utf-8")


def _ask_ready(host: str, port: int) -> tuple[bool, str]:
    client = http.client.HTTPConnection(_reachable(host).strip("[]"), port, timeout=5)
    try:
        client.request("GET", "/ready", headers={"Host": f"{_reachable(host)}:{port}"})
        response = client.getresponse()
        return response.status == http.client.OK, response.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return False, str(error)
    finally:
        client.close()
