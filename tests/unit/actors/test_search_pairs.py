"""Every strategy with every selector and scorer, by the real engine on a tiny model that knows the four stages."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Iterator
from itertools import product

import pytest
from PIL import Image

from actors.engines.config import TransformersEngineConfig
from actors.engines.taught import QUESTION, build_taught_mllama
from actors.engines.transformers_engine import TransformersEngine
from reasoning.errors import ConfigError
from reasoning.protocols import Sampling
from reasoning.records import ImageRef, Question
from reasoning.search import run_search
from reasoning.search.config import PromptStyle, Retrace, ScorerKind, SearchConfig, SelectorKind, Strategy
from reasoning.search.result import SearchResult
from reasoning.testing import ScriptedRewarder

PICKING = (Strategy.BEST_OF_N, Strategy.STAGE_BEAM, Strategy.SUBTREES, Strategy.SENTENCE_BEAM)
"""Strategies that ask their selector."""
SCORING = (SelectorKind.SCORE, SelectorKind.WEIGHTED_VOTE, SelectorKind.POSTERIOR)
"""Selectors that ask their scorer."""
OF_WHOLE_ANSWERS = (SelectorKind.VOTE, SelectorKind.WEIGHTED_VOTE)
IN_STAGES = (Strategy.STAGE_BEAM, Strategy.SUBTREES, Strategy.SENTENCE_BEAM)
REFUSED = set(product(IN_STAGES, OF_WHOLE_ANSWERS))
PAIRS = [
    *((strategy, selector, ScorerKind.RATING) for strategy, selector in product(Strategy, SelectorKind)),
    *((*pair, scorer) for pair in product(PICKING, SCORING) for scorer in ScorerKind if scorer != ScorerKind.RATING),
    *((Strategy.SWIRES, SelectorKind.SCORE, scorer) for scorer in ScorerKind if scorer != ScorerKind.RATING),
]
ALLOWED = [pair for pair in PAIRS if pair[:2] not in REFUSED]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TransformersEngine]:
    folder = tmp_path_factory.mktemp("taught")
    build_taught_mllama(folder)
    with TransformersEngine(TransformersEngineConfig(model=str(folder))) as engine:
        yield engine


@pytest.fixture(scope="module")
def verdicts() -> list[tuple[bool, str]]:
    """Of each search whose judge wrote: whether it came to an answer, and what the judge wrote."""
    return []


def question() -> Question:
    stream = io.BytesIO()
    Image.new("RGB", (32, 32), "gray").save(stream, "PNG")
    return Question(id="q", question=QUESTION, image=ImageRef(data=stream.getvalue()))


def search(engine: TransformersEngine, config: SearchConfig) -> SearchResult:
    rewarder = ScriptedRewarder(lambda text: float(len(text)))
    return asyncio.run(
        run_search(question(), config, generator=engine, judge=engine, rewarder=rewarder, clock=time.monotonic)
    )


def configured(strategy: Strategy, selector: SelectorKind, scorer: ScorerKind) -> SearchConfig:
    return SearchConfig(
        strategy=strategy,
        selector=selector,
        scorer=scorer,
        samples=4 if strategy in (Strategy.BEST_OF_N, Strategy.STAGE_BEAM, Strategy.SUBTREES) else 2,
        retrace=Retrace(captions=2, kept=1, rounds=2, cutoff=9.0),
        prompt_style=PromptStyle.COMPACT,
        sampling=Sampling(temperature=1.0, top_p=1.0, max_new_tokens=72),
    )


def tree(result: SearchResult) -> tuple[object, ...]:
    """What was written, kept, compared and chosen."""
    written = tuple((c.id, c.parent, c.text, c.stop, c.seed, c.fault, c.is_kept) for c in result.trace.candidates)
    met = tuple((one.first, one.second, one.verdict, one.reply) for one in result.trace.comparisons)
    return written, met, result.trace.chosen, result.conclusion, result.fault


@pytest.mark.parametrize(("strategy", "selector", "scorer"), ALLOWED)
def test_pair_answers_accounts_for_its_cost_and_does_the_same_again(
    engine: TransformersEngine,
    verdicts: list[tuple[bool, str]],
    strategy: Strategy,
    selector: SelectorKind,
    scorer: ScorerKind,
) -> None:
    config = configured(strategy, selector, scorer)
    result = search(engine, config)
    assert (result.conclusion is None) != (result.fault is None)
    assert (result.trace.chosen == ()) == (result.fault is not None)
    ledger = result.ledger
    assert ledger.generated_tokens == sum(candidate.tokens for candidate in result.trace.candidates)
    assert ledger.computed_tokens == sum(step.tokens for step in result.trace.steps)
    assert ledger.serial_steps >= len(result.trace.steps)
    if result.trace.comparisons:
        assert ledger.judge_tokens > 0
    if strategy in PICKING and selector in SCORING and scorer is ScorerKind.REWARD:
        assert ledger.judge_tokens == 0
    if scorer is ScorerKind.RATING:
        # Once for each pair of strategy and selector: who scores draws nothing.
        assert tree(search(engine, config)) == tree(result)
    verdicts += [(result.fault is None, one.reply) for one in result.trace.comparisons if one.reply]


@pytest.mark.parametrize(("strategy", "selector"), sorted(REFUSED))
def test_pair_that_makes_no_sense_is_refused_in_words(strategy: Strategy, selector: SelectorKind) -> None:
    with pytest.raises(ConfigError, match=f"'{selector}' counts whole answers; with {strategy} take another selector"):
        configured(strategy, selector, ScorerKind.RATING)


def test_the_tiny_model_comes_to_answers_and_to_verdicts_that_can_be_read(
    engine: TransformersEngine, verdicts: list[tuple[bool, str]]
) -> None:
    # What the pairs are worth: with a model that writes nothing usable they would all end at once.
    if not verdicts:
        found = search(engine, configured(Strategy.STAGE_BEAM, SelectorKind.JUDGE_TEXT, ScorerKind.RATING))
        verdicts += [(found.fault is None, one.reply) for one in found.trace.comparisons]
    assert sum(is_answered for is_answered, _ in verdicts) > len(verdicts) / 2 > 0
    assert sum("I choose response" in reply for _, reply in verdicts) > len(verdicts) / 2
