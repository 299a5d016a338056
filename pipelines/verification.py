"""The rungs of the verification ladder that need a teacher: the judge, the caption, the blind question.

What a rule can decide is in ``actors.verifier``; here the rest is asked, cheapest first, and only as
far as the configuration says.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from actors.teacher import TeacherReply
from actors.verifier import Check, Rung, check_answer, check_leak, excerpt, is_rule_sure
from pipelines.row_calls import RowCalls
from reasoning.grading import is_correct
from reasoning.prompts import caption_check_prompt, resolve_prompt, validity_prompt
from reasoning.records import Question, RejectReason
from reasoning.stages import FourStages, Stage
from reasoning.verdicts import parse_answer_line, parse_consistency, parse_validity


class JudgeUse(StrEnum):
    """When a model's opinion on the conclusion is asked for."""

    NEVER = "never"
    """The rule alone decides."""
    WHEN_UNSURE = "when_unsure"
    """Where the rule says no to an answer in words of its own; never about letters, numbers, yes or no."""
    ALWAYS = "always"
    """Also where the rule says yes: the judge may then take back what the rule allowed."""


class VerifyConfig(BaseModel):
    """How far a reply is checked before it is accepted, beyond what rules can tell."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    judge: JudgeUse = JudgeUse.WHEN_UNSURE
    """When the teacher is asked whether the conclusion means the standard answer."""
    judge_tries: int = Field(default=3, ge=1, le=20)
    """How often it is asked while it says neither valid nor invalid; still undecided is not valid."""
    caption_check: bool = False
    """Ask the teacher, with the picture, whether anything in the caption is wrong: a further call for each row."""
    resolve: bool = False
    """Ask the question without the standard answer and accept the row only if that arrives at it too: a further
    call for each row, and the hardest questions go."""
    resolve_tries: int = Field(default=1, ge=1, le=20)
    """How often the blind question may be asked until it arrives at the standard answer."""


class Ladder:
    """The ladder for one question; a conclusion that a judge has decided on is not put to it again."""

    def __init__(self, config: VerifyConfig, question: Question, calls: RowCalls) -> None:
        self._config = config
        self._question = question
        self._calls = calls
        self._opinions: dict[str, bool] = {}

    async def climb(self, stages: FourStages) -> Check:
        """How far the four stages get; the first rung that fails gives the reason."""
        check = check_answer(self._question, stages)
        is_asked = check.needs_opinion and self._config.judge is not JudgeUse.NEVER
        if is_asked or (check.reason is None and self._config.judge is JudgeUse.ALWAYS):
            check = await self._judged(stages, check)
        if check.reason is None:
            check = check_leak(self._question, check)
        if check.reason is None and self._config.caption_check and self._calls.image is not None:
            check = await self._caption_checked(stages, check)
        if check.reason is None and self._config.resolve:
            check = await self._resolved(check)
        return check

    async def _judged(self, stages: FourStages, check: Check) -> Check:
        opinion = await self._opinion(stages.conclusion)
        said, wanted = excerpt(stages.conclusion), self._wanted
        match opinion:
            case Check():
                return _unanswered(check, opinion)
            case True:
                return replace(check, reason=None, detail="", needs_opinion=False).climbed(Rung.ANSWER_BY_JUDGE)
            case False:
                detail = f"the conclusion {said} does not mean the standard answer {wanted}"
                return check.failed(RejectReason.JUDGED_INVALID, detail)
            case _:
                detail = (
                    f"it could not be decided whether the conclusion {said} means the standard answer {wanted}; "
                    f"asked for valid or invalid, the judge said {opinion}"
                )
                return check.failed(RejectReason.UNDECIDED, detail)

    async def _opinion(self, answer: str) -> bool | str | Check:
        """Whether ``answer`` means the standard answer; the last words of an undecided judge; why none answered."""
        if answer in self._opinions:
            return self._opinions[answer]
        said = ""
        for _ in range(self._config.judge_tries):
            outcome = await self._calls.ask_one(validity_prompt(self._question, answer), with_image=False)
            if isinstance(outcome, Check):
                return outcome
            opinion = parse_validity(outcome.text) if _is_whole(outcome) else None
            if opinion is not None:
                self._opinions[answer] = opinion
                return opinion
            said = _words(outcome)
        return said

    async def _caption_checked(self, stages: FourStages, check: Check) -> Check:
        said = ""
        for _ in range(self._config.judge_tries):
            outcome = await self._calls.ask_one(caption_check_prompt(self._question, stages.caption))
            if isinstance(outcome, Check):
                return _unanswered(check, outcome)
            is_right = parse_consistency(outcome.text) if _is_whole(outcome) else None
            if is_right:
                return check.climbed(Rung.CAPTION)
            if is_right is False:
                detail = f"CAPTION says what the picture does not show: {excerpt(outcome.text, 300)}"
                return check.failed(RejectReason.CAPTION_INCONSISTENT, detail, Stage.CAPTION)
            said = _words(outcome)
        detail = f"it could not be decided whether CAPTION is right; asked for a word on it, the teacher said {said}"
        return check.failed(RejectReason.UNDECIDED, detail)

    async def _resolved(self, check: Check) -> Check:
        said = "nothing that can be read"
        for _ in range(self._config.resolve_tries):
            outcome = await self._calls.ask_one(resolve_prompt(self._question))
            if isinstance(outcome, Check):
                return _unanswered(check, outcome)
            answer = parse_answer_line(outcome.text) if _is_whole(outcome) else None
            if answer is None:
                continue
            means = await self._means(answer)
            if isinstance(means, Check):
                return _unanswered(check, means)
            if means:
                return check.climbed(Rung.RESOLVE)
            said = excerpt(answer)
        detail = f"asked without the standard answer {self._wanted}, the teacher said {said}"
        return check.failed(RejectReason.NOT_RESOLVED, detail)

    async def _means(self, answer: str) -> bool | Check:
        """Whether a blind answer is the standard answer: by rule, or by a judge where one may be asked."""
        if is_correct(self._question, answer):
            return True
        if self._config.judge is JudgeUse.NEVER or is_rule_sure(self._question, answer):
            return False
        opinion = await self._opinion(answer)
        return opinion if isinstance(opinion, Check) else opinion is True

    @property
    def _wanted(self) -> str:
        return excerpt(self._question.answer or " or ".join(self._question.answers))


def _unanswered(check: Check, fault: Check) -> Check:
    """The reply climbed so far; that the next rung's call failed is the row's reason."""
    return check.failed(fault.reason or RejectReason.TEACHER_ERROR, fault.detail)


def _words(reply: TeacherReply) -> str:
    return excerpt(reply.refusal or reply.text)


def _is_whole(reply: TeacherReply) -> bool:
    """A verdict that was cut off, filtered or declined is none."""
    return reply.finish_reason not in ("length", "content_filter") and not reply.refusal
