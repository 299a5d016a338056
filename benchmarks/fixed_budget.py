"""An engine whose candidates all have the same length: for measuring with random weights.

Such a model never writes a closing tag. Each candidate runs to its token budget; then its tags are
put around it, so that the search goes on as with a model that has learned them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reasoning.protocols import (
    ChoiceReply,
    ChoiceRequest,
    ContinuationReply,
    ContinuationRequest,
    Engine,
    StopReason,
)


class FixedBudget:
    """``budget`` tokens for each candidate, ``judge_budget`` for what a judge writes."""

    def __init__(self, engine: Engine, budget: int, judge_budget: int) -> None:
        self._engine = engine
        self._budget = budget
        self._judge_budget = judge_budget

    async def generate(self, requests: Sequence[ContinuationRequest]) -> list[ContinuationReply]:
        replies = await self._engine.generate([self._limited(request) for request in requests])
        return [_tagged(request, reply) for request, reply in zip(requests, replies, strict=True)]

    async def choose(self, requests: Sequence[ChoiceRequest]) -> list[ChoiceReply]:
        return await self._engine.choose(requests)

    def _limited(self, request: ContinuationRequest) -> ContinuationRequest:
        tokens = self._budget if request.stops else self._judge_budget
        return replace(request, stops=(), sampling=replace(request.sampling, max_new_tokens=tokens))


def _tagged(request: ContinuationRequest, reply: ContinuationReply) -> ContinuationReply:
    if not request.stops or request.stage is None:
        return reply
    around = (request.stage.open_tag, request.stage.close_tag)
    texts = (
        # The number keeps candidates apart that random weights made alike.
        replace(one, text=f"{around[0]} {place} {one.text} {around[1]}", stop=StopReason.TAG)
        for place, one in enumerate(reply.continuations)
    )
    return replace(reply, continuations=tuple(texts))
