"""Connections to OpenAI-compatible endpoints, made one way for teachers and engines."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlparse

from cluster.secrets import Secret

if TYPE_CHECKING:
    import openai


def open_client(
    base_url: str, api_key: Secret | None, *, timeout_s: float, max_retries: int, max_in_flight: int
) -> openai.AsyncOpenAI:
    """A client that keeps ``max_in_flight`` connections; whoever uses it opens no more calls than that at a time."""
    import httpx2
    import openai

    return openai.AsyncOpenAI(
        base_url=base_url,
        api_key=api_key.reveal() if api_key else "none",
        max_retries=max_retries,
        timeout=timeout_s,
        http_client=openai.DefaultAsyncHttpxClient(
            # No limit of its own: calls that queue for a connection cost several times their CPU time.
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=max_in_flight),
            # A proxy named in the environment cannot reach a loopback address.
            trust_env=not is_loopback(base_url),
        ),
    )


def is_loopback(base_url: str) -> bool:
    """Whether the address is this machine's own."""
    host = urlparse(base_url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")
