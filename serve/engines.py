"""The engine that a replica runs, from the service's config. Loads models: worker processes only."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from actors.engines.build import build_engine
from reasoning.protocols import ChoiceReply, ChoiceRequest, ContinuationReply, ContinuationRequest, Engine
from reasoning.testing import ScriptedEngine, reciting
from serve.config import EngineKind, PoolConfig, ScriptConfig, ServeConfig


def build_replica_engine(config: ServeConfig, pool: PoolConfig) -> Engine:
    """The engine of one replica of ``pool``; raises EngineError when its model cannot be loaded."""
    if config.engine is EngineKind.SCRIPTED:
        return RecitingEngine(config.script)
    return build_engine(config.engine_of(pool))


class RecitingEngine:
    """Gives the script's answers in turn, after its delay, and prefers the longer text."""

    def __init__(self, script: ScriptConfig) -> None:
        self._script = script

    async def generate(self, requests: Sequence[ContinuationRequest]) -> list[ContinuationReply]:
        await asyncio.sleep(self._script.delay_s)
        return await self._engine().generate(requests)

    async def choose(self, requests: Sequence[ChoiceRequest]) -> list[ChoiceReply]:
        await asyncio.sleep(self._script.delay_s)
        return await self._engine().choose(requests)

    def _engine(self) -> ScriptedEngine:
        # A new one each time, since it remembers all that it was asked.
        return ScriptedEngine(reciting(*self._script.answers), prefer=lambda a, b: float(len(a) - len(b)))
