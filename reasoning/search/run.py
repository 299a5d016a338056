"""Answer one question by the strategy its configuration names.

The only awaits are those of the engines, so that many questions can be searched at once in one
event loop. Same question, same configuration, same engine: same tree.
"""

from __future__ import annotations

from collections.abc import Callable

from reasoning.protocols import Engine, Generator
from reasoning.records import Question
from reasoning.search.beam import answer_by_stages
from reasoning.search.config import SearchConfig, Strategy
from reasoning.search.notebook import Notebook
from reasoning.search.result import SearchResult
from reasoning.search.whole import answer_directly, answer_whole, greedy
from reasoning.selectors import Likeliest, MostVotes, build_selector


async def run_search(
    question: Question,
    config: SearchConfig,
    *,
    generator: Generator,
    judge: Engine | None = None,
    clock: Callable[[], float],
) -> SearchResult:
    """The answer to ``question``, with its trace and its cost.

    ``judge`` is asked by the judging selectors only. ``clock`` gives seconds from any zero. Text that
    cannot be used becomes a result with a fault; raises EngineError when an engine is lost and
    ConfigError when the selector needs a judge and none was given.
    """
    book = Notebook(question, config, generator, clock)
    sampling = config.sampling
    match config.strategy:
        case Strategy.DIRECT:
            return await answer_directly(book)
        case Strategy.GREEDY:
            return await answer_whole(book, Likeliest(), samples=1, sampling=greedy(sampling))
        case Strategy.SELF_CONSISTENCY:
            return await answer_whole(book, MostVotes(), samples=config.samples, sampling=sampling)
        case Strategy.BEST_OF_N:
            selector = build_selector(config, judge)
            return await answer_whole(book, selector, samples=config.samples, sampling=sampling)
        case Strategy.STAGE_BEAM:
            return await answer_by_stages(book, build_selector(config, judge))
