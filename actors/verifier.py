"""Whether a teacher's reply may be taught: the rungs that a rule can decide, cheapest first.

Pure functions; asks nobody. Where the rule of ``reasoning.grading`` cannot tell (an answer in words of
its own), it says so; ``pipelines.verification`` asks the teacher then, and climbs the rungs that need one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum

from actors.wording import giveaway, is_refusal, sees_no_picture
from reasoning.grading import choice_index, extract_answer, is_correct, yes_or_no
from reasoning.numerals import numeral
from reasoning.parsing import ParseFault, parse_stage, parse_stages
from reasoning.records import AnswerType, Question, RejectReason
from reasoning.stages import STAGES, TAGS, FourStages, Stage


class Rung(StrEnum):
    """What a reply has passed, in climbing order. The values are written to Parquet and never change."""

    ENDING = "ending"
    """Neither cut off nor filtered nor empty."""
    FORM = "form"
    """Four tags in order, nothing outside."""
    REFUSAL = "refusal"
    """No stage declines."""
    ANSWER_BY_RULE = "answer_by_rule"
    """The conclusion is the standard answer by ``reasoning.grading``."""
    ANSWER_BY_JUDGE = "answer_by_judge"
    """A judge said that the conclusion means the standard answer."""
    LEAK = "leak"
    """No stage speaks of the answer or the hint that the teacher was given."""
    CAPTION = "caption"
    """The teacher, asked with the picture, found nothing wrong in the caption."""
    RESOLVE = "resolve"
    """Asked without the standard answer, the teacher arrived at it."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """How far one reply climbed. ``reason`` None: nothing is against teaching it so far.

    ``stages`` are what could be read, also of a rejected reply. ``needs_opinion``: the rule says the
    answer is another, but the rule may be wrong.
    """

    stages: FourStages | None
    reason: RejectReason | None
    detail: str = ""
    stage: Stage | None = None
    """The stage that is at fault, where it is one alone."""
    needs_opinion: bool = False
    passed: tuple[Rung, ...] = ()

    def climbed(self, *rungs: Rung) -> Check:
        """The same, with further rungs behind it."""
        return replace(self, passed=(*self.passed, *rungs))

    def failed(self, reason: RejectReason, detail: str, stage: Stage | None = None) -> Check:
        """The same, rejected; the rungs passed before stay."""
        return replace(self, reason=reason, detail=detail, stage=stage, needs_opinion=False)


def check_reply(question: Question, text: str, *, finish_reason: str, refusal: str | None) -> Check:
    """All rungs that need no teacher, for a reply that should hold four stages."""
    found = check_form(text, finish_reason=finish_reason, refusal=refusal)
    return found if isinstance(found, Check) else check_stages(question, found)


def check_form(text: str, *, finish_reason: str, refusal: str | None) -> FourStages | Check:
    """The four stages of a reply that should hold them, or what is wrong with its ending or form."""
    ended = check_ending(text, finish_reason=finish_reason, refusal=refusal)
    if ended is not None:
        return ended
    found = parse_stages(text)
    return _unparsed(text, found) if isinstance(found, ParseFault) else found


def check_stage_reply(text: str, stage: Stage, *, finish_reason: str, refusal: str | None) -> str | Check:
    """The text of the one stage that a reply should hold, or what is wrong with it.

    A weak teacher that is asked for one stage often forgets its tags. So a reply without any tag, and
    without the names of other stages as headings, is taken for the stage as it stands.
    """
    ended = check_ending(text, finish_reason=finish_reason, refusal=refusal)
    if ended is not None:
        return ended
    found = parse_stage(text, stage)
    if not isinstance(found, ParseFault):
        return found
    return _untagged(text, stage) or _unparsed(text, found)


def check_ending(text: str, *, finish_reason: str, refusal: str | None) -> Check | None:
    """What the server says of the reply's end; None when it ended well and has words."""
    if finish_reason == "length":
        return _reject(RejectReason.LENGTH, "the reply reached the token limit and is cut off")
    if finish_reason == "content_filter":
        return _reject(RejectReason.CONTENT_FILTER, "the server's content filter ended the reply")
    if refusal:
        return _reject(RejectReason.REFUSAL, f"the teacher declined: {excerpt(refusal)}", Rung.ENDING)
    if not text.strip():
        return _reject(RejectReason.EMPTY_REPLY, f"the reply is empty (finish reason {finish_reason!r})")
    return None


def check_stages(question: Question, stages: FourStages) -> Check:
    """The rungs about what the four stages say: refusal, the answer by rule, leaks."""
    check = check_answer(question, stages)
    return check if check.reason is not None else check_leak(question, check)


def check_answer(question: Question, stages: FourStages) -> Check:
    """The rungs up to the answer by rule, of a reply with the right tags."""
    check = Check(stages=stages, reason=None, passed=(Rung.ENDING, Rung.FORM))
    if declined := _declines(question, stages):
        detail, stage = declined
        return check.failed(RejectReason.REFUSAL, detail, stage)
    check = check.climbed(Rung.REFUSAL)
    if not has_answer(question):
        return check.failed(RejectReason.UNDECIDED, NO_ANSWER)
    if is_correct(question, stages.conclusion):
        return check.climbed(Rung.ANSWER_BY_RULE)
    failed = check.failed(RejectReason.WRONG_ANSWER, _contradiction(question, stages.conclusion))
    return replace(failed, needs_opinion=not is_rule_sure(question, stages.conclusion))


def check_leak(question: Question, check: Check) -> Check:
    """Whether a stage speaks of the answer the teacher was given, or of a hint that a student does not see.

    Words of the question itself do not count.
    """
    turns = [text for turn in question.history for text in (turn.question, turn.answer)]
    shown = (question.question, *question.choices, question.hint or "", question.answer or "", *turns)
    for stage, text in _texts(check).items():
        words = giveaway(text, asked=shown, is_hint_hidden=not question.hint)
        if words is not None:
            detail = f"{stage} speaks of what only the teacher was given: {words!r}"
            return check.failed(RejectReason.LEAK, detail, stage)
    return check.climbed(Rung.LEAK)


NO_ANSWER = "the question has no standard answer to check the conclusion against"


def has_answer(question: Question) -> bool:
    """Whether there is a standard answer, or another accepted one, to check against."""
    return any(answer and answer.strip() for answer in (question.answer, *question.answers))


def is_rule_sure(question: Question, conclusion: str) -> bool:
    """Whether the rule's no stands: no judge is asked about what a rule can read.

    Sure are choices, numbers, and answers in words where both sides are a yes or no, both a number, or
    both one of the question's options. What is left, other words than the standard answer's, may mean the same.
    """
    if question.answer_type not in (AnswerType.FREE, AnswerType.TEXT):
        return True
    accepted = [answer for answer in (question.answer, *question.answers) if answer and answer.strip()]
    said = extract_answer(conclusion)
    if question.choices and all(choice_index(answer, question.choices) is not None for answer in accepted):
        return True
    if all(_polarity(answer) for answer in accepted) and yes_or_no(conclusion):
        return True
    return all(_is_other_number(said, answer) for answer in accepted)


def excerpt(text: str, longest: int = 80) -> str:
    """One line of ``text``, quoted, cut to ``longest`` characters."""
    line = " ".join(text.split())
    return repr(line if len(line) <= longest else f"{line[:longest]}…")


def _is_other_number(said: str, wanted: str) -> bool:
    """Whether both are numbers that can be compared; 1 km may be 1000 m, so units must not differ."""
    if numeral(said) is None or numeral(wanted) is None:
        return False
    units = [re.findall(r"[^\W\d_]+|[%°$€£¥]", text.casefold()) for text in (said, wanted)]
    return not all(units) or units[0] == units[1]


def _polarity(answer: str) -> str | None:
    words = re.findall(r"\w+", answer.casefold())
    return words[0] if words in (["yes"], ["no"]) else None


def _contradiction(question: Question, conclusion: str) -> str:
    wanted = question.answer if question.answer and question.answer.strip() else question.answers[0]
    return f"the conclusion {excerpt(conclusion)} is not the standard answer {excerpt(wanted)}"


def _declines(question: Question, stages: FourStages) -> tuple[str, Stage | None] | None:
    """What is wrong where a stage declines, and which stage to begin anew with; None where none declines."""
    for stage, text in stages.as_mapping().items():
        if stage is not Stage.CONCLUSION and sees_no_picture(text) and not sees_no_picture(question.question):
            return f"{stage} says that there is no picture to look at: {excerpt(text)}", stage
    # A speech bubble may say so, and the question may ask for it.
    if is_refusal(stages.conclusion) and not any(is_refusal(a) for a in (question.answer, *question.answers) if a):
        return f"the conclusion declines: {excerpt(stages.conclusion)}", None
    return None


_ANY_TAG = re.compile(r"</?\s*(?:" + "|".join(stage.value for stage in STAGES) + r")\s*/?>", re.IGNORECASE)
_HEADING = re.compile(
    r"^[\s#*_>\-\d.)]*(?P<stage>" + "|".join(stage.value for stage in STAGES) + r")[*_]*\s*(?:[:：][*_]*|$)",
    re.IGNORECASE | re.MULTILINE,
)


def _untagged(text: str, stage: Stage) -> str | None:
    """A reply without tags as the stage it was asked for, its own heading taken off; None when it is none."""
    if _ANY_TAG.search(text) or is_refusal(_opening(text)):
        return None
    headings = list(_HEADING.finditer(text))
    if any(found["stage"].upper() != stage.value for found in headings) or len(headings) > 1:
        return None
    if headings and text[: headings[0].start()].strip():
        return None
    return text[headings[0].end() if headings else 0 :].strip() or None


def _unparsed(text: str, fault: ParseFault) -> Check:
    if is_refusal(_opening(text)):
        return _reject(RejectReason.REFUSAL, f"the teacher declined: {excerpt(text)}", Rung.ENDING)
    return _reject(RejectReason.BAD_FORMAT, f"{fault.code}: {fault.message}", Rung.ENDING)


def _opening(text: str) -> str:
    """How a reply begins, its first stage at most: further down, something may well be said to be unknowable."""
    for tag in TAGS:
        text = text.replace(tag, "\x1e" if tag.startswith("</") else " ")
    return text.strip().partition("\x1e")[0][:300]


def _texts(check: Check) -> dict[Stage, str]:
    return check.stages.as_mapping() if check.stages is not None else {}


def _reject(reason: RejectReason, detail: str, *passed: Rung) -> Check:
    return Check(stages=None, reason=reason, detail=detail, passed=passed)
