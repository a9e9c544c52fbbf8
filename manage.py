#!/usr/bin/env python3
"""Run a management command; embedded services are started for it where no URL is set."""

import os
import sys


def main() -> None:
    """Start or join the embedded services, then hand over to Django."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "platform_site.settings.dev")
    from django.core.management import execute_from_command_line

    from platform_site.embedded.services import available_for

    try:
        with available_for(sys.argv):
            execute_from_command_line(sys.argv)
    except KeyboardInterrupt:
        sys.exit(130)  # as a shell reports it; a traceback would tell nobody anything


if __name__ == "__main__":
    main()
