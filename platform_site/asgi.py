"""The web process: HTTP and websockets."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "platform_site.settings.dev")
django_application = get_asgi_application()  # loads the apps, so it comes before everything that imports models

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ProtocolTypeRouter  # noqa: E402

from platform_site.routing import websocket_router  # noqa: E402
from platform_site.uploads import BodyLimit  # noqa: E402

application = ProtocolTypeRouter({"http": BodyLimit(django_application), "websocket": AuthMiddlewareStack(websocket_router)})
