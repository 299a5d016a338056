"""The search strategies. ``run_search`` answers one question; ``config`` and ``result`` are its edges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reasoning.search.run import run_search

__all__ = ["run_search"]


def __getattr__(name: str) -> Any:
    # Deferred: the prompts need search.config, and the search needs the prompts.
    if name == "run_search":
        from reasoning.search.run import run_search

        return run_search
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
