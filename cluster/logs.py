"""Logs: structlog to standard error, quiet unless asked, never a secret.

Results and progress are no logs: the front door prints those.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

import structlog
from structlog.typing import EventDict, WrappedLogger

from cluster.secrets import HIDDEN, Secret
from reasoning.errors import ConfigError

_SECRET_KEY = re.compile(
    r"(^|_)(api_?key|secret|password|passwd|authorization|auth|credentials?|((access|auth|api|bearer|refresh)_)?token)$",
    re.IGNORECASE,
)
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure_logging(level: str = "warning", *, as_json: bool = False) -> None:
    """Send this process's logs of ``level`` and above to standard error, as lines or as JSON.

    Raises ConfigError for a level that is not one of debug, info, warning, error.
    """
    if level not in _LEVELS:
        raise ConfigError(f"log level must be one of {', '.join(_LEVELS)}, got {level!r}")
    renderer: Any = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            hide_secrets,
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=_stderr_logger,
        cache_logger_on_first_use=False,
    )


def get_logger(name: str) -> Any:
    """A logger whose lines carry ``name``; quiet below warnings until ``configure_logging`` says otherwise."""
    if not structlog.is_configured():
        configure_logging()
    return structlog.get_logger(component=name)


def hide_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace what is a Secret or stands under a secret's name (``api_key``, ``token``, ``password`` …)."""
    return {key: _hidden(key, value) for key, value in event.items()}


def quiet_libraries() -> None:
    """Keep the chatter of HTTP and Ray libraries below warnings off standard error."""
    for name in ("httpx", "httpx2", "httpcore", "httpcore2", "openai", "asyncio", "ray", "ray.data", "ray.serve"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It warns that progress bars are off, which is how we want them.
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)


def _hidden(key: str, value: Any) -> Any:
    if isinstance(value, Secret) or (_SECRET_KEY.search(key) and value is not None):
        return HIDDEN
    if isinstance(value, dict):
        return {k: _hidden(str(k), v) for k, v in value.items()}
    return value


def _stderr_logger(*_args: Any) -> Any:
    return structlog.PrintLogger(sys.stderr)
