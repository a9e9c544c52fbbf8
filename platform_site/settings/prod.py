"""Production: behind TLS, with a secret of the operator's own."""

import sys

from platform_site.settings.base import *  # noqa: F403
from platform_site.settings.base import BASE_DIR, ENV

if len(ENV.secret_key) < 32 or ENV.secret_key.startswith("change-me"):
    sys.exit("SECRET_KEY: production needs an own random value of at least 32 characters; see .env.example")

STATIC_ROOT = BASE_DIR / "staticfiles"  # `manage.py collectstatic` fills it
WHITENOISE_USE_FINDERS = False

SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_HSTS_SECONDS = 31_536_000
SECURE_CONTENT_TYPE_NOSNIFF = True
SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True
