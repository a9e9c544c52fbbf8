"""Make a link that signs a user in once."""

from __future__ import annotations

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from platform_site.login import LIFETIME_SECONDS, login_path
from platform_site.models import User


class Command(BaseCommand):
    """``manage.py login_link [USER]``."""

    help = f"Print a link that signs a user in once, within {LIFETIME_SECONDS // 3600} hours."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the command's arguments."""
        parser.add_argument("user", nargs="?", default="admin", help="user name (default: admin)")

    def handle(self, **options: object) -> None:
        """Print the link.

        Raises: CommandError: no such user.
        """
        user = User.objects.filter(username=options["user"], is_active=True).first()
        if user is None:
            raise CommandError(f"There is no active user {options['user']!r}.")
        self.stdout.write(f"http://{settings.ENV.api_host}:{settings.ENV.api_port}{login_path(user)}")
