"""The public fake keeps the promises of the Protocols."""

from __future__ import annotations

import asyncio

import pytest
from search_cases import answer

from reasoning.errors import EngineError
from reasoning.protocols import ChoiceRequest, Continuation, ContinuationRequest, Engine, Sampling, StopReason
from reasoning.testing import ScriptedEngine, judged_texts, reciting


def written(engine: Engine, prefix: str = "", stops: tuple[str, ...] = (), limit: int = 100) -> Continuation:
    request = ContinuationRequest(
        prompt="?", image=None, prefix=prefix, stops=stops, seeds=(5,), sampling=Sampling(max_new_tokens=limit)
    )
    [reply] = asyncio.run(engine.generate([request]))
    return reply.continuations[0]


def test_stop_text_ends_the_text_and_is_kept() -> None:
    said = written(ScriptedEngine(lambda *_: "a </X> b </X>"), stops=("</X>", "b"))
    assert (said.text, said.stop, said.seed) == ("a </X>", StopReason.TAG, 5)


def test_token_limit_holds() -> None:
    said = written(ScriptedEngine(lambda *_: "a b c d"), limit=2)
    assert (said.text, said.stop, said.tokens) == ("a b", StopReason.LENGTH, 2)


def test_end_of_turn_and_giving_up() -> None:
    assert written(ScriptedEngine(lambda *_: "a b")).stop is StopReason.EOS
    assert written(ScriptedEngine(lambda *_: None)).stop is StopReason.ABORTED


def test_reciting_goes_on_from_the_prefix() -> None:
    start = answer(2)[:20]
    assert written(ScriptedEngine(reciting(answer(1), answer(2))), prefix=start).text == answer(2)[20:]
    with pytest.raises(EngineError, match="begins with"):
        written(ScriptedEngine(reciting(answer(1))), prefix="other")


def test_what_has_no_script_is_an_error() -> None:
    with pytest.raises(EngineError, match="nothing to write"):
        written(ScriptedEngine())
    request = ChoiceRequest(prompt="x", image=None, prefix="", options=("1", "2"))
    with pytest.raises(EngineError, match="no preference"):
        asyncio.run(ScriptedEngine().choose([request]))
    with pytest.raises(EngineError, match="not a judge prompt"):
        judged_texts("x")
