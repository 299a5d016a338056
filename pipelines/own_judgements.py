"""Judgements of a model's own answers, to train a judge on: right ones against wrong ones, by the known answer.

A judge that was taught on a teacher's flaws knows those; what a search asks it to tell apart are the
mistakes of the model that is searched (docs/search.md). Reads a score run's search trees and writes
training rows in the wording in which that search asks.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from cluster.storage import Commit, RunFolder, read_run
from pipelines.answers import SCORE_KIND, Answer, committed_files, read_answers
from pipelines.judgements import JudgementConfig, JudgementForm, TextPair
from pipelines.schemas import read_questions, write_training
from reasoning.errors import InputError
from reasoning.grading import is_correct
from reasoning.parsing import ParseFault, parse_stages
from reasoning.records import Question, TrainingRow
from reasoning.search.config import PromptStyle
from reasoning.stages import STAGES, FourStages, Stage
from reasoning.trace import Trace

RUN_KIND = "own_judgements"
_KEY = "rows"
_STAGES = (Stage.CAPTION, Stage.REASONING, Stage.CONCLUSION)


class OwnJudgementConfig(BaseModel):
    """Which rows are made of a question's right and wrong answers."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    forms: tuple[JudgementForm, ...] = Field(default=(JudgementForm.CHOICE, JudgementForm.RATING), min_length=1)
    """A row each."""
    pairs: int = Field(default=3, ge=1)
    """Pairs of a question at most, so that the hardest questions do not make most of the rows."""


@dataclass(frozen=True, kw_only=True)
class OwnJudgementSummary:
    """What was written."""

    output: Path
    questions: int
    """Those with a right and a wrong answer."""
    rows: Mapping[str, int]
    """By stage, ``answer`` for whole answers."""


def export_own_judgements(
    results: Path, questions: Path, output: Path, config: OwnJudgementConfig | None = None
) -> OwnJudgementSummary:
    """SFT shards in ``output`` from the answers in a score run's folder; the same answers give the same rows.

    ``questions`` is what the run answered: the pictures come from there. Raises InputError when no
    question has a right and a wrong answer, OutputMismatchError when ``output`` holds something else.
    """
    config = config or OwnJudgementConfig()
    run_record = read_run(results, kind=SCORE_KIND)
    styles = {name: PromptStyle(one["prompt_style"]) for name, one in run_record["identity"]["searches"].items()}
    answers = [answer for files in committed_files(results).values() for answer in read_answers(files) if answer.trace]
    known = {question.id: question for question in read_questions(questions)}
    identity = {
        "answers": run_record["config_hash"],
        "questions": hashlib.sha256("\x1f".join(sorted(a.question.id for a in answers)).encode()).hexdigest()[:16],
        "config": config.model_dump(mode="json"),
    }
    counts: Counter[str] = Counter()
    with RunFolder(output, kind=RUN_KIND, identity=identity) as run:
        done = run.commits()
        if not done:
            for path in output.glob("*.parquet"):
                path.unlink()  # Of an export that was interrupted.
            made = _all_rows(answers, known, styles, config, counts)
            paths = write_training(output, made)
            if not counts["questions"]:
                raise InputError(
                    f"{results}: no question has a right and a wrong answer side by side; score it with "
                    "self_consistency or best_of_n, several samples and a higher temperature"
                )
            run.commit(Commit(key=_KEY, files=tuple(path.name for path in paths), counts=dict(counts)))
        found = run.commits()[0].counts
    return OwnJudgementSummary(
        output=output,
        questions=found["questions"],
        rows={name: number for name, number in found.items() if name != "questions"},
    )


def own_pairs(question: Question, search: str, trace: Trace, *, most: int) -> list[TextPair]:
    """Right whole answers against wrong ones; then the first stage in which the two part, by itself.

    Texts that differ in captions alone say that one caption led to a right answer, not that it is
    right; in the mean it is the better one. ``most`` is the number of answer pairs.
    """
    graded: dict[str, tuple[FourStages, bool]] = {}
    for candidate in trace.candidates:
        stages = parse_stages(candidate.text) if candidate.stage is None and candidate.fault is None else None
        if stages is not None and not isinstance(stages, ParseFault):
            graded.setdefault(stages.render(), (stages, is_correct(question, stages.conclusion)))
    right = [stages for stages, is_right in graded.values() if is_right]
    wrong = [stages for stages, is_right in graded.values() if not is_right]
    pairs: list[TextPair] = []
    for number, (better, worse) in enumerate(_matched(right, wrong, most)):
        pairs.append(TextPair(question, None, {}, better.render(), worse.render(), name=f"{search}/{number}/"))
        parted = next((stage for stage in STAGES if better[stage] != worse[stage]), None)
        if parted in _STAGES:
            prior = {stage: better[stage] for stage in STAGES[: STAGES.index(parted)]}
            pairs.append(TextPair(question, parted, prior, better[parted], worse[parted], name=f"{search}/{number}/"))
    return pairs


def _matched(
    right: Sequence[FourStages], wrong: Sequence[FourStages], most: int
) -> Iterator[tuple[FourStages, FourStages]]:
    """Pairs in which every text comes up about equally often."""
    if right and wrong:
        for number in range(min(most, len(right) * len(wrong))):
            yield right[number % len(right)], wrong[(number + number // len(right)) % len(wrong)]


def _all_rows(
    answers: Sequence[Answer],
    known: Mapping[str, Question],
    styles: Mapping[str, PromptStyle],
    config: OwnJudgementConfig,
    counts: Counter[str],
) -> Iterator[TrainingRow]:
    turns: Counter[Stage | None] = Counter()
    for answer in answers:
        question = known.get(answer.question.id)
        if question is None:
            raise InputError(f"the questions hold no {answer.question.id!r}, which the run has answers to")
        pairs = own_pairs(question, answer.search, Trace.from_json(answer.trace or ""), most=config.pairs)
        counts["questions"] += bool(pairs)
        form = JudgementConfig(forms=config.forms, prompt_style=styles[answer.search])
        for pair in pairs:
            rows = pair.rows(form, turn=turns[pair.stage])
            turns[pair.stage] += 1
            counts[pair.stage.value.lower() if pair.stage else "answer"] += len(rows)
            yield from rows
