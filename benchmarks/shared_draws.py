"""One engine for many searches of one question: what two of them would draw alike is drawn once.

A seed says what is drawn, so that best-of-4 draws the first four of best-of-16's answers. Each
search is told the tokens that it would have computed alone: prefixes are looked up in a radix tree
of its own, as the engine does. ``search_quality --check`` compares that with searches run alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from actors.engines.prefix_tree import PrefixTree
from reasoning.ledger import Usage
from reasoning.protocols import (
    ChoiceReply,
    ChoiceRequest,
    Continuation,
    ContinuationReply,
    ContinuationRequest,
    Engine,
    StopReason,
)

Encode = Callable[[ContinuationRequest | ChoiceRequest, str], list[int]]
"""Token ids of a request whose prefix goes on with a text."""


class SharedDraws:
    """What was drawn and judged for one question, by one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._drawn: dict[ContinuationRequest, Continuation] = {}
        self._chosen: dict[ChoiceRequest, ChoiceReply] = {}

    async def continuations(self, requests: Sequence[ContinuationRequest]) -> list[tuple[Continuation, ...]]:
        """Those of each request in the order of its seeds; the missing ones are drawn in one batch."""
        singles = [[replace(request, seeds=(seed,)) for seed in request.seeds] for request in requests]
        missing: dict[ContinuationRequest, list[int]] = {}
        for request, ones in zip(requests, singles, strict=True):
            bare = replace(request, seeds=())
            known = missing.setdefault(bare, [])
            known += [one.seeds[0] for one in ones if one not in self._drawn and one.seeds[0] not in known]
        wanted = [replace(bare, seeds=tuple(seeds)) for bare, seeds in missing.items() if seeds]
        for request, reply in zip(wanted, await self._engine.generate(wanted) if wanted else [], strict=True):
            for seed, said in zip(request.seeds, reply.continuations, strict=True):
                self._drawn[replace(request, seeds=(seed,))] = said
        return [tuple(self._drawn[one] for one in ones) for ones in singles]

    async def choices(self, requests: Sequence[ChoiceRequest]) -> list[ChoiceReply]:
        """Replies in the order of the requests; those not known are asked in one batch."""
        missing = list(dict.fromkeys(request for request in requests if request not in self._chosen))
        replies = await self._engine.choose(missing) if missing else []
        self._chosen.update(zip(missing, replies, strict=True))
        return [self._chosen[request] for request in requests]


class AsIfAlone:
    """An engine for one search, with the costs it would have had by itself."""

    def __init__(self, draws: SharedDraws, encode: Encode) -> None:
        self._draws = draws
        self._encode = encode
        self._prefixes = PrefixTree(1)
        self._has_seen = False

    async def generate(self, requests: Sequence[ContinuationRequest]) -> list[ContinuationReply]:
        drawn = await self._draws.continuations(requests)
        usages = [self._prompt(request) for request in requests]
        for request, ones in zip(requests, drawn, strict=True):
            for one in ones:
                if one.stop is not StopReason.EOS:
                    # The last token was drawn, but has not been through the model.
                    self._remember(self._encode(request, one.text)[:-1])
        return [
            ContinuationReply(
                continuations=ones, usage=replace(usage, generated_tokens=sum(one.tokens for one in ones))
            )
            for ones, usage in zip(drawn, usages, strict=True)
        ]

    async def choose(self, requests: Sequence[ChoiceRequest]) -> list[ChoiceReply]:
        replies = await self._draws.choices(requests)
        return [replace(reply, usage=self._prompt(request)) for request, reply in zip(requests, replies, strict=True)]

    def _prompt(self, request: ContinuationRequest | ChoiceRequest) -> Usage:
        if isinstance(request, ChoiceRequest):
            first, second = (self._encode(request, option) for option in request.options[:2])
            shared = next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), len(first))
            ids = first[:shared]
        else:
            ids = self._encode(request, "")
        cached, _ = self._prefixes.match("", np.asarray(ids[:-1], dtype=np.int64))
        self._remember(ids)
        encodes = int(request.image is not None and not self._has_seen)
        self._has_seen = self._has_seen or request.image is not None
        return Usage(prompt_tokens=len(ids), cached_tokens=cached, generated_tokens=0, image_encodes=encodes)

    def _remember(self, ids: list[int]) -> None:
        array = np.asarray(ids, dtype=np.int64)
        start = self._prefixes.missing_from("", array)
        # Segments of no size: only which ids are known matters here.
        self._prefixes.insert("", array, start, torch.empty(0, 0, 0, len(ids) - start, 0))
