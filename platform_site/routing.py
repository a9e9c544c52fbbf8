"""Addresses of the websockets."""

from channels.routing import URLRouter
from django.urls import re_path

from pipelines.consumers import NoSuchSocket, RunConsumer

websocket_router = URLRouter(
    [
        re_path(r"^ws/runs/(?P<run_id>[A-Za-z0-9._-]{1,64})$", RunConsumer.as_asgi()),
        re_path(r"", NoSuchSocket.as_asgi()),
    ]
)
