"""Measure a judge by itself, on held-out pairs where the better response is known.

Each pair is asked in both orders, so that the judge's own skill, its taste for the first place and
its taste for length can be told apart. Asks an engine; reads and writes no files.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict

from pipelines.diagnostics import STAGE_ORDER, stage_name
from pipelines.measures import JudgeReport, Share, StageJudging, share_of
from reasoning.drafts import Draft
from reasoning.errors import ConfigError
from reasoning.judges import Contender, JudgeMode, PairwiseJudge
from reasoning.protocols import Engine
from reasoning.records import Question
from reasoning.scorers import Scorer
from reasoning.search.config import PromptStyle
from reasoning.stages import Stage
from reasoning.trace import Verdict

OVERALL = "all"


class JudgeCheckConfig(BaseModel):
    """How the judge is asked."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    mode: JudgeMode = JudgeMode.LOGPROB
    """By probabilities or by written verdict."""
    prompt_style: PromptStyle = PromptStyle.STANDARD
    """Wording of the judge's prompts; the one the model was trained on."""
    in_flight: int = 32
    """Pairs asked at the same time."""
    max_new_tokens: int = 96
    """Room for a written verdict."""
    model: str = "judge"
    """What the judge is called in tables."""


@dataclass(frozen=True, kw_only=True)
class JudgePair:
    """Two texts for one stage of one question, one better than the other."""

    question: Question
    stage: Stage | None
    """None: whole answers."""
    prior: Mapping[Stage, str] = field(default_factory=dict)
    """Texts of the stages before, for the judge's hint."""
    better: str
    worse: str


@dataclass(frozen=True, kw_only=True)
class PairOutcome:
    """One pair, asked in both orders: who was named with the better one first, then second."""

    stage: str
    better_chars: int
    worse_chars: int
    verdicts: tuple[Verdict, Verdict]
    p_better: float | None
    """Mean probability of the better one over both orders; None for written verdicts."""


async def judge_check(pairs: Sequence[JudgePair], engine: Engine, config: JudgeCheckConfig) -> JudgeReport:
    """Ask ``engine`` for its verdict on every pair in both orders and sum up.

    Raises ConfigError without pairs, EngineError when the engine is lost.
    """
    if not pairs:
        raise ConfigError("judge_check needs at least one pair; the judgement data gave none")
    gate = asyncio.Semaphore(config.in_flight)
    judge = PairwiseJudge(
        engine,
        mode=config.mode,
        style=config.prompt_style,
        both_orders=False,
        max_new_tokens=config.max_new_tokens,
    )

    async def ask(pair: JudgePair) -> PairOutcome:
        async with gate:
            return await _ask_both_orders(pair, judge)

    return summarise(await asyncio.gather(*(ask(pair) for pair in pairs)), model=config.model, mode=config.mode.value)


async def score_check(pairs: Sequence[JudgePair], scorer: Scorer, config: JudgeCheckConfig) -> JudgeReport:
    """The same for what scores each text by itself: the higher score is its verdict, in any order.

    Raises ConfigError without pairs, EngineError when the engine is lost.
    """
    if not pairs:
        raise ConfigError("score_check needs at least one pair; the judgement data gave none")
    gate = asyncio.Semaphore(config.in_flight)

    async def ask(pair: JudgePair) -> PairOutcome:
        async with gate:
            return await _score_both(pair, scorer)

    return summarise(await asyncio.gather(*(ask(pair) for pair in pairs)), model=config.model, mode=scorer.kind)


def summarise(outcomes: Sequence[PairOutcome], *, model: str, mode: str) -> JudgeReport:
    """Outcomes to the figures of all stages together and of each."""
    present = Counter(outcome.stage for outcome in outcomes)
    return JudgeReport(
        model=model,
        mode=mode,
        overall=_judging(OVERALL, outcomes),
        stages=tuple(
            _judging(name, [o for o in outcomes if o.stage == name]) for name in STAGE_ORDER if name in present
        ),
    )


async def _ask_both_orders(pair: JudgePair, judge: PairwiseJudge) -> PairOutcome:
    better, worse = Contender(text=pair.better, prior=pair.prior), Contender(text=pair.worse, prior=pair.prior)
    opinions, _ = await judge.compare(pair.question, pair.stage, [(better, worse), (worse, better)])
    first, last = opinions
    p_better = None
    if first.p_first is not None and last.p_first is not None:
        p_better = (first.p_first + 1 - last.p_first) / 2
    return PairOutcome(
        stage=stage_name(pair.stage),
        better_chars=len(pair.better),
        worse_chars=len(pair.worse),
        verdicts=(first.verdict, last.verdict),
        p_better=p_better,
    )


async def _score_both(pair: JudgePair, scorer: Scorer) -> PairOutcome:
    drafts = [Draft(id=name, text=text, prior=pair.prior) for name, text in (("1", pair.better), ("2", pair.worse))]
    better, worse = (await scorer.score(pair.question, pair.stage, drafts)).scores
    verdicts = (Verdict.UNREADABLE, Verdict.UNREADABLE)
    if better is not None and worse is not None:
        verdicts = _RIGHT if better > worse else _RIGHT[::-1] if better < worse else (Verdict.TIE, Verdict.TIE)
    return PairOutcome(
        stage=stage_name(pair.stage),
        better_chars=len(pair.better),
        worse_chars=len(pair.worse),
        verdicts=verdicts,
        p_better=None,
    )


_RIGHT = (Verdict.FIRST, Verdict.SECOND)
"""What a right judge says: the better one is shown first, then second."""
_SIDES = frozenset(_RIGHT)


def _pair_decision(outcome: PairOutcome) -> bool | None:
    """True: the better one; False: the worse one; None: undecided."""
    if outcome.p_better is not None:
        return None if math.isclose(outcome.p_better, 0.5, abs_tol=1e-9) else outcome.p_better > 0.5
    if not _SIDES.issuperset(outcome.verdicts) or outcome.verdicts[0] is outcome.verdicts[1]:
        return None
    return outcome.verdicts == _RIGHT


def _judging(stage: str, outcomes: Sequence[PairOutcome]) -> StageJudging:
    decisions = [_pair_decision(outcome) for outcome in outcomes]
    singles = [
        (verdict, right, outcome)
        for outcome in outcomes
        for verdict, right in zip(outcome.verdicts, _RIGHT, strict=True)
    ]
    decided = [(verdict, right, outcome) for verdict, right, outcome in singles if verdict in _SIDES]
    both = [outcome for outcome in outcomes if _SIDES.issuperset(outcome.verdicts)]
    unequal = [single for single in decided if single[2].better_chars != single[2].worse_chars]
    return StageJudging(
        stage=stage,
        pairs=len(outcomes),
        accuracy=_share(decision is True for decision in decisions),
        accuracy_one_order=_share(verdict is right for verdict, right, _ in singles),
        undecided=sum(decision is None for decision in decisions),
        unreadable=sum(verdict is Verdict.UNREADABLE for verdict, _, _ in singles),
        chose_first=_share(verdict is Verdict.FIRST for verdict, _, _ in decided),
        swap_consistent=_share(outcome.verdicts[0] is not outcome.verdicts[1] for outcome in both),
        chose_longer=_share(
            (verdict is right) == (outcome.better_chars > outcome.worse_chars) for verdict, right, outcome in unequal
        ),
        better_is_longer=_share(outcome.better_chars > outcome.worse_chars for _, _, outcome in unequal),
    )


def _share(hits: Iterable[bool]) -> Share:
    values = list(hits)
    return share_of(sum(values), len(values))
