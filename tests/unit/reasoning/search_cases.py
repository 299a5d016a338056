"""Questions, answers and a way to run a search, shared by the tests of the search."""

from __future__ import annotations

import asyncio
from typing import Any

from reasoning.records import AnswerType, Question
from reasoning.search import run_search
from reasoning.search.config import SearchConfig, SelectorKind
from reasoning.search.result import SearchResult
from reasoning.stages import FourStages
from reasoning.testing import ScriptedEngine

QUESTION = Question(id="q1", question="How many cubes are there?", answer_type=AnswerType.NUMBER)


def four_stages(mark: object, conclusion: str | None = None) -> FourStages:
    """An answer of which every stage carries ``mark``."""
    return FourStages(
        summary=f"plan {mark}",
        caption=f"cubes {mark}",
        reasoning=f"counting {mark}",
        conclusion=conclusion if conclusion is not None else f"{mark}",
    )


def answer(mark: object, conclusion: str | None = None) -> str:
    return four_stages(mark, conclusion).render()


def search(engine: ScriptedEngine, question: Question = QUESTION, **settings: Any) -> SearchResult:
    """One search with ``engine`` as generator and judge; each batch takes one second."""
    # The judge is what most of these tests are about; the default asks none.
    config = SearchConfig(**{"selector": SelectorKind.JUDGE_LOGPROB, **settings})
    return asyncio.run(
        run_search(question, config, generator=engine, judge=engine, clock=lambda: float(len(engine.batches)))
    )


def larger_number(first: str, second: str) -> float:
    """A judge's taste: the text with the larger last number."""
    return float(int(first.split()[-1]) - int(second.split()[-1]))
