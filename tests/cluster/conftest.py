"""One local Ray for all cluster tests of a run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster.connect import RayCluster, start_local


@pytest.fixture(scope="session")
def ray_local() -> Iterator[RayCluster]:
    """A Ray of our own with six logical CPUs; none of its processes is left at the end of the session."""
    with start_local(6) as cluster:
        yield cluster
