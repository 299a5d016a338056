"""From an engine's settings to the engine: the one place that knows all of them.

What an engine needs is imported when it is built, so that none has to be installed for another.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from actors.engines.config import EngineConfig, OpenAIEngineConfig, TransformersEngineConfig, VllmEngineConfig
from reasoning.protocols import Engine


class OwnedEngine(Engine, Protocol):
    """An engine with something to give back: a thread, a process, connections."""

    async def aclose(self) -> None:
        """Give it back; unfinished requests fail with EngineError."""
        ...


def build_engine(config: EngineConfig) -> OwnedEngine:
    """The engine that ``config`` describes, for use on one event loop.

    Raises EngineError when its model cannot be loaded, ConfigError when its key is not there. An
    endpoint is first asked when the engine is.
    """
    match config:
        case TransformersEngineConfig():
            from actors.engines.transformers_engine import TransformersEngine

            return TransformersEngine(config)
        case VllmEngineConfig():
            from actors.engines.vllm_engine import VllmEngine

            return VllmEngine(config)
        case OpenAIEngineConfig():
            from actors.engines.openai_engine import OpenAIEngine

            return OpenAIEngine(config)


@asynccontextmanager
async def open_engine(config: EngineConfig) -> AsyncIterator[Engine]:
    """The engine for the body of the ``async with``; raises as ``build_engine`` does."""
    engine = build_engine(config)
    try:
        yield engine
    finally:
        await engine.aclose()
