"""How often a judge prefers the right one of two candidates for a stage, and how often likelihood does.

``python -m benchmarks.stage_judging --judge DIR`` draws whole answers to fresh questions and pairs their
captions, and the reasonings behind equal captions, by what the scene says. Beside it stands how good
``search_quality``'s oracle has to be.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence

from actors.engines.config import TransformersEngineConfig
from actors.engines.transformers_engine import TransformersEngine
from benchmarks.noisy_oracle import is_right
from pipelines.judge_check import JudgeCheckConfig, JudgePair, judge_check, score_check
from reasoning.intervals import wilson
from reasoning.parsing import parse_stages
from reasoning.protocols import Engine, Sampling
from reasoning.records import Question
from reasoning.scorers import Rating
from reasoning.search.config import PromptStyle, SearchConfig, Strategy
from reasoning.search.run import run_search
from reasoning.stages import STAGES, FourStages, Stage
from reasoning.trace import Candidate
from stagebeam.world.dataset import make_questions

JUDGED = (Stage.CAPTION, Stage.REASONING)
Answer = tuple[FourStages, Candidate]


async def draw(engine: Engine, questions: Sequence[Question], samples: int) -> list[list[Answer]]:
    """Each question's usable answers, as a search draws them."""
    search = SearchConfig(
        strategy=Strategy.SELF_CONSISTENCY,
        samples=samples,
        prompt_style=PromptStyle.COMPACT,
        sampling=Sampling(temperature=0.6, top_p=0.9, max_new_tokens=320),
    )
    gate = asyncio.Semaphore(16)

    async def one(question: Question) -> list[Answer]:
        async with gate:
            result = await run_search(question, search, generator=engine, clock=time.monotonic)
        found = [(parse_stages(candidate.text), candidate) for candidate in result.trace.candidates]
        return [(stages, candidate) for stages, candidate in found if isinstance(stages, FourStages)]

    return list(await asyncio.gather(*(one(question) for question in questions)))


def pairs_of(question: Question, answers: Sequence[Answer]) -> Iterator[tuple[JudgePair, bool]]:
    """A pair for each stage, the first there is, and whether the whole answer with the right one was the likelier."""
    for stage in JUDGED:
        groups: dict[tuple[str, ...], list[Answer]] = defaultdict(list)
        for stages, candidate in answers:
            prior = () if stage is Stage.CAPTION else (stages[Stage.CAPTION],)
            groups[prior].append((stages, candidate))
        for group in groups.values():
            right = next((one for one in group if is_right(question, stage, one[0][stage])), None)
            wrong = next((one for one in group if not is_right(question, stage, one[0][stage])), None)
            if right and wrong:
                prior_texts = {s: right[0][s] for s in STAGES[: STAGES.index(stage)]}
                yield (
                    JudgePair(
                        question=question, stage=stage, better=right[0][stage], worse=wrong[0][stage], prior=prior_texts
                    ),
                    _mean(right[1]) > _mean(wrong[1]),
                )
                break


def _mean(candidate: Candidate) -> float:
    return (candidate.logprob or 0.0) / max(1, candidate.tokens)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="runs/quickstart/training/four-stage/model")
    parser.add_argument("--judge", action="append", default=[], help="another judge; may be given several times")
    parser.add_argument("--questions", type=int, default=1000)
    given = parser.parse_args()
    questions = make_questions(given.questions, seed=0, split="stage-judging")
    with TransformersEngine(TransformersEngineConfig(model=given.model)) as engine:
        drawn = asyncio.run(draw(engine, questions, 4))
    found = [pair for question, answers in zip(questions, drawn, strict=True) for pair in pairs_of(question, answers)]
    print("| judge | stage | pairs | right, % |\n|---|---|---|---|")
    for stage in JUDGED:
        likelier = [is_likelier for pair, is_likelier in found if pair.stage is stage]
        _say("likelihood of the whole answer", stage, sum(likelier), len(likelier))
    check = JudgeCheckConfig(prompt_style=PromptStyle.COMPACT)
    for folder in (given.model, *given.judge):
        with TransformersEngine(TransformersEngineConfig(model=folder)) as judge:
            rating = Rating(judge, style=PromptStyle.COMPACT)
            for stage in JUDGED:
                pairs = [pair for pair, _ in found if pair.stage is stage]
                for way, report in (
                    ("pairs, both orders", asyncio.run(judge_check(pairs, judge, check))),
                    ("rating", asyncio.run(score_check(pairs, rating, check))),
                ):
                    _say(f"{folder}, {way}", stage, round(report.overall.accuracy.value * len(pairs)), len(pairs))


def _say(judge: str, stage: Stage, hits: int, total: int) -> None:
    print(f"| {judge} | {stage.lower()} | {total} | {_share(hits, total)} |", flush=True)


def _share(hits: int, total: int) -> str:
    low, high = wilson(hits, total)
    return f"{100 * hits / max(1, total):.1f} ({100 * low:.1f}–{100 * high:.1f})"


if __name__ == "__main__":
    main()
