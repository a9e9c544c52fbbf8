"""Django admin for operators: runs, node runs and their leases, what they made, and the workers.

Everything here is history: it can be read and acted on (cancel, retry, requeue), never edited. Events have no page of their
own, because their key has two columns, which the admin does not support; a run's page shows its newest lines.
"""

from pipelines.admin import records, runs

__all__ = ["records", "runs"]
