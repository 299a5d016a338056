"""Start a Ray of our own on this machine, or join one that runs; and leave as we came.

A local Ray has a short folder of its own under the system's temporary folder (its sockets' paths
must stay below 107 bytes), a token of its own, no dashboard and quiet logs. It writes nothing to
the home folder. Never ends a process that this process did not start.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from cluster.logs import get_logger, quiet_libraries
from reasoning.errors import ConfigError, StagebeamError

_FOLDER_PREFIX = "sb-ray-"
_ALIVE_FILE = ".alive"
_SWEEP_AFTER_S = 60.0
_LONGEST_ROOT = 107 - 70 - len(_FOLDER_PREFIX) - 8
"""Ray appends ``/session_<date>_<time>_<pid>/sockets/plasma_store`` to its folder: up to 70 of the 107 bytes."""
_STOP_GRACE_S = 10.0
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_DATA_LOG_LEVEL": "WARNING",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "1",
    # Many small actors on few cores are meant; the raylet would print advice to standard output.
    "RAY_DEDUP_LOGS_SKIP_REGEX": "PYTHON worker processes have been started",
    # Below fatal, Ray's core writes to this process's standard error, past Python's logging.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    "TOKENIZERS_PARALLELISM": "false",
}
_OWN = {
    # Ray's workers give way to every other process (niceness 15), so that thousands of them do not starve its head.
    # Here they would wait for whatever else runs: beside one busy program a training began after 89 s, not after 27.
    "RAY_worker_niceness": "0",
    # Before it reads Parquet, Ray Data starts this many processes to look at the files' last bytes. Its 32 took 8 to
    # 25 s of CPU time for each read on two cores; one does it in a second.
    "RAY_DATA_PARQUET_FOOTER_NUM_ACTORS": "1",
    # A process beside every training that watches for machines which a cloud takes back; 2 s of CPU time.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}
"""For a Ray of our own, on one machine and often on few cores; a cluster that is joined keeps its settings."""


@dataclass(frozen=True, kw_only=True)
class RayCluster:
    """The Ray this process is connected to."""

    address: str
    cpus: float
    gpus: float
    is_local: bool
    """Whether it was started by us and ends with us."""


@contextmanager
def start_local(
    num_cpus: int | None = None,
    *,
    num_gpus: int | None = None,
    object_store_mib: int = 512,
    dashboard: bool = False,
    show_worker_logs: bool = False,
) -> Iterator[RayCluster]:
    """A Ray of our own for the body of the ``with``; afterwards none of its processes is left.

    ``num_cpus`` are logical (default: one a core); ask for more of them than there are cores when
    the actors mostly wait. Call it from the main thread: Ray's processes end with the thread that
    started them. They also end when this process is killed.
    """
    if num_cpus is not None and num_cpus < 1:
        raise ConfigError(f"num_cpus must be at least 1, got {num_cpus}")
    prepare_environment()
    for name, value in _OWN.items():
        os.environ.setdefault(name, value)
    if "ray" not in sys.modules:
        # Once imported, Ray no longer looks at this variable, and turns tokens on by itself when it is unset.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    if os.environ.get("RAY_AUTH_MODE", "token") == "token" and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        # Ray would write one to the home folder, readable by all, where it may not even write.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import ray

    if ray.is_initialized():
        raise ConfigError("this process is connected to a Ray already; leave that one before starting another")
    folder, lock = _make_folder()
    is_failed = False
    reaper = _start_reaper()

    def start() -> None:
        with _core_keeps_to_itself():
            ray.init(
                address="local",
                num_cpus=num_cpus,
                num_gpus=num_gpus,
                object_store_memory=object_store_mib * 2**20,
                include_dashboard=dashboard,
                _temp_dir=str(folder),
                logging_level="error",
                log_to_driver=show_worker_logs,
            )

    try:
        started_on_busy_machine(start, lambda: _stop(folder, grace_s=0))
        _brief(reaper, _processes_of(folder))
        yield _describe(is_local=True)
    except Exception:
        is_failed = True
        raise
    finally:
        _stop(folder)
        reaper.communicate()
        os.close(lock)
        if is_failed:
            get_logger(__name__).info("ray logs kept", folder=str(folder))
        else:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def connect(address: str = "auto", *, show_worker_logs: bool = False) -> Iterator[RayCluster]:
    """Join the Ray at ``address`` (``auto``: the one of this node or of ``RAY_ADDRESS``) and leave it at the end.

    Raises ConfigError when there is none.
    """
    prepare_environment()
    import ray

    try:
        with _core_keeps_to_itself():
            ray.init(address=address, logging_level="error", log_to_driver=show_worker_logs)
    except ConnectionError as error:
        raise ConfigError(f"no Ray answers at {address!r}: {error}; start one, or leave the address out") from error
    try:
        yield _describe(is_local=False)
    finally:
        ray.shutdown()


@contextmanager
def ray_session(address: str | None = None, *, num_cpus: int | None = None) -> Iterator[RayCluster]:
    """The Ray this process is connected to, else the one at ``address``, else one of our own."""
    prepare_environment()
    import ray

    if ray.is_initialized():
        yield _describe(is_local=False)
    elif address is not None:
        with connect(address) as cluster:
            yield cluster
    else:
        with start_local(num_cpus) as cluster:
            yield cluster


def prepare_environment() -> None:
    """Make Ray and the libraries around it quiet, in this process and those it starts; before Ray is imported."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    quiet_libraries()


def require_cpus(cluster: RayCluster, needed: float, *, wanted_by: str) -> None:
    """Raise ConfigError when ``wanted_by`` needs more logical CPUs than there are: it would wait for ever."""
    if needed > cluster.cpus:
        raise ConfigError(
            f"{wanted_by} needs {needed:g} CPUs and the Ray cluster has {cluster.cpus:g}; "
            "ask for fewer actors or start Ray with more CPUs"
        )


def started_on_busy_machine(start: Callable[[], None], clear: Callable[[], None], *, tries: int = 3) -> None:
    """Call ``start`` until Ray is up; ``clear`` ends what a start that took too long has left.

    Ray gives its processes 30 s to start and has no knob for it; too little on a starved machine. What the first try
    has read from disk the next one finds in memory. Raises StagebeamError when the last one took too long too.
    """
    for left in reversed(range(tries)):
        try:
            start()
        except Exception as error:
            if "timed out during startup" not in str(error):
                raise
            if left == 0:
                load = os.getloadavg()[0]
                raise StagebeamError(
                    f"Ray did not start within its 30 s, {tries} times: the machine is too busy (load {load:.1f} on "
                    f"{os.cpu_count()} cores); run the same command again when it is quieter"
                ) from error
            clear()
        else:
            return


@contextmanager
def _core_keeps_to_itself() -> Iterator[None]:
    """While Ray starts: nothing reaches standard error, and the caller's handlers of SIGINT and SIGTERM stay.

    Told by ``RAY_BACKEND_LOG_LEVEL`` to be quiet, Ray's core says that it obeys; what goes wrong is
    raised, not written. Its own handler writes a stack dump and ends the process with code 15. A signal
    that comes meanwhile is heard at the end of the block: a Ray that has started ends in 2 s, half of one
    in 15 s, and sometimes it took this process along (SIGSEGV).
    """
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    noted: list[int] = []
    is_main = threading.current_thread() is threading.main_thread()
    handlers = {
        number: signal.signal(number, lambda number, _frame: noted.append(number))
        for number in ((signal.SIGINT, signal.SIGTERM) if is_main else ())
    }
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if noted:
            signal.raise_signal(noted[0])


def _describe(*, is_local: bool) -> RayCluster:
    import ray

    resources = ray.cluster_resources()
    return RayCluster(
        address=ray.get_runtime_context().gcs_address,
        cpus=float(resources.get("CPU", 0)),
        gpus=float(resources.get("GPU", 0)),
        is_local=is_local,
    )


def _make_folder() -> tuple[Path, int]:
    """A new folder, and the lock in it that says that its owner lives. Sweeps folders of owners that were killed."""
    root = Path(tempfile.gettempdir())
    if len(str(root)) > _LONGEST_ROOT:
        root = Path("/tmp")
    _sweep(root)
    folder = Path(tempfile.mkdtemp(prefix=_FOLDER_PREFIX, dir=root))
    lock = os.open(folder / _ALIVE_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return folder, lock


def _sweep(root: Path) -> None:
    for folder in root.glob(f"{_FOLDER_PREFIX}*"):
        alive = folder / _ALIVE_FILE
        try:
            if time.time() - alive.stat().st_mtime < _SWEEP_AFTER_S or alive.stat().st_uid != os.getuid():
                continue
            lock = os.open(alive, os.O_RDWR)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)


def _start_reaper() -> subprocess.Popen[str]:
    """A process that outlives this one if it is killed, to end what is left of its Ray then."""
    return subprocess.Popen(
        [sys.executable, "-m", "cluster.reaper"], stdin=subprocess.PIPE, start_new_session=True, text=True
    )


def _brief(reaper: subprocess.Popen[str], processes: list[psutil.Process]) -> None:
    assert reaper.stdin is not None
    reaper.stdin.write(json.dumps([[process.pid, process.create_time()] for process in processes]) + "\n")
    reaper.stdin.flush()


def _stop(folder: Path, *, grace_s: float = _STOP_GRACE_S) -> None:
    """Shut Ray down and wait for its processes; those that do not go are ended, by id."""
    import ray

    started = _processes_of(folder)
    ray.shutdown()
    _, left = psutil.wait_procs(started, timeout=grace_s)
    for process in left:
        with _gone_is_fine():
            process.terminate()
    _, left = psutil.wait_procs(left, timeout=3)
    for process in left:
        with _gone_is_fine():
            process.kill()
    psutil.wait_procs(left, timeout=3)


def _processes_of(folder: Path) -> list[psutil.Process]:
    """Our children that name ``folder`` on their command line, and all that descend from them."""
    found: dict[int, psutil.Process] = {}
    for child in psutil.Process().children():
        with _gone_is_fine():
            if any(str(folder) in part for part in child.cmdline()):
                found[child.pid] = child
                found.update((p.pid, p) for p in child.children(recursive=True))
    return list(found.values())


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    """Whether a process ended a moment ago makes no difference to one who wants it ended."""
    try:
        yield
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return
