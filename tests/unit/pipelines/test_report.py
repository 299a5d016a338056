"""The report is one file that needs nothing else, and shows what it is given, escaped."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import made_up
import pytest

from pipelines.charts import Curve, Point, accuracy_chart, loss_chart
from pipelines.measures import JudgeReport, StageJudging, share_of
from pipelines.report import (
    AnnotationCounts,
    Example,
    ReportData,
    TrainingCurve,
    collect_examples,
    render_report,
    write_report,
)
from pipelines.schemas import write_questions
from reasoning.errors import InputError

HOSTILE = "<script>alert('x')</script><img src=x onerror=alert(1)>"


class Links(HTMLParser):
    """Collects every attribute a browser would fetch, and every tag."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action")]


def links_of(page: str) -> Links:
    parser = Links()
    parser.feed(page)
    return parser


def full_report() -> ReportData:
    share = share_of(70, 100)
    judged = StageJudging(
        stage="all",
        pairs=100,
        accuracy=share,
        accuracy_one_order=share,
        undecided=3,
        unreadable=0,
        chose_first=share,
        swap_consistent=share,
        chose_longer=share,
        better_is_longer=share,
    )
    return ReportData(
        title="A run",
        subtitle="made up",
        notice="The teacher was a stand-in.",
        annotation=AnnotationCounts(
            teacher="stand-in", accepted=930, rejected={"refusal": 50, "bad_format": 20}, retries=31
        ),
        training=(TrainingCurve(label="four-stage", steps=(1, 2, 3, 4), losses=(2.0, 1.0, 0.6, 0.5)),),
        evaluation=made_up.evaluation([made_up.question(i, answer="2") for i in range(3)]),
        judges=(JudgeReport(model="tiny", mode="logprob", overall=judged),),
        findings=("Said by hand.",),
        examples=(Example(caption="an example", question=made_up.question(), trace=made_up.beam(), conclusion="3"),),
    )


def test_page_loads_nothing_from_outside() -> None:
    links = links_of(render_report(full_report()))
    assert [link for link in links.fetched if not link.startswith(("data:", "#"))] == []
    assert "script" not in links.tags


def test_page_shows_every_part() -> None:
    page = render_report(full_report())
    for text in ("best_of_2", "refusal", "blind prior", "Said by hand.", "S4.1", "data:image/png;base64,", "stand-in"):
        assert text in page
    assert page.count("<svg") == 3


def test_page_without_parts_leaves_their_headings_out() -> None:
    page = render_report(ReportData(title="Empty"))
    assert "<h2>" not in page


def test_everything_from_data_is_escaped() -> None:
    trace = made_up.beam()
    hostile = made_up.candidate("S1.9", HOSTILE)
    trace = type(trace)(
        question_id="q", strategy="stage_beam", candidates=(*trace.candidates, hostile), chosen=trace.chosen
    )
    example = Example(
        caption=HOSTILE, question=made_up.question(text=HOSTILE, answer=HOSTILE), trace=trace, conclusion=HOSTILE
    )
    counts = AnnotationCounts(teacher=HOSTILE, accepted=1, rejected={HOSTILE: 1}, retries=0)
    page = render_report(
        ReportData(title=HOSTILE, notice=HOSTILE, annotation=counts, findings=(HOSTILE,), examples=(example,))
    )
    links = links_of(page)
    assert "script" not in links.tags
    assert "onerror=alert(1)>" not in re.sub(r"&lt;.*?&gt;", "", page)
    assert "&lt;script&gt;" in page


def test_write_report_writes_one_whole_file(tmp_path: Path) -> None:
    path = write_report(tmp_path / "deep" / "report.html", full_report())
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")


def test_report_is_small() -> None:
    assert len(render_report(full_report())) < 120_000


def test_chart_names_are_text_and_escaped() -> None:
    svg = accuracy_chart([Point(group="a<b>", label="$x$ & <i>", tokens=10, accuracy=share_of(1, 2))])
    assert "$x$ &amp; &lt;i&gt;" in svg
    assert "<i>" not in svg
    assert "var(--series-1)" in svg


def test_chart_ids_do_not_clash() -> None:
    both = accuracy_chart([Point(group="m", label="p", tokens=10, accuracy=share_of(1, 2))]) + loss_chart(
        [Curve(label="m", x=(1, 2), y=(3, 2))]
    )
    ids = re.findall(r'\bid="([^"]+)"', both)
    assert len(ids) == len(set(ids))


def test_chart_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one point"):
        accuracy_chart([])
    with pytest.raises(ValueError, match="at least one curve"):
        loss_chart([])


def test_examples_show_wins_losses_and_pictures(tmp_path: Path) -> None:
    asked = [made_up.question(i) for i in range(4)]
    trace = made_up.best_of(["3", "2"], 0)
    made_up.write_results(tmp_path / "r", [made_up.answer(q, search="beam", trace=trace) for q in asked])
    write_questions(tmp_path / "q", asked)
    examples = collect_examples(tmp_path / "r", tmp_path / "q", search="beam", count=2)
    assert [example.question.id for example in examples] == ["q0", "q1"]
    assert examples[0].question.image is not None
    with pytest.raises(InputError, match="'vote'"):
        collect_examples(tmp_path / "r", tmp_path / "q", search="vote")
