"""Write ``.env.example`` from the one list of settings."""

from __future__ import annotations

import textwrap
from pathlib import Path

from django.core.management.base import BaseCommand, CommandParser

from platform_site.env import ROOT, Environment

HEADER = """\
# Every variable that the platform reads, with its default. Copy to .env and uncomment what you change;
# the environment itself comes before .env. Made by `python manage.py env_example --write`.
"""


def env_example() -> str:
    """Return the text of ``.env.example``: each variable with its meaning, bounds and default."""
    parts = [HEADER]
    for name, field in Environment.model_fields.items():
        default = field.default
        if isinstance(default, list):
            default = ",".join(default)
        elif isinstance(default, dict):
            default = ",".join(f"{name}={value}" for name, value in default.items())
        elif isinstance(default, Path):
            default = default.relative_to(ROOT)
        elif isinstance(default, bool):
            default = str(default).lower()
        bounds = [f"{label} {getattr(rule, key)}" for rule in field.metadata for key, label in _BOUNDS if hasattr(rule, key)]
        meaning = f"{field.description} Bounds: {', '.join(bounds)}." if bounds else str(field.description)
        parts.append(f"\n{textwrap.indent(textwrap.fill(meaning, 118), '# ')}\n#{name.upper()}={default}\n")
    return "".join(parts)


_BOUNDS = (("ge", "at least"), ("gt", "more than"), ("le", "at most"), ("lt", "less than"))


class Command(BaseCommand):
    """``manage.py env_example [--write]``."""

    help = "Print .env.example, or write it with --write."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the command's arguments."""
        parser.add_argument("--write", action="store_true", help="replace the file in the repository")

    def handle(self, **options: object) -> None:
        """Print or write the text."""
        if options["write"]:
            (ROOT / ".env.example").write_text(env_example(), encoding="utf-8")
        else:
            self.stdout.write(env_example(), ending="")
