from __future__ import annotations

import pytest
from django.utils import timezone

from celery_workers.contract import ErrorKind
from pipelines.engine.attempts import LONGEST_RETRY_SECONDS, may_try_again, retry_instant
from pipelines.models import NodeRun


@pytest.mark.parametrize(
    ("kind", "allowed"),
    [(ErrorKind.USER, 1), (ErrorKind.BUG, 2), (ErrorKind.RESOURCE, 4), (ErrorKind.INFRASTRUCTURE, 4)],
)
def test_each_kind_of_error_has_its_number_of_tries(settings, kind: ErrorKind, allowed: int) -> None:
    settings.ENV = settings.ENV.model_copy(update={"max_attempts": 4})
    assert [tries for tries in range(1, 8) if may_try_again(NodeRun(tries=tries), kind)] == list(range(1, allowed))


def test_the_delay_doubles_with_jitter_up_to_a_limit(settings) -> None:
    settings.ENV = settings.ENV.model_copy(update={"retry_base_seconds": 2.0})
    for tries, middle in ((1, 2), (2, 4), (4, 16), (20, LONGEST_RETRY_SECONDS)):
        delays = [(retry_instant(tries) - timezone.now()).total_seconds() for _ in range(50)]
        assert middle * 0.49 <= min(delays) < max(delays) <= middle * 1.51
