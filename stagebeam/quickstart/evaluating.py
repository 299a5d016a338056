"""Step 5: measure every search and the judge by itself, and write the report page."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

from pydantic import TypeAdapter

from actors.engines.config import TransformersEngineConfig
from pipelines.evaluate import EVALUATION_FILE, EvaluateConfig, ResultsFolder, run_evaluation
from pipelines.judge_check import JudgeCheckConfig, JudgePair, judge_check
from pipelines.measures import Evaluation, JudgeReport
from pipelines.report import AnnotationCounts, ReportData, TrainingCurve, collect_examples, write_report
from reasoning.errors import InputError
from reasoning.judges import JudgeMode
from reasoning.prompts import question_text
from reasoning.records import Question
from reasoning.search.config import PromptStyle
from reasoning.seeds import derive_seed
from reasoning.stages import STAGES, FourStages, Stage
from stagebeam.console import Update
from stagebeam.quickstart.run import QuickstartRun, StepRecord
from stagebeam.world.dataset import make_questions
from stagebeam.world.teacher import flawed_stages, four_stages, read_truth

NOTICE = (
    "Embedded default: a tiny model, drawn scenes and a stand-in teacher that reads the scenes' truth. "
    "The numbers show that the system works, not how good large models are."
)


def work(run: QuickstartRun, update: Update) -> StepRecord:
    """Writes ``evaluation.json`` and the report; keeps the judge's figures."""
    update(0, 3, "accuracies, intervals, compute")
    evaluation = run_evaluation(
        EvaluateConfig(
            results=tuple(ResultsFolder(label=label, path=str(run.answers(label))) for label in run.labels),
            output=str(run.folder),
            train_questions=str(run.train_questions),
        )
    )
    update(1, 3, "the judge on held-out pairs")
    judge = asyncio.run(_check_judge(run))
    update(2, 3, "the report")
    write_report(run.report, _report_data(run, evaluation, judge))
    overall = judge.overall
    line = (
        f"judge by itself: {overall.accuracy.value:.1%} right of {overall.pairs:,} held-out pairs "
        f"({overall.accuracy.low:.1%} to {overall.accuracy.high:.1%}), "
        f"named the first {overall.chose_first.value:.1%} of the time (50 % is no order bias)"
    )
    stages = "judge by stage: " + ", ".join(f"{s.stage.lower()} {s.accuracy.value:.0%}" for s in judge.stages)
    return StepRecord(lines=(line, stages), facts={"judge": asdict(judge)})


def judge_pairs(count: int, seed: int) -> list[JudgePair]:
    """Right against flawed text for ``count`` questions of a split of their own: each stage, and a whole answer.

    The whole answers differ in one stage, in turn caption, reasoning and conclusion.
    """
    pairs: list[JudgePair] = []
    for index, question in enumerate(make_questions(count, seed=seed, split="judge")):
        right, flawed = _both_versions(question, seed)
        prior: dict[Stage, str] = {}
        for stage in STAGES:
            if right[stage] != flawed[stage]:
                pairs.append(
                    JudgePair(
                        question=question, stage=stage, prior=dict(prior), better=right[stage], worse=flawed[stage]
                    )
                )
            prior[stage] = right[stage]
        differs = STAGES[1 + index % (len(STAGES) - 1)]
        changed = FourStages.from_mapping({**right.as_mapping(), differs: flawed[differs]})
        pairs.append(JudgePair(question=question, stage=None, better=right.render(), worse=changed.render()))
    return pairs


def _both_versions(question: Question, seed: int) -> tuple[FourStages, FourStages]:
    truth = read_truth(question.image.data) if question.image is not None and question.image.data else None
    if truth is None:
        raise InputError(f"question {question.id}: its picture carries no truth, so no pair can be made of it")
    text = question_text(question)
    draw = derive_seed(seed, question.id, None, purpose="judge-pairs")
    return four_stages(truth, text), flawed_stages(truth, text, draw).stages


async def _check_judge(run: QuickstartRun) -> JudgeReport:
    from actors.engines.transformers_engine import TransformersEngine

    pairs = judge_pairs(run.config.judge_questions, run.config.seed)
    config = JudgeCheckConfig(mode=JudgeMode.LOGPROB, prompt_style=PromptStyle.COMPACT, model="four-stage")
    with TransformersEngine(TransformersEngineConfig(model=str(run.model("four-stage")))) as engine:
        return await judge_check(pairs, engine, config)


def _report_data(run: QuickstartRun, evaluation: Evaluation, judge: JudgeReport) -> ReportData:
    annotated = run.record("annotate")
    tuned = run.record("fine-tune")
    if annotated is None or tuned is None:
        raise InputError(f"{run.folder}: the records of earlier steps are gone; run again with --fresh")
    curves = tuple(
        TrainingCurve(label=label, steps=tuple(step for step, _ in losses), losses=tuple(loss for _, loss in losses))
        for label, losses in tuned.facts["losses"].items()
    )
    greedy = next((name for name, s in run.config.searches.items() if s.strategy.value == "greedy"), None)
    return ReportData(
        title="stagebeam quickstart",
        subtitle=f"{run.config.test_questions:,} held-out questions, seed {run.config.seed}",
        notice=NOTICE,
        annotation=AnnotationCounts(**annotated.facts["counts"]),
        training=curves,
        evaluation=evaluation,
        judges=(judge,),
        examples=collect_examples(
            run.answers("four-stage"), run.test_questions, search=run.config.demonstration, baseline=greedy
        ),
    )


def load_evaluation(run: QuickstartRun) -> Evaluation:
    """What the finished step measured."""
    return Evaluation.from_json((run.folder / EVALUATION_FILE).read_text(encoding="utf-8"))


def load_judge(record: StepRecord) -> JudgeReport:
    """The judge's figures in a finished step's record."""
    return TypeAdapter(JudgeReport).validate_python(record.facts["judge"])
