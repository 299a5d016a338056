"""Hand-made traces, answers and evaluations for the tests beside this file."""

from __future__ import annotations

import base64
from pathlib import Path

from cluster.storage import Commit, RunFolder, write_commit
from pipelines.answers import SCORE_KIND, Answer, question_columns, table_of
from pipelines.measures import Evaluation
from pipelines.schemas import write_table
from reasoning.ledger import Ledger
from reasoning.protocols import StopReason
from reasoning.records import AnswerType, ImageRef, Question
from reasoning.stages import FourStages, Stage
from reasoning.trace import Candidate, Comparison, Trace, Verdict

PIXEL_PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def question(
    number: int = 1, *, answer: str | None = "3", family: str = "count", text: str = "How many cubes are there?"
) -> Question:
    return Question(
        id=f"q{number}",
        question=text,
        image=ImageRef(data=PIXEL_PNG),
        answer=answer,
        answer_type=AnswerType.NUMBER,
        meta={"family": family},
    )


def candidate(
    name: str,
    text: str,
    *,
    stage: Stage | None = None,
    parent: str | None = None,
    is_kept: bool = False,
    fault: str | None = None,
) -> Candidate:
    return Candidate(
        id=name,
        parent=parent,
        stage=stage,
        text=text,
        stop=StopReason.TAG,
        tokens=7,
        logprob=-1.5,
        seed=1,
        fault=fault,
        is_kept=is_kept,
    )


def whole(name: str, conclusion: str, *, is_kept: bool = False) -> Candidate:
    """A whole answer that concludes with ``conclusion``."""
    stages = FourStages(summary="Count.", caption="Cubes.", reasoning="One, two.", conclusion=conclusion)
    return candidate(name, stages.render(), is_kept=is_kept)


def best_of(conclusions: list[str], chosen: int, *, number: int = 1) -> Trace:
    """A best-of-N trace whose judge compared the first two and took candidate ``chosen``."""
    names = [f"S1.{i + 1}" for i in range(len(conclusions))]
    return Trace(
        question_id=f"q{number}",
        strategy="best_of_n",
        candidates=tuple(
            whole(n, c, is_kept=i == chosen) for i, (n, c) in enumerate(zip(names, conclusions, strict=True))
        ),
        comparisons=(
            Comparison(
                stage=None,
                first=names[0],
                second=names[1],
                verdict=Verdict.FIRST if chosen == 0 else Verdict.SECOND,
                p_first=0.8 if chosen == 0 else 0.2,
                is_swap_consistent=True,
            ),
        ),
        chosen=(names[chosen],),
    )


def beam() -> Trace:
    """A stage beam of width 2 whose captions lead to different ends; the right path was chosen."""
    return Trace(
        question_id="q1",
        strategy="stage_beam",
        candidates=(
            candidate("S1.1", "I will count.", stage=Stage.SUMMARY, is_kept=True),
            candidate("S1.2", "", stage=Stage.SUMMARY, fault="summary.unclosed"),
            candidate("S2.1", "Three cubes.", stage=Stage.CAPTION, parent="S1.1", is_kept=True),
            candidate("S2.2", "Two cubes.", stage=Stage.CAPTION, parent="S1.1", is_kept=True),
            candidate("S3.1", "1, 2, 3.", stage=Stage.REASONING, parent="S2.1", is_kept=True),
            candidate("S3.2", "1, 2.", stage=Stage.REASONING, parent="S2.2", is_kept=True),
            candidate("S4.1", "3", stage=Stage.CONCLUSION, parent="S3.1", is_kept=True),
            candidate("S4.2", "2", stage=Stage.CONCLUSION, parent="S3.2"),
        ),
        comparisons=(
            Comparison(stage=Stage.CAPTION, first="S2.1", second="S2.2", verdict=Verdict.FIRST, p_first=0.7),
            Comparison(
                stage=Stage.CONCLUSION,
                first="S4.2",
                second="S4.1",
                verdict=Verdict.TIE,
                p_first=0.4,
                is_swap_consistent=False,
                reply="Since <b>I am</b> unsure, I choose response 2.",
            ),
        ),
        chosen=("S1.1", "S2.1", "S3.1", "S4.1"),
    )


def answer(
    asked: Question,
    *,
    search: str = "greedy",
    strategy: str = "greedy",
    conclusion: str | None = "3",
    is_correct: bool | None = True,
    fault: str | None = None,
    trace: Trace | None = None,
    error_type: str | None = None,
    ledger: Ledger | None = None,
) -> Answer:
    return Answer(
        question=asked,
        search=search,
        strategy=strategy,
        conclusion=conclusion,
        is_correct=is_correct,
        fault=fault,
        trace=trace.to_json() if trace else None,
        ledger=ledger or Ledger(prompt_tokens=100, cached_tokens=20, generated_tokens=30, judge_tokens=10, seconds=0.5),
        error="broken" if error_type else None,
        error_type=error_type,
    )


def evaluation(train: list[Question] | None = None) -> Evaluation:
    """Two searches of one model over forty questions: greedy right at half, best-of-2 at more."""
    from pipelines.evaluate import evaluate_answers

    asked = [question(i, family="count" if i % 2 else "exist") for i in range(40)]
    plain = [answer(q, is_correct=i < 20, conclusion="3" if i < 20 else "2") for i, q in enumerate(asked)]
    searched = [
        answer(
            q,
            search="best_of_2",
            strategy="best_of_n",
            is_correct=i < 32,
            conclusion="3" if i < 32 else "2",
            trace=best_of(["3", "2"], 0 if i < 32 else 1, number=i),
            ledger=Ledger(prompt_tokens=100, generated_tokens=900, judge_tokens=300),
        )
        for i, q in enumerate(asked)
    ]
    groups = {("four-stage", "greedy"): plain, ("four-stage", "best_of_2"): searched}
    return evaluate_answers(groups, train=train)


def write_results(folder: Path, answers: list[Answer], *, commit: bool = True) -> None:
    """A score run's folder with one shard of answers."""
    search = answers[0].search
    identity = {"search_order": [search], "searches": {search: {"prompt_style": "compact"}}}
    with RunFolder(folder, kind=SCORE_KIND, identity=identity) as run:
        name = f"results/{search}/part-00000.parquet"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        rows = [
            question_columns(a.question)
            | {
                "search": a.search,
                "strategy": a.strategy,
                "conclusion": a.conclusion,
                "is_correct": a.is_correct,
                "trace": a.trace,
                **a.ledger.as_dict(),
            }
            for a in answers
        ]
        write_table(folder / name, table_of(rows))
        if commit:
            write_commit(folder, Commit(key="one", files=(name,), counts={"rows": len(rows)}), lease=run.lease)
