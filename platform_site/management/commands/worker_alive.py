"""Say whether this machine's workers report themselves; for health checks of containers."""

from __future__ import annotations

import socket
import sys

from django.core.management.base import BaseCommand

from pipelines.models import Worker


class Command(BaseCommand):
    """``manage.py worker_alive``: exit status 0 if a live worker of this host is in the database."""

    help = "Exit with 0 if a worker on this host has reported itself within its lease time, else with 1."
    requires_system_checks: list[str] = []

    def handle(self, **options: object) -> None:
        """Look for a live worker whose name ends with this host's."""
        host = socket.gethostname()
        if not any(host in name for name in Worker.objects.alive().values_list("name", flat=True)):
            self.stderr.write(f"No live worker on {host}.")
            sys.exit(1)
