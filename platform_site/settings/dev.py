"""Development and single-machine use: what ``make run`` starts with."""

from platform_site.settings.base import *  # noqa: F403

# Served from where they lie, so that nothing need be collected and a change shows at once.
STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}  # noqa: F405
WHITENOISE_MAX_AGE = 0
