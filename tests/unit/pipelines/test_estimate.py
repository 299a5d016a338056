"""What a run will take: calls by mode and rungs, tokens by prompts and pictures, dollars, hours and what sets them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace

import pytest
from PIL import Image

from actors.call_records import PaidTotals
from actors.prices import Prices
from pipelines.annotate_config import AnnotateConfig
from pipelines.annotator import AnnotationMode
from pipelines.estimate import Estimate, Measured, Pace, Plan, dry_run, estimate_run, plan_of, shown_prompts
from pipelines.estimate_costs import Case, Span, text_tokens
from pipelines.estimate_view import dry_run_lines, estimate_lines
from pipelines.verification import JudgeUse, VerifyConfig
from reasoning.prompts import annotation_prompt
from reasoning.records import AnswerType, ImageRef, Question

PRICES = Prices(prompt=2.0, generated=10.0, source="as configured", is_known=True)
ONE_CASE = Case(attempts=1.0, reply=300, judged=0.5, resolve=100, first_token_s=1.0, tokens_per_s=100)
SURE = (ONE_CASE, ONE_CASE, ONE_CASE)
PLAN = Plan(
    model="gpt-4o",
    mode=AnnotationMode.ONE_PROMPT,
    max_attempts=3,
    pace=Pace(in_flight=10),
    verify=VerifyConfig(judge=JudgeUse.NEVER),
    prices=PRICES,
    assumed=SURE,
)


def picture(width: int, height: int) -> ImageRef:
    buffer = io.BytesIO()
    Image.new("L", (width, height)).save(buffer, "PNG")
    return ImageRef(data=buffer.getvalue())


def questions(count: int, *, image: ImageRef | None = None) -> list[Question]:
    return [Question(id=f"q{i}", question=f"How many? ({i})", answer="2", image=image) for i in range(count)]


def estimated(plan: Plan, sample: Sequence[Question], rows: int = 1000) -> Estimate:
    return estimate_run(plan, sample, rows, count_tokens=lambda text: 100)


def test_one_prompt_is_one_call_a_row_with_its_picture() -> None:
    found = estimated(PLAN, questions(4, image=picture(1024, 1024)))
    assert found.calls == Span(1000, 1000, 1000)
    assert found.image_tokens.likely == 765_000
    assert found.prompt_tokens.likely == (100 + 8 + 765) * 1000
    assert found.generated_tokens.likely == 300_000
    assert found.dollars == Span(*[873_000 * 2 / 1e6 + 300_000 * 10 / 1e6] * 3)
    assert found.picture == (1024, 1024)


def test_four_prompts_send_the_picture_four_times_and_what_was_written() -> None:
    found = estimated(replace(PLAN, mode=AnnotationMode.FOUR_PROMPTS), questions(1, image=picture(1024, 1024)))
    assert found.calls.likely == 4000
    assert found.image_tokens.likely == 4 * 765_000
    assert found.generated_tokens.likely == pytest.approx(300_000)
    # The summary is shown three times, the caption twice, the reasoning once.
    shown = 300 * (3 * 0.2 + 2 * 0.3 + 0.42)
    assert found.prompt_tokens.likely == pytest.approx((4 * (108 + 765) + shown) * 1000)


def test_further_attempts_are_shown_the_last_reply() -> None:
    twice = replace(ONE_CASE, attempts=2.0)
    found = estimated(replace(PLAN, assumed=(ONE_CASE, ONE_CASE, twice)), questions(1))
    assert found.calls == Span(1000, 1000, 2000)
    assert found.prompt_tokens.high == (108 + 108 + 300 + 50) * 1000
    capped = estimated(replace(PLAN, assumed=(ONE_CASE, ONE_CASE, twice), max_attempts=1), questions(1))
    assert capped.calls == Span(1000, 1000, 1000)


@pytest.mark.parametrize(
    ("verify", "answer_type", "calls"),
    [
        (VerifyConfig(judge=JudgeUse.WHEN_UNSURE), AnswerType.FREE, 1.5),
        (VerifyConfig(judge=JudgeUse.WHEN_UNSURE), AnswerType.CHOICE, 1.0),
        (VerifyConfig(judge=JudgeUse.ALWAYS), AnswerType.CHOICE, 2.0),
        (VerifyConfig(judge=JudgeUse.NEVER, caption_check=True), AnswerType.CHOICE, 2.0),
        (VerifyConfig(judge=JudgeUse.NEVER, caption_check=True, resolve=True), AnswerType.CHOICE, 3.0),
    ],
)
def test_rungs_that_ask_are_calls(verify: VerifyConfig, answer_type: AnswerType, calls: float) -> None:
    sample = [replace(q, answer_type=answer_type) for q in questions(2, image=picture(8, 8))]
    assert estimated(replace(PLAN, verify=verify), sample).calls.likely == calls * 1000


def test_judgements_are_a_further_call_with_a_reply_as_long() -> None:
    found = estimated(replace(PLAN, with_flaws=True), questions(1))
    assert (found.calls.likely, found.generated_tokens.likely) == (2000, 600_000)


def test_rows_that_will_not_be_asked_cost_nothing() -> None:
    good = questions(2, image=picture(8, 8))
    bad = [
        replace(good[0], answer=None),
        replace(good[0], meta={"source_fault": "no such file"}),
        replace(good[0], image=ImageRef(data=b"no image")),
    ]
    found = estimated(PLAN, [*good, *bad])
    assert (found.unasked_rows, found.calls.likely) == (600, 400)


def test_pictures_behind_the_web_count_as_the_median() -> None:
    sample = [*questions(1, image=picture(1024, 1024)), *questions(1, image=ImageRef(uri="https://x/y.png"))]
    assert estimated(PLAN, sample).image_tokens.likely == 765_000


def test_pictures_are_counted_as_they_will_be_sent() -> None:
    found = estimated(replace(PLAN, longest_side=512), questions(1, image=picture(1024, 1024)))
    assert (found.picture, found.image_tokens.likely) == ((512, 512), 255_000)


@pytest.mark.parametrize(
    ("pace", "hours", "binds"),
    [
        (Pace(in_flight=10), 1000 * 4 / 10 / 3600, "calls in flight"),
        (Pace(in_flight=10, requests_per_minute=60), 1000 / 60 / 60, "requests per minute"),
        (Pace(in_flight=10, requests_per_minute=60, tokens_per_minute=4080), 100 / 60, "tokens per minute"),
        (Pace(in_flight=1, requests_per_minute=60), 1000 * 4 / 3600, "calls in flight"),
    ],
)
def test_the_tightest_limit_sets_the_hours(pace: Pace, hours: float, binds: str) -> None:
    found = estimated(replace(PLAN, pace=pace), questions(1))
    assert found.hours.likely == pytest.approx(hours)
    assert found.binds == binds


def test_rows_of_the_same_run_replace_assumptions() -> None:
    measured = Measured(rows=100, calls=150, prompt_tokens=50_000, generated_tokens=20_000, call_s=2.0)
    found = estimated(replace(PLAN, measured=measured), questions(3))
    assert found.calls.likely == 1500
    assert found.prompt_tokens.each() == pytest.approx((450_000, 500_000, 550_000))
    assert found.hours.likely == pytest.approx(1500 * 2 / 10 / 3600)
    assert any("100 rows of this run" in note for note in found.notes)
    assert not any("assumes" in note for note in found.notes)


def test_a_budget_says_how_far_it_reaches() -> None:
    assert estimated(replace(PLAN, budget_tokens=204_000), questions(1)).rows_in_budget == 500
    assert estimated(replace(PLAN, budget_dollars=1e6), questions(1)).rows_in_budget is None


def test_unknown_prices_give_no_dollars() -> None:
    free = Prices(prompt=0.0, generated=0.0, source="the price is unknown", is_known=False)
    found = estimated(replace(PLAN, prices=free, budget_dollars=1.0), questions(1))
    assert (found.dollars, found.rows_in_budget) == (None, None)
    assert "the price is unknown" in found.notes


def test_a_plan_is_what_the_run_is_set_to() -> None:
    config = AnnotateConfig.model_validate(
        {
            "input": "questions",
            "output": "run",
            "teacher": {
                "base_url": "http://127.0.0.1:1/v1",
                "model": "gpt-4o",
                "max_in_flight": 20,
                "prompt_dollars_per_million": 1,
                "generated_dollars_per_million": 2,
                "image": {"longest_side": 640},
            },
            "limits": {"max_in_flight": 50, "tokens_per_minute": 9000, "budget_dollars": 5, "budget_tokens": 100},
            "actors": 3,
            "with_judgements": True,
        }
    )
    paid = PaidTotals(calls=1, prompt_tokens=60, generated_tokens=70, dollars=2.0)
    plan = plan_of(config, paid=paid)
    assert plan.pace == Pace(in_flight=50, tokens_per_minute=9000)
    assert (plan.longest_side, plan.with_flaws, plan.verify) == (640, True, VerifyConfig())
    assert (plan.prices.prompt, plan.prices.generated, plan.prices.is_known) == (1, 2, True)
    assert (plan.budget_dollars, plan.budget_tokens) == (3.0, 0)
    assert plan_of(config.model_copy(update={"actors": 2})).pace.in_flight == 40


def test_nothing_to_do_takes_nothing() -> None:
    found = estimated(PLAN, [], rows=0)
    assert (found.calls.likely, found.hours.likely, found.binds) == (0, 0, "nothing to ask")


def test_text_is_counted_by_its_letters() -> None:
    assert text_tokens("abcdefgh") == 2
    assert text_tokens("日本語") == 3
    assert text_tokens("жить") == 2
    assert text_tokens("") == 0


def test_three_whole_prompts_are_shown() -> None:
    sample = [replace(questions(1)[0], answer=None), *questions(5)]
    shown = shown_prompts(AnnotationMode.ONE_PROMPT, sample)
    assert shown == tuple((q.id, annotation_prompt(q)) for q in sample[1:4])
    titles = [title for title, _ in shown_prompts(AnnotationMode.FOUR_PROMPTS, sample)]
    assert titles == ["q0, SUMMARY", "q1, REASONING", "q2, CONCLUSION"]


def test_a_dry_run_looks_at_a_bounded_number_of_questions() -> None:
    taken = []

    def endless() -> object:
        while True:
            taken.append(1)
            yield questions(1)[0]

    found = dry_run(PLAN, endless(), 1_000_000)  # type: ignore[arg-type]
    assert (len(taken), found.estimate.sampled_rows, found.estimate.rows) == (200, 200, 1_000_000)


def test_lines_show_prompts_figures_and_what_they_rest_on() -> None:
    sample = questions(3, image=picture(1024, 1024))
    lines = dry_run_lines(dry_run(replace(PLAN, budget_dollars=1.0), sample, 99_000))
    assert annotation_prompt(sample[0]) in lines
    text = "\n".join(estimate_lines(estimated(replace(PLAN, budget_dollars=1.0), sample, 99_000)))
    assert "99,000 rows to ask, estimated from 3 of them" in text
    assert "dollars           $469.85 ($469.85 to $469.85)" in text
    assert "what sets it: calls in flight" in text
    assert "the budget is likely to end the run after about 210 rows" in text
    assert "OpenAI's tiles" in text
    assert "assumes 1 attempts a row" in text
