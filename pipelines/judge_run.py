"""Measure a model as a judge on what it has to judge: its own right and wrong answers.

The pairs come from a score run's search trees: finished answers to one question, of which one is
right and one is wrong by the known answer.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from actors.engines.build import open_engine
from actors.engines.config import EngineChoice, EngineConfig, engine_config
from actors.rewards.build import open_rewarder
from actors.rewards.config import RewardConfig
from cluster.storage import write_text_atomic
from pipelines.answers import committed_files, read_answers
from pipelines.judge_check import JudgeCheckConfig, JudgePair, judge_check, score_check
from pipelines.measures import JudgeReport
from pipelines.preferences import pairs_of
from pipelines.schemas import read_questions
from reasoning.errors import ConfigError, InputError
from reasoning.judges import JudgeMode
from reasoning.protocols import Engine, Rewarder
from reasoning.scorers import Rating, Reward
from reasoning.search.config import PromptStyle
from reasoning.stages import Stage
from reasoning.trace import Trace

REPORT_FILE = "judge.json"
REWARD = "reward"


class JudgeRunConfig(EngineChoice):
    """Which judge is measured, on which answers."""

    model: str | None = None
    """Folder of the model that judges."""
    results: str
    """Output folder of a score run, with several answers a question (best_of_n, self_consistency)."""
    input: str
    """The questions that it answered: the pictures come from there."""
    output: str
    """Folder for ``judge.json``."""
    ways: tuple[Literal["logprob", "text", "rating", "reward"], ...] = Field(
        default=("logprob", "rating"), min_length=1
    )
    """Compare by probabilities, compare in writing, rate each by itself; score each by the reward model."""
    reward: RewardConfig | None = None
    """The reward model, for ``reward`` among the ways; if that is the only way, no model is loaded to judge."""
    prompt_style: PromptStyle = PromptStyle.STANDARD
    """Wording of the judge's prompts; the one the model was trained on."""
    limit: int = Field(default=500, ge=1)
    """Pairs at most; the first of each question come first."""
    in_flight: int = Field(default=32, ge=1)
    """Pairs asked at the same time."""
    device: str = "cpu"
    """Where the model runs."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of its weights."""

    @property
    def judge(self) -> EngineConfig:
        """What is loaded, or asked."""
        return engine_config(
            self.engine,
            model=self.model,
            device=self.device,
            dtype=self.dtype,
            transformers=self.transformers,
            vllm=self.vllm,
            openai=self.openai,
        )

    @model_validator(mode="after")
    def _has_a_judge(self) -> Self:
        if self.asks_judge:
            _ = self.judge
        if REWARD in self.ways and self.reward is None:
            raise ConfigError(
                "JudgeRunConfig.ways holds 'reward' and no reward model is configured; set reward.kind and "
                "reward.model (or reward.url)"
            )
        return self

    @property
    def asks_judge(self) -> bool:
        """Whether any way needs a model that judges."""
        return any(way != REWARD for way in self.ways)


def run_judge_check(
    config: JudgeRunConfig, on_progress: Callable[[int, int, str], None] | None = None
) -> list[JudgeReport]:
    """A report for each way, written to ``judge.json`` too; raises InputError when there is no pair."""
    pairs = graded_pairs(Path(config.results), Path(config.input), config.limit)
    if not pairs:
        raise InputError(
            f"{config.results}: no question has a right and a wrong answer side by side; score it with best_of_n or "
            "self_consistency and several samples"
        )
    reports = asyncio.run(_measure_all(pairs, config, on_progress))
    text = json.dumps([asdict(report) for report in reports], indent=1)
    Path(config.output).mkdir(parents=True, exist_ok=True)
    write_text_atomic(Path(config.output) / REPORT_FILE, text)
    return reports


async def _measure_all(
    pairs: list[JudgePair], config: JudgeRunConfig, on_progress: Callable[[int, int, str], None] | None
) -> list[JudgeReport]:
    reports = []
    async with AsyncExitStack() as opened:
        engine = await opened.enter_async_context(open_engine(config.judge)) if config.asks_judge else None
        rewarder = await opened.enter_async_context(open_rewarder(config.reward))
        for number, way in enumerate(config.ways):
            if on_progress is not None:
                on_progress(number, len(config.ways), f"{way}, {len(pairs):,} pairs")
            reports.append(await _measure(pairs, engine, rewarder, config, way))
    return reports


async def _measure(
    pairs: list[JudgePair], engine: Engine | None, rewarder: Rewarder | None, config: JudgeRunConfig, way: str
) -> JudgeReport:
    mode = JudgeMode.TEXT if way == "text" else JudgeMode.LOGPROB
    check = JudgeCheckConfig(
        mode=mode, prompt_style=config.prompt_style, in_flight=config.in_flight, model=_name(config, way)
    )
    if way == REWARD and rewarder is not None:
        return await score_check(pairs, Reward(rewarder), check)
    if engine is None:
        raise ConfigError(f"JudgeRunConfig.ways: {way!r} needs a model that judges")
    if way == "rating":
        return await score_check(pairs, Rating(engine, style=config.prompt_style), check)
    return await judge_check(pairs, engine, check)


def _name(config: JudgeRunConfig, way: str) -> str:
    if way == REWARD and config.reward is not None:
        return Path(config.reward.model or config.reward.url or REWARD).name
    return Path(config.judge.model).name


def graded_pairs(results: Path, questions: Path, limit: int) -> list[JudgePair]:
    """Right and wrong answers side by side, one pair of each question and search first."""
    known = {question.id: question for question in read_questions(questions)}
    rounds: list[list[JudgePair]] = []
    for files in committed_files(results).values():
        for answer in read_answers(files):
            question = known.get(answer.question.id)
            if question is None:
                raise InputError(f"{questions}: holds no question {answer.question.id!r}, which {results} answers")
            if answer.trace is None:
                continue
            trace = Trace.from_json(answer.trace)
            found = (pair for pair in pairs_of(question, answer.search, trace) if pair.by == "answer")
            for number, pair in enumerate(found):
                if pair.stage not in (None, Stage.CONCLUSION) or pair.prefix:
                    continue
                if number == len(rounds):
                    rounds.append([])
                rounds[number].append(JudgePair(question=question, stage=None, better=pair.chosen, worse=pair.rejected))
    return list(_first(limit, rounds))


def _first(limit: int, rounds: list[list[JudgePair]]) -> Iterator[JudgePair]:
    for pair in (pair for found in rounds for pair in found):
        if limit == 0:
            return
        limit -= 1
        yield pair
