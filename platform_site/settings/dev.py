"""Development and single-machine use: what ``make run`` starts with."""

from platform_site.settings.base import *  # noqa: F403
