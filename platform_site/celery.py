"""The Celery application: transport for wake-up messages, nothing more.

``celery -A platform_site.celery worker -Q gpu`` (or ``cpu``, or both) starts a worker; its pool is of threads, because the
work itself runs in processes of its own. ``celery -A platform_site.celery beat`` starts the clock of the reconciler; a
second beat does no harm.
"""

from __future__ import annotations

import logging
import os

from celery import Celery
from celery.signals import setup_logging
from kombu.transport.redis import Channel

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "platform_site.settings.dev")
os.environ.setdefault("CELERY_SKIP_CHECKS", "1")  # they load every URL and view: the web server and CI run them

from django.conf import settings  # after the module's name is known

RECONCILE = "pipelines.reconcile"
# Celery logs two lines for every message, and one comes every few seconds.
CHATTY_LOGGERS = ("celery.worker.strategy", "celery.app.trace", "celery.beat")

# Nothing is acknowledged, and nothing given back: a message lost with its worker is sent again by the reconciler. With
# acknowledgements, a worker that holds some when it loses its broker touches the closed channel, at once or after it has
# reconnected, and ends by an AttributeError (kombu 5.7.0, compare celery/kombu#582).
Channel.do_restore = False

app = Celery("platform_site")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.update(
    worker_pool="threads",
    worker_redirect_stdouts=False,
    task_acks_late=False,
    worker_enable_prefetch_count_reduction=False,
    broker_connection_timeout=2,
    broker_transport_options={
        "ack_emulation": False,
        # Without them a broker that is gone without closing its connections would hold a worker forever.
        "socket_timeout": 10,  # seconds; a worker's own blocking read takes 1
        "socket_connect_timeout": 2,
        "socket_keepalive": True,
        "health_check_interval": 5,
    },
    beat_scheduler="celery_workers.beat:SparingScheduler",
    beat_schedule={
        "reconcile": {
            "task": RECONCILE,
            "schedule": settings.ENV.reconcile_seconds,
            "options": {"expires": max(10.0, 3 * settings.ENV.reconcile_seconds)},
        }
    },
)
app.autodiscover_tasks(["celery_workers"])


@setup_logging.connect
def keep_django_logging(**_: object) -> None:
    """Leave logging as Django's settings have it; being connected is what keeps Celery from its own."""
    for name in CHATTY_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
