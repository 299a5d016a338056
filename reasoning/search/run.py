"""Answer one question by the strategy its configuration names.

The only awaits are those of the engines, so that many questions can be searched at once in one
event loop. Same question, same configuration, same engine: same tree.
"""

from __future__ import annotations

from collections.abc import Callable

from reasoning.protocols import Engine, Generator, Rewarder
from reasoning.records import Question
from reasoning.search.beam import answer_by_stages, answer_by_subtrees
from reasoning.search.config import SearchConfig, Strategy
from reasoning.search.notebook import Notebook
from reasoning.search.parts import build_scorer, build_selector
from reasoning.search.result import SearchResult
from reasoning.search.retrace import answer_by_retracing
from reasoning.search.sentences import answer_by_sentences
from reasoning.search.whole import answer_directly, answer_whole, greedy
from reasoning.selectors import Likeliest, MostVotes


async def run_search(
    question: Question,
    config: SearchConfig,
    *,
    generator: Generator,
    judge: Engine | None = None,
    rewarder: Rewarder | None = None,
    clock: Callable[[], float],
) -> SearchResult:
    """The answer to ``question``, with its trace and its cost.

    ``judge`` and ``rewarder`` are asked by the selectors and scorers that need them. ``clock`` gives
    seconds from any zero. Text that cannot be used becomes a result with a fault; raises EngineError
    when the generator is lost (or the judge, without ``judge_fallback``) and ConfigError when the
    selector needs what was not given.
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
            selector = build_selector(config, judge, rewarder)
            return await answer_whole(book, selector, samples=config.samples, sampling=sampling)
        case Strategy.STAGE_BEAM:
            return await answer_by_stages(book, build_selector(config, judge, rewarder))
        case Strategy.SUBTREES:
            return await answer_by_subtrees(book, build_selector(config, judge, rewarder))
        case Strategy.SENTENCE_BEAM:
            return await answer_by_sentences(book, build_selector(config, judge, rewarder))
        case Strategy.SWIRES:
            return await answer_by_retracing(book, build_scorer(config, judge, rewarder))
