"""Curves of a run's metrics, in buckets that keep the smallest, largest and last value, so that no spike is lost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import TypedDict
from uuid import UUID

from django.db import connection

from pipelines.models import Event

MAX_POINTS = 5_000


class PointJson(TypedDict):
    """One bucket: its last step and the values within it, numbers or ``nan``, ``inf``, ``-inf``."""

    step: int
    min: float | str
    max: float | str
    last: float | str


class SeriesJson(TypedDict):
    """One metric of one node."""

    node: str
    name: str
    points: list[PointJson]


# PostgreSQL sorts NaN above every number, so a bucket with one NaN shows it as its max. Where a resumed attempt went over
# steps again, the newest attempt's values count.
_CURVES = """
WITH numbers AS (
    SELECT event.node, entry.key AS name, event.step, event.seq, event.attempt, (entry.value #>> '{}')::float8 AS value,
           max(event.attempt) OVER (PARTITION BY event.node, entry.key, event.step) AS newest_attempt
    FROM pipelines_event AS event
    CROSS JOIN LATERAL jsonb_each(
        CASE WHEN event.loss IS NULL THEN event.data ELSE event.data || jsonb_build_object('loss', event.loss) END
    ) AS entry
    WHERE event.run_id = %(run_id)s AND event.type = 'metric' AND event.step IS NOT NULL
      AND (%(node)s = '' OR event.node = %(node)s)
      AND (%(names)s::text[] = '{}' OR entry.key = ANY(%(names)s::text[]))
      AND (jsonb_typeof(entry.value) = 'number' OR entry.value IN ('"nan"', '"inf"', '"-inf"'))
), bucketed AS (
    SELECT node, name, step, seq, value,
           (step - min(step) OVER series) * %(points)s / (max(step) OVER series - min(step) OVER series + 1) AS bucket
    FROM numbers WHERE attempt IS NOT DISTINCT FROM newest_attempt
    WINDOW series AS (PARTITION BY node, name)
)
SELECT node, name, max(step), min(value), max(value), (array_agg(value ORDER BY seq DESC))[1]
FROM bucketed GROUP BY node, name, bucket ORDER BY node, name, bucket"""


def curves(run_id: UUID, *, names: Sequence[str] = (), points: int = 500, node: str = "") -> list[SeriesJson]:
    """Return the run's curves, at most ``points`` buckets each, over equal spans of steps.

    ``names`` and ``node`` choose among them; empty means all.
    """
    values = {"run_id": run_id, "names": list(names), "points": points, "node": node}
    with connection.cursor() as cursor:
        cursor.execute(_CURVES, values)
        rows = cursor.fetchall()
    return [
        {"node": key[0], "name": key[1], "points": [_point(*row[2:]) for row in group]}
        for key, group in groupby(rows, key=lambda row: (row[0], row[1]))
    ]


def steps_per_second(run_id: UUID, *, node: str, attempt: int, last_events: int = 50) -> float | None:
    """Return how fast an attempt went over its last metric events; None before it has two different steps."""
    rows = Event.objects.filter(run_id=run_id, type=Event.Type.METRIC, node=node, attempt=attempt, step__isnull=False)
    marks = list(rows.order_by("-step").values_list("step", "timestamp")[:last_events])
    if len(marks) < 2 or marks[0][0] == marks[-1][0]:
        return None
    seconds = (marks[0][1] - marks[-1][1]).total_seconds()
    return (marks[0][0] - marks[-1][0]) / seconds if seconds > 0 else None


def _point(step: int, smallest: float, largest: float, last: float) -> PointJson:
    return {"step": step, "min": _shown(smallest), "max": _shown(largest), "last": _shown(last)}


def _shown(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
