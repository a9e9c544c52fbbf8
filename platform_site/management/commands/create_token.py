"""Make an API token for a script."""

from __future__ import annotations

from datetime import timedelta

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import IntegrityError

from platform_site.models import ApiToken, User


class Command(BaseCommand):
    """``manage.py create_token USER [--name NAME] [--scope read|run|admin] [--days N] [--key-only]``."""

    help = "Make an API token. The key is shown once; only its SHA-256 is stored."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the command's arguments."""
        parser.add_argument("user", help="user name of the owner")
        parser.add_argument("--name", default="command line", help="what the token is for; unique per owner")
        parser.add_argument(
            "--scope",
            choices=ApiToken.Scope.values,
            default=ApiToken.Scope.RUN.value,
            help="admin includes run, run includes read",
        )
        parser.add_argument("--days", type=int, help="days until it expires; never by default")
        parser.add_argument("--key-only", action="store_true", help="print the key and nothing else, for scripts")

    def handle(self, **options: object) -> None:
        """Make the token and print its key.

        Raises: CommandError: no such user, a name in use, or a lifetime below one day.
        """
        name, scope, days = str(options["name"]), str(options["scope"]), options["days"]
        if isinstance(days, int) and days < 1:
            raise CommandError(f"--days must be at least 1, got {days}")
        owner = User.objects.filter(username=options["user"]).first()
        if owner is None:
            raise CommandError(f"There is no user {options['user']!r}. `manage.py createsuperuser` makes one.")
        try:
            token, key = ApiToken.issue(
                owner=owner, name=name, scopes=[scope], lifetime=timedelta(days=days) if isinstance(days, int) else None
            )
        except IntegrityError as error:
            raise CommandError(f"{owner} has a token named {name!r} already: choose another --name, or revoke it.") from error
        if options["key_only"]:
            self.stdout.write(key)
            return
        expiry = f"until {token.expires_at:%Y-%m-%d %H:%M} UTC" if token.expires_at else "until revoked"
        self.stdout.write(f"Token {name!r} of {owner}, scope {scope}, valid {expiry}. It is not shown again:\n{key}")
