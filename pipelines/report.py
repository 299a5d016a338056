"""The report: one HTML file with tables, charts, findings and examples, nothing outside it needed.

Takes plain values and draws them. ``collect_examples`` fetches the examples; nothing is measured
here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from cluster.storage import write_text_atomic
from pipelines import compare
from pipelines.answers import Answer, committed_files, read_answers
from pipelines.charts import Curve, Point, accuracy_chart, loss_chart
from pipelines.findings import best_prior, findings
from pipelines.measures import Evaluation, JudgeReport
from pipelines.pages import render
from pipelines.schemas import read_questions
from pipelines.trace_view import TraceView, trace_view
from reasoning.errors import InputError
from reasoning.records import Question
from reasoning.trace import Trace


@dataclass(frozen=True, kw_only=True)
class HeadlineFigure:
    """One number at the head of the page."""

    value: str
    label: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class AnnotationCounts:
    """What became of the questions that were given to the teacher."""

    teacher: str
    accepted: int
    rejected: Mapping[str, int]
    """Reason code to rows."""
    retries: int
    """Requests beyond the first of each question."""
    prompt_tokens: int = 0
    generated_tokens: int = 0

    @property
    def total(self) -> int:
        return self.accepted + sum(self.rejected.values())


@dataclass(frozen=True, kw_only=True)
class TrainingCurve:
    """Loss of one training run; ``losses[i]`` was seen at ``steps[i]``."""

    label: str
    steps: tuple[int, ...]
    losses: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Example:
    """One question with the tree of its answer; the picture by its bytes."""

    caption: str
    question: Question
    trace: Trace
    conclusion: str | None


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """Everything the page shows. What is empty is left out of the page."""

    title: str
    subtitle: str = ""
    notice: str = ""
    """A line that says what the reader must know first, such as that a stand-in was used."""
    headline: tuple[HeadlineFigure, ...] = ()
    """Empty: taken from the evaluation."""
    annotation: AnnotationCounts | None = None
    training: tuple[TrainingCurve, ...] = ()
    evaluation: Evaluation = field(default_factory=lambda: Evaluation(searches=()))
    judges: tuple[JudgeReport, ...] = ()
    findings: tuple[str, ...] = ()
    """Sentences to stand before those that the numbers give."""
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _ExampleView:
    caption: str
    view: TraceView


def write_report(path: Path, data: ReportData) -> Path:
    """Write the page to ``path``, whole or not at all, and give the path back."""
    write_text_atomic(path, render_report(data))
    return path


def render_report(data: ReportData) -> str:
    """The page as HTML."""
    evaluation = data.evaluation
    return render(
        "report.html",
        title=data.title,
        data=data,
        headline=data.headline or default_headline(data),
        findings=(*data.findings, *findings(evaluation, data.judges)),
        tables={
            "results": compare.console_table(evaluation),
            "outcomes": compare.outcome_table(evaluation),
            "counts": compare.counts_table(evaluation),
            "ledger": compare.ledger_table(evaluation),
            "families": compare.family_table(evaluation),
            "paired": compare.paired_table(evaluation),
            "diagnosis": compare.diagnosis_table(evaluation),
            "diversity": compare.diversity_table(evaluation),
            "judge": compare.judge_table(data.judges),
            "trace_judge": compare.trace_judge_table(evaluation),
            "annotation": annotation_table(data.annotation) if data.annotation else None,
        },
        accuracy_svg=Markup(_accuracy_svg(evaluation)),
        loss_svg=Markup(_loss_svg(data.training)),
        loss_caption=_loss_caption(data.training),
        examples=[
            _ExampleView(
                caption=example.caption,
                view=trace_view(
                    example.question,
                    example.trace,
                    conclusion=example.conclusion,
                    facts=(("Search", example.trace.strategy.replace("_", " ")),),
                ),
            )
            for example in data.examples
        ],
    )


def default_headline(data: ReportData) -> tuple[HeadlineFigure, ...]:
    """Best search, cheapest search of the same model, blind prior, accepted rows: what there is of them."""
    figures: list[HeadlineFigure] = []
    searches = data.evaluation.searches
    if searches:
        best = max(searches, key=lambda search: (search.accuracy.value, -search.ledger.computed_tokens))
        figures.append(_accuracy_figure(best.name, best.accuracy.value, compare.interval(best.accuracy)))
        own = [search for search in searches if search.model == best.model and search is not best]
        if own:
            plain = min(own, key=lambda search: search.ledger.computed_tokens)
            figures.append(_accuracy_figure(plain.name, plain.accuracy.value, compare.interval(plain.accuracy)))
        others = [search for search in searches if search.model != best.model]
        if others:
            other = others[0]
            figures.append(_accuracy_figure(other.name, other.accuracy.value, compare.interval(other.accuracy)))
    if data.evaluation.prior is not None:
        floor = best_prior(data.evaluation.prior)
        figures.append(_accuracy_figure("blind prior", floor.value, "constant answers"))
    if data.annotation is not None:
        note = f"of {data.annotation.total:,} questions"
        figures.append(HeadlineFigure(value=f"{data.annotation.accepted:,}", label="annotations accepted", note=note))
    return tuple(figures)


def annotation_table(counts: AnnotationCounts) -> compare.Table:
    """Accepted and rejected rows by reason, most frequent first."""
    rejected = sorted(counts.rejected.items(), key=lambda item: (-item[1], item[0]))
    rows = [("accepted", counts.accepted), *((f"rejected: {reason}", rows) for reason, rows in rejected)]
    total = max(counts.total, 1)
    return compare.Table(
        columns=("outcome", "rows", "%"),
        rows=tuple((name, f"{number:,}", compare.percent(number / total)) for name, number in rows),
        numeric=(False, True, True),
    )


def collect_examples(
    results: Path, questions: Path, *, search: str, baseline: str | None = None, count: int = 4
) -> tuple[Example, ...]:
    """A few held-out questions with the tree that ``search`` grew, chosen to show what it does.

    In turn: one that the search won against ``baseline``, one that it lost, one that both got
    right, one that both got wrong; the first of each kind, then the next. Raises InputError when
    the results hold no such search.
    """
    files = committed_files(results)
    for name in (search, baseline):
        if name is not None and name not in files:
            raise InputError(f"no answers of search {name!r} under {results}; there are {', '.join(files)}")
    plain = {a.question.id: bool(a.is_correct) for a in read_answers(files[baseline])} if baseline else {}
    kinds: dict[tuple[bool, bool], list[Answer]] = {}
    for answer in read_answers(files[search]):
        if answer.trace is not None and answer.is_correct is not None:
            kind = (answer.is_correct, plain.get(answer.question.id, answer.is_correct))
            members = kinds.setdefault(kind, [])
            if len(members) < count:
                members.append(answer)
    chosen = _in_turns([kinds.get(kind, []) for kind in _KIND_CAPTIONS], count)
    pictures = _questions_by_id(questions, {answer.question.id for _, answer in chosen})
    captions = tuple(_KIND_CAPTIONS.values())
    return tuple(
        Example(
            caption=captions[kind].format(search=search, baseline=baseline) if baseline else search,
            question=pictures.get(answer.question.id, answer.question),
            trace=Trace.from_json(answer.trace),
            conclusion=answer.conclusion,
        )
        for kind, answer in chosen
        if answer.trace is not None
    )


_KIND_CAPTIONS: Mapping[tuple[bool, bool], str] = {
    (True, False): "{search} is right where {baseline} is wrong",
    (False, True): "{search} is wrong where {baseline} is right",
    (True, True): "{search} and {baseline} are both right",
    (False, False): "{search} and {baseline} are both wrong",
}


def _in_turns(groups: Sequence[Sequence[Answer]], count: int) -> list[tuple[int, Answer]]:
    """The first of each group, then the second of each, until there are ``count``; grouped again."""
    depth = max(map(len, groups), default=0)
    taken = [(k, group[i]) for i in range(depth) for k, group in enumerate(groups) if i < len(group)][:count]
    return sorted(taken, key=lambda item: item[0])


def _questions_by_id(questions: Path, wanted: set[str]) -> dict[str, Question]:
    found: dict[str, Question] = {}
    for question in read_questions(questions):
        if question.id in wanted:
            found[question.id] = question
            if len(found) == len(wanted):
                break
    return found


def _accuracy_figure(name: str, value: float, note: str) -> HeadlineFigure:
    return HeadlineFigure(value=f"{compare.percent(value)} %", label=name, note=note)


def _accuracy_svg(evaluation: Evaluation) -> str:
    points = [
        Point(group=search.model, label=search.search, tokens=search.ledger.computed_tokens, accuracy=search.accuracy)
        for search in evaluation.searches
        if search.accuracy.total
    ]
    if not points:
        return ""
    return accuracy_chart(points, floor=best_prior(evaluation.prior) if evaluation.prior else None)


def _loss_svg(curves: Sequence[TrainingCurve]) -> str:
    drawn = [Curve(label=c.label, x=tuple(c.steps), y=tuple(c.losses)) for c in curves if c.steps]
    return loss_chart(drawn) if drawn else ""


def _loss_caption(curves: Sequence[TrainingCurve]) -> str:
    return "; ".join(
        f"{c.label}: {c.losses[0]:.3f} at step {c.steps[0]}, {c.losses[-1]:.3f} at step {c.steps[-1]}"
        for c in curves
        if c.steps
    )
