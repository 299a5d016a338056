"""Start a service, wait until it answers, and stop it again, leaving nothing behind."""

from __future__ import annotations

import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TextIO, cast

from ray import serve
from ray.serve import RunTarget
from ray.serve.config import HTTPOptions, ProxyLocation
from ray.serve.schema import ApplicationStatus, ApplicationStatusOverview, DeploymentStatus, LoggingConfig

from actors.fingerprints import models_of
from actors.rewards.calibration import calibrated, differences, read_calibration
from cluster.connect import ray_session, require_cpus
from cluster.logs import get_logger
from reasoning.errors import ConfigError, EngineError, InputError, PortInUseError
from serve.app import build_app, cpus_needed, engine_pools, model_pools
from serve.client import is_healthy
from serve.config import EngineKind, PoolConfig, ServeConfig

APP_NAME = "stagebeam"
_POLL_S = 0.1
_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class ServeProgress:
    """How far a start has come: deployments that answer, of how many, and seconds so far."""

    ready: int
    total: int
    seconds: float


OnProgress = Callable[[ServeProgress], None]


@contextmanager
def run_serving(
    config: ServeConfig, on_progress: OnProgress | None = None, *, address: str | None = None
) -> Iterator[str]:
    """A service for the body of the ``with``; gives its base URL, which ends with ``/v1``.

    Runs in the Ray this process is connected to, else in the one at ``address``, else in one of its
    own. Raises before anything is started: PortInUseError, InputError (no model there), ConfigError
    (too few CPUs, Serve in use already); and EngineError when the models do not load in time.
    """
    check_port(config.host, config.port)
    _check_models(config)
    config = _calibrated(config)
    with ExitStack() as session:
        cluster = session.enter_context(ray_session(address))
        require_cpus(cluster, cpus_needed(config), wanted_by="the service")
        status = serve.status()
        if status.proxies or status.applications:
            raise ConfigError("Ray Serve runs in this Ray already; end that service, or start Ray anew")
        try:
            _start(config, on_progress)
            yield base_url(config)
        finally:
            with redirect_stdout(cast("TextIO", _WithoutControllerNoise(sys.stdout))):
                serve.shutdown()
                session.close()


class _WithoutControllerNoise:
    """Standard output, less the line that Ray prints when Serve's controller ends as it should."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_in_noise = False

    def write(self, text: str) -> int:
        is_noise = ("(raylet)" in text and "ServeController" in text) or (self._is_in_noise and text == "\n")
        self._is_in_noise = is_noise and text != "\n"
        return len(text) if is_noise else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def serve_until_stopped(
    config: ServeConfig,
    on_ready: Callable[[str], None],
    on_progress: OnProgress | None = None,
    *,
    address: str | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM; call it from the main thread. ``on_ready`` gets the base URL."""
    stopped = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopped.set()

    with run_serving(config, on_progress, address=address) as url:
        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            on_ready(url)
            stopped.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def base_url(config: ServeConfig) -> str:
    """The address for clients on this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.host, config.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{config.port}/v1"


def check_port(host: str, port: int) -> None:
    """Raise PortInUseError when something listens there, ConfigError when the host is not ours."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise ConfigError(f"ServeConfig.host {host!r} is no address of this machine: {error}") from error
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(where)
        except PermissionError as error:
            raise ConfigError(f"Port {port} needs more rights than this process has; take one above 1023") from error
        except OSError as error:
            raise PortInUseError(
                f"Port {port} on {host} is in use ({error.strerror}); end what listens there or set another port"
            ) from error


def _check_models(config: ServeConfig) -> None:
    if config.engine in (EngineKind.SCRIPTED, EngineKind.OPENAI):
        return
    for name, pool in engine_pools(config):
        folder = Path(config.engine_of(pool).model)
        if not (folder / "config.json").is_file():
            raise InputError(f"No model at {str(folder)!r} for {name}: config.json is missing; give a model's folder")


def _calibrated(config: ServeConfig) -> ServeConfig:
    """The service with its search's cutoff from its calibration file; warns when that is of other models."""
    if config.calibration is None:
        return config
    calibration = read_calibration(config.calibration)
    search = calibrated({"search": config.search}, calibration, source=config.calibration)["search"]
    if config.engine is not EngineKind.SCRIPTED:
        judge = None if config.judge_model is None else config.engine_of(PoolConfig(model=config.judge_model))
        here = models_of(engine=config.answerer, judge=judge, reward=config.reward)
        if others := differences(calibration.made_with, here):
            _log.warning("calibration_of_other_models", file=str(config.calibration), differs=others)
    return config.model_copy(update={"search": search})


def _start(config: ServeConfig, on_progress: OnProgress | None) -> None:
    started = time.monotonic()
    serve.start(
        proxy_location=ProxyLocation.HeadOnly,
        http_options=HTTPOptions(host=config.host, port=config.port),
        logging_config=LoggingConfig(log_level="WARNING", enable_access_log=False),
    )
    target = RunTarget(build_app(config), name=APP_NAME, route_prefix="/")
    serve.run_many([target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)
    seen: tuple[int, int] = (0, len(model_pools(config)) + 2)
    while True:
        seconds = time.monotonic() - started
        application = serve.status().applications.get(APP_NAME)
        if application is not None:
            ready = _count_ready(application)
            if on_progress is not None and (ready, seen[1]) != seen:
                on_progress(ServeProgress(ready=ready, total=seen[1], seconds=seconds))
            seen = (ready, seen[1])
            if application.status is ApplicationStatus.RUNNING and is_healthy(base_url(config)):
                _log.info("service_started", seconds=round(seconds, 1))
                return
        if seconds > config.start_timeout_s:
            raise EngineError(
                f"The service was not ready after {config.start_timeout_s:g} s ({seen[0]} of {seen[1]} deployments "
                "were); raise ServeConfig.start_timeout_s if the model is large"
            )
        time.sleep(_POLL_S)


def _count_ready(application: ApplicationStatusOverview) -> int:
    """How many deployments answer; raises EngineError when one has failed."""
    if application.status is ApplicationStatus.DEPLOY_FAILED:
        broken = {
            name: deployment.message.strip().splitlines()
            for name, deployment in application.deployments.items()
            if deployment.status is DeploymentStatus.DEPLOY_FAILED and deployment.message
        }
        reasons = [f"{name}: {lines[-1]}" for name, lines in broken.items()] or [application.message]
        raise EngineError(f"The service did not start. {'; '.join(reasons)}")
    return sum(deployment.status is DeploymentStatus.HEALTHY for deployment in application.deployments.values())
