"""One local Ray for all cluster tests of a test process."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from cluster.connect import RayCluster, start_local

S3_KEY = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "hush",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@pytest.fixture(scope="session")
def ray_local() -> Iterator[RayCluster]:
    """A Ray of our own with six logical CPUs; none of its processes is left at the end of the session."""
    # Ray's workers take their environment from here: the key of the object store that a test starts.
    os.environ.update(S3_KEY)
    with start_local(6) as cluster:
        yield cluster
