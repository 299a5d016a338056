"""Connections to OpenAI-compatible endpoints, made one way for teachers and engines."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlparse

from cluster.secrets import Secret

if TYPE_CHECKING:
    import openai

_KEEP_ALIVE_S = 4.0
"""Shorter than the 5 s after which common servers close an idle connection: none is written to as it closes."""


def open_client(
    base_url: str, api_key: Secret | None, *, timeout_s: float, max_retries: int, max_in_flight: int
) -> openai.AsyncOpenAI:
    """A client that keeps ``max_in_flight`` connections; whoever uses it opens no more calls than that at a time.

    Its transport is aiohttp's: the package's default one takes half as much CPU time again
    (benchmarks/annotate_throughput.md).
    """
    import httpx2
    import openai

    return openai.AsyncOpenAI(
        base_url=base_url,
        api_key=api_key.reveal() if api_key else "none",
        max_retries=max_retries,
        timeout=timeout_s,
        http_client=openai.DefaultAioHttpClient(
            # Without a number aiohttp keeps to a hundred connections.
            limits=httpx2.Limits(
                max_connections=max_in_flight,
                max_keepalive_connections=max_in_flight,
                keepalive_expiry=_KEEP_ALIVE_S,
            ),
            # A proxy named in the environment cannot reach a loopback address.
            trust_env=not is_loopback(base_url),
        ),
    )


def is_loopback(base_url: str) -> bool:
    """Whether the address is this machine's own."""
    host = urlparse(base_url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")
