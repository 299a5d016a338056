"""What an annotation run will take, before anybody is asked: calls, tokens, dollars, hours.

Reads a bounded sample of the questions and the headers of their pictures; sends nothing. What a
teacher will write is not known beforehand: those figures are assumptions, named in the estimate and
given as ranges, or what earlier rows of the same run took.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from actors.call_records import PaidTotals
from actors.image_headers import header_size
from actors.image_tokens import ImageRule, Size, fitted, image_rule
from actors.prices import Prices
from actors.teacher import prices_of
from pipelines.annotate_config import AnnotateConfig
from pipelines.annotator import AnnotationMode, refusal_to_ask
from pipelines.estimate_costs import LETTERS_PER_TOKEN, CallCounter, Case, Cost, Sampled, Span, text_tokens
from pipelines.verification import VerifyConfig
from reasoning.errors import ImageError
from reasoning.prompts import annotation_prompt, stage_annotation_prompt
from reasoning.records import Question
from reasoning.stages import STAGES, Stage

SAMPLED_ROWS = 200
"""So many questions are looked at, at most."""
SHOWN_PROMPTS = 3
_MEASURED_MARGIN = 0.1
"""How far the rest of a run may be from its rows so far."""


ASSUMED = (
    Case(attempts=1.05, reply=200, judged=0.1, resolve=60, first_token_s=0.5, tokens_per_s=120),
    Case(attempts=1.3, reply=320, judged=0.3, resolve=150, first_token_s=1.5, tokens_per_s=60),
    Case(attempts=2.0, reply=550, judged=0.6, resolve=300, first_token_s=4.0, tokens_per_s=25),
)
"""What is taken for granted of a teacher that has not been asked yet: at best, most likely, at worst."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What rows of the same run took so far, in place of assumptions."""

    rows: int
    calls: int
    prompt_tokens: int
    generated_tokens: int
    call_s: float | None = None
    """Seconds a call took on average, where they were measured."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How hard the teacher may be asked, by all actors together."""

    in_flight: int
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be asked, of which model, at which price."""

    model: str
    mode: AnnotationMode
    max_attempts: int
    pace: Pace
    verify: VerifyConfig
    with_flaws: bool = False
    prices: Prices
    """Where they are not known, no dollars are estimated."""
    longest_side: int | None = None
    """What pictures are shrunk to before they are sent."""
    budget_dollars: float | None = None
    budget_tokens: int | None = None
    measured: Measured | None = None
    assumed: tuple[Case, Case, Case] = ASSUMED


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run will take."""

    rows: int
    sampled_rows: int
    unasked_rows: int
    """Of ``rows`` those that will be rejected without a call, by the sample: no answer, a fault of the source, a
    picture that cannot be read."""
    calls: Span
    prompt_tokens: Span
    image_tokens: Span
    """Of ``prompt_tokens`` those of pictures."""
    generated_tokens: Span
    dollars: Span | None
    hours: Span
    binds: str
    """What sets the hours: ``calls in flight``, ``requests per minute`` or ``tokens per minute``."""
    rows_in_budget: int | None
    """How many rows the budget is likely to pay for; None: all, or no budget."""
    picture: Size | None
    """The median picture as it will be sent."""
    notes: tuple[str, ...]
    """What the figures rest on."""


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """Three whole prompts and the estimate."""

    prompts: tuple[tuple[str, str], ...]
    """What each is (the question's id, the stage), and its text as it will be sent beside the picture."""
    estimate: Estimate


def plan_of(config: AnnotateConfig, *, paid: PaidTotals | None = None, measured: Measured | None = None) -> Plan:
    """What a run with these settings asks; ``paid`` is what its budget has been spent on before."""
    limits, teacher, spent = config.limits, config.teacher, paid or PaidTotals()
    room = config.actors * teacher.max_in_flight
    used = spent.prompt_tokens + spent.generated_tokens
    return Plan(
        model=teacher.model,
        mode=config.mode,
        max_attempts=config.max_attempts,
        pace=Pace(
            in_flight=room if limits.max_in_flight is None else min(room, limits.max_in_flight),
            requests_per_minute=limits.requests_per_minute,
            tokens_per_minute=limits.tokens_per_minute,
        ),
        verify=config.verify,
        with_flaws=config.with_judgements,
        prices=prices_of(teacher),
        longest_side=teacher.image.longest_side,
        budget_dollars=None if limits.budget_dollars is None else max(0.0, limits.budget_dollars - spent.dollars),
        budget_tokens=None if limits.budget_tokens is None else max(0, limits.budget_tokens - used),
        measured=measured,
    )


def dry_run(plan: Plan, questions: Iterable[Question], rows: int) -> DryRun:
    """Three prompts and the estimate for ``rows`` questions, of which ``questions`` are a sample in any order.

    At most ``SAMPLED_ROWS`` are taken; give them from all over the input where its parts differ.
    """
    sample = list(itertools.islice(questions, SAMPLED_ROWS))
    return DryRun(prompts=shown_prompts(plan.mode, sample), estimate=estimate_run(plan, sample, rows))


def shown_prompts(mode: AnnotationMode, questions: Sequence[Question]) -> tuple[tuple[str, str], ...]:
    """The first prompts of up to three questions; in four-prompt mode each of another stage."""
    asked = [question for question in questions if refusal_to_ask(question) is None][:SHOWN_PROMPTS]
    if mode is AnnotationMode.ONE_PROMPT:
        return tuple((question.id, annotation_prompt(question)) for question in asked)
    unwritten = {stage: f"(what the teacher wrote as {stage.value})" for stage in STAGES}
    found = []
    for question, stage in zip(asked, (Stage.SUMMARY, Stage.REASONING, Stage.CONCLUSION), strict=False):
        before = {s: unwritten[s] for s in STAGES[: STAGES.index(stage)]}
        found.append((f"{question.id}, {stage.value}", stage_annotation_prompt(question, stage, before)))
    return tuple(found)


def estimate_run(
    plan: Plan,
    sample: Sequence[Question],
    rows: int,
    *,
    count_tokens: Callable[[str], int] | None = None,
) -> Estimate:
    """What ``rows`` questions like those of ``sample`` will take; ``count_tokens`` is ``text_tokens`` if not given."""
    rule = image_rule(plan.model)
    looked = [_look(question, plan.longest_side) for question in sample]
    asked = [seen for seen in looked if seen.is_readable and refusal_to_ask(seen.question) is None]
    median = _median([seen.size for seen in looked if seen.size is not None])
    counter = CallCounter(
        mode=plan.mode,
        verify=plan.verify,
        with_flaws=plan.with_flaws,
        rule=rule,
        count=count_tokens or text_tokens,
        median=median,
    )
    cases = [replace(case, attempts=min(case.attempts, plan.max_attempts)) for case in plan.assumed]
    each = rows / len(sample) if sample else 0.0
    if plan.measured is not None and plan.measured.rows > 0:
        totals = _measured(plan.measured, sum(map(counter.picture, asked)) / max(1, len(asked)), rows)
    else:
        totals = [sum((counter.row(seen, case) for seen in asked), Cost()) * each for case in cases]
    hours = [_hours(plan, total, case) for total, case in zip(totals, cases, strict=True)]
    dollars = Span.of(_dollars(plan.prices, total) for total in totals) if plan.prices.is_known else None
    return Estimate(
        rows=rows,
        sampled_rows=len(sample),
        unasked_rows=round((len(sample) - len(asked)) * each),
        calls=Span.of(total.calls for total in totals),
        prompt_tokens=Span.of(total.prompt for total in totals),
        image_tokens=Span.of(total.image for total in totals),
        generated_tokens=Span.of(total.generated for total in totals),
        dollars=dollars,
        hours=Span.of(found for found, _ in hours),
        binds=hours[1][1],
        rows_in_budget=_rows_in_budget(plan, totals[1], rows),
        picture=median,
        notes=_notes(plan, rule),
    )


def _look(question: Question, longest: int | None) -> Sampled:
    """With the picture's size as it will be sent; what lies behind the web is not looked at."""
    image = question.image
    if image is None or (image.uri or "").startswith(("http://", "https://", "data:")):
        return Sampled(question)
    try:
        return Sampled(question, size=fitted(header_size(image), longest))
    except ImageError:
        return Sampled(question, is_readable=False)


def _measured(measured: Measured, image: float, rows: int) -> list[Cost]:
    """The rows so far, times what is left, give or take a tenth."""
    each = 1 / measured.rows
    calls = measured.calls * each
    prompt = measured.prompt_tokens * each
    # Of a call's prompt the picture is a part that is known; calls without one are few.
    row = Cost(calls, prompt, min(prompt, image * calls), measured.generated_tokens * each)
    return [row * (rows * factor) for factor in (1 - _MEASURED_MARGIN, 1.0, 1 + _MEASURED_MARGIN)]


def _hours(plan: Plan, total: Cost, case: Case) -> tuple[float, str]:
    """How long, and what sets it."""
    if not total.calls:
        return 0.0, "nothing to ask"
    call_s = case.first_token_s + total.generated / total.calls / case.tokens_per_s
    if plan.measured is not None and plan.measured.call_s is not None:
        call_s = plan.measured.call_s
    pace = plan.pace
    minutes = {"calls in flight": total.calls * call_s / pace.in_flight / 60}
    if pace.requests_per_minute is not None:
        minutes["requests per minute"] = total.calls / pace.requests_per_minute
    if pace.tokens_per_minute is not None:
        minutes["tokens per minute"] = total.tokens / pace.tokens_per_minute
    binds = max(minutes, key=lambda name: minutes[name])
    return minutes[binds] / 60, binds


def _dollars(prices: Prices, total: Cost) -> float:
    return prices.dollars(round(total.prompt), round(total.generated))


def _rows_in_budget(plan: Plan, likely: Cost, rows: int) -> int | None:
    parts = []
    if plan.budget_tokens is not None and likely.tokens:
        parts.append(plan.budget_tokens / likely.tokens)
    if plan.budget_dollars is not None and plan.prices.is_known and (dollars := _dollars(plan.prices, likely)):
        parts.append(plan.budget_dollars / dollars)
    part = min(parts, default=1.0)
    return math.floor(rows * part) if part < 1 else None


def _median(sizes: Sequence[Size]) -> Size | None:
    """The median of widths and of heights."""
    if not sizes:
        return None
    return round(statistics.median(w for w, _ in sizes)), round(statistics.median(h for _, h in sizes))


def _notes(plan: Plan, rule: ImageRule) -> tuple[str, ...]:
    guess = "" if rule.is_known else f", which is a guess: nothing is known of {plan.model!r}"
    notes = [f"pictures: {rule.name}{guess}"]
    if plan.prices.is_known:
        notes.append(
            f"${plan.prices.prompt:g} a million prompt tokens and ${plan.prices.generated:g} a million generated ones: "
            f"{plan.prices.source}"
        )
    else:
        notes.append(plan.prices.source)
    low, likely, high = plan.assumed
    if plan.measured is not None and plan.measured.rows > 0:
        notes.append(f"calls and tokens as {plan.measured.rows:,} rows of this run took, give or take a tenth")
    else:
        notes.append(
            f"assumes {min(likely.attempts, plan.max_attempts):g} attempts a row and {likely.reply:g} tokens "
            f"({low.reply:g} to {high.reply:g}) for the four stages; text at {LETTERS_PER_TOKEN} letters a token"
        )
    if plan.measured is None or plan.measured.call_s is None:
        first, speed = likely.first_token_s, likely.tokens_per_s
        notes.append(f"assumes {first:g} s to a reply's first token and {speed:g} tokens/s after")
    else:
        notes.append(f"a call took {plan.measured.call_s:.2f} s so far")
    return tuple(notes)
