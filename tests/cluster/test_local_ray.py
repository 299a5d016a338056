"""A Ray of our own needs no home folder, says nothing, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from cluster.connect import RayCluster, require_cpus
from reasoning.errors import ConfigError

SCRIPT = """
import psutil
from cluster.connect import start_local
with start_local(2) as cluster:
    import ray
    assert ray.get(ray.remote(lambda: 2).remote()) == 2
    pids = [p.pid for p in psutil.Process().children(recursive=True)]
print(*pids)
"""


def test_empty_home_no_words_nothing_left() -> None:
    kept = {"PATH": os.environ["PATH"], "HOME": "/nonexistent/home"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, env=kept, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) > 3
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
    assert not Path("/nonexistent").exists()


def test_too_few_cpus_is_said_before_anything_waits_for_them(ray_local: RayCluster) -> None:
    with pytest.raises(ConfigError, match="needs 7 CPUs and the Ray cluster has 6"):
        require_cpus(ray_local, 7, wanted_by="a job")
