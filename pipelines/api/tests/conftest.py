"""A site that listens, for the tests of streams and downloads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pipelines.tests.live_site import LiveSite


@pytest.fixture
def site(transactional_db) -> Iterator[LiveSite]:
    """Serve the site for one test."""
    from pipelines.tests.live_site import live_site

    with live_site() as site:
        yield site
