"""The rungs that ask: what is asked when, what counts as a yes, and what is recorded."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from annotation_cases import GOOD, QUESTION, ScriptedTeacher, said
from pydantic import ValidationError

from actors.teacher import CallFault, TeacherReply
from pipelines.annotator import Annotator, Draft
from pipelines.verification import JudgeUse, VerifyConfig
from reasoning.prompts import CAPTION_CHECK_LEAD, CORRECTION_LEAD, RESOLVE_LEAD, VALIDITY_LEAD
from reasoning.records import AnswerType, ImageRef, Question, RejectReason

FREE = replace(QUESTION, answer="a pair of cubes", answer_type=AnswerType.FREE)
PICTURED = replace(QUESTION, image=ImageRef(data=b"x"))


def verify(
    config: VerifyConfig, question: Question, *replies: TeacherReply | CallFault, max_attempts: int = 1
) -> tuple[Draft, ScriptedTeacher]:
    """The draft of a question whose replies are these, the four stages first."""
    teacher = ScriptedTeacher(*replies)
    annotator = Annotator(teacher, verify=config, max_attempts=max_attempts)
    return asyncio.run(annotator.annotate(question)), teacher


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ValidationError):
        VerifyConfig.model_validate({"jugde": "never"})
    with pytest.raises(ValidationError):
        VerifyConfig(judge_tries=0)


def test_by_default_rules_decide_and_the_judge_where_they_cannot() -> None:
    draft, teacher = verify(VerifyConfig(), PICTURED, said(GOOD.render()))
    assert (draft.reason, len(teacher.asked)) == (None, 1)
    draft, teacher = verify(VerifyConfig(), FREE, said(GOOD.render()), said("valid"))
    assert (draft.reason, len(teacher.asked)) == (None, 2)
    assert draft.checks == ("ending", "form", "refusal", "answer_by_judge", "leak")


def test_the_judge_sees_no_picture() -> None:
    pictured = replace(FREE, image=ImageRef(data=b"x"))
    _, teacher = verify(VerifyConfig(), pictured, said(GOOD.render()), said("valid"))
    assert teacher.images == [pictured.image, None]
    assert teacher.asked[1][0].text.startswith(VALIDITY_LEAD)


def test_an_undecided_judge_is_asked_again_and_never_means_valid() -> None:
    replies = [said(GOOD.render()), said("Maybe."), said("valid", finish_reason="length"), said("valid")]
    draft, teacher = verify(VerifyConfig(judge_tries=3), FREE, *replies)
    assert (draft.reason, teacher.samples) == (None, [0, 0, 1, 2])
    draft, teacher = verify(VerifyConfig(judge_tries=2), FREE, *replies)
    assert (draft.reason, len(teacher.asked)) == (RejectReason.UNDECIDED, 3)
    assert draft.checks == ("ending", "form", "refusal")


def test_an_undecided_judge_leads_to_another_attempt() -> None:
    better = replace(GOOD, conclusion="A pair of cubes.")
    draft, teacher = verify(
        VerifyConfig(judge_tries=1), FREE, said(GOOD.render()), said("?"), said(better.render()), max_attempts=2
    )
    assert (draft.reason, draft.stages, draft.attempt_faults) == (None, better, ("undecided",))
    assert CORRECTION_LEAD in teacher.asked[2][-1].text


def test_a_conclusion_that_was_judged_is_not_judged_again() -> None:
    draft, teacher = verify(
        VerifyConfig(), FREE, said(GOOD.render()), said("invalid"), said(GOOD.render()), max_attempts=2
    )
    assert (draft.reason, len(teacher.asked)) == (RejectReason.JUDGED_INVALID, 3)
    assert draft.attempt_faults == ("judged_invalid", "judged_invalid")


def test_without_a_judge_the_rule_decides() -> None:
    draft, teacher = verify(VerifyConfig(judge=JudgeUse.NEVER), FREE, said(GOOD.render()))
    assert (draft.reason, len(teacher.asked)) == (RejectReason.WRONG_ANSWER, 1)


def test_a_judge_that_is_always_asked_may_take_back_what_the_rule_allowed() -> None:
    config = VerifyConfig(judge=JudgeUse.ALWAYS)
    draft, _ = verify(config, QUESTION, said(GOOD.render()), said("invalid"))
    assert draft.reason is RejectReason.JUDGED_INVALID
    assert draft.checks == ("ending", "form", "refusal", "answer_by_rule")
    draft, _ = verify(config, QUESTION, said(GOOD.render()), said("valid"))
    assert draft.checks == ("ending", "form", "refusal", "answer_by_rule", "answer_by_judge", "leak")


def test_no_judge_overturns_a_wrong_letter() -> None:
    chosen = Question(id="q", question="?", choices=("1", "2"), answer="A", answer_type=AnswerType.CHOICE)
    wrong = replace(GOOD, conclusion="B")
    for use in JudgeUse:
        draft, teacher = verify(VerifyConfig(judge=use), chosen, said(wrong.render()))
        assert (draft.reason, len(teacher.asked)) == (RejectReason.WRONG_ANSWER, 1)


def test_leaks_are_found_after_the_judge_said_valid() -> None:
    leaky = replace(GOOD, reasoning="One, two, as the standard answer says.")
    draft, _ = verify(VerifyConfig(), FREE, said(leaky.render()), said("valid"))
    assert draft.reason is RejectReason.LEAK


def test_a_caption_that_is_wrong_is_told_and_written_anew() -> None:
    better = replace(GOOD, caption="Two blue cubes.")
    draft, teacher = verify(
        VerifyConfig(caption_check=True),
        PICTURED,
        said(GOOD.render()),
        said("Inconsistent: the cubes are blue."),
        said(better.render()),
        said("consistent"),
        max_attempts=2,
    )
    assert (draft.reason, draft.stages) == (None, better)
    assert draft.attempt_faults == ("caption_inconsistent",)
    assert draft.checks[-1] == "caption"
    assert teacher.asked[1][0].text.startswith(CAPTION_CHECK_LEAD)
    assert teacher.images[1] == PICTURED.image
    assert "the cubes are blue" in teacher.asked[2][-1].text


def test_an_undecided_caption_is_not_accepted() -> None:
    draft, teacher = verify(
        VerifyConfig(caption_check=True, judge_tries=2), PICTURED, said(GOOD.render()), said("Hm."), said("")
    )
    assert (draft.reason, teacher.samples) == (RejectReason.UNDECIDED, [0, 0, 1])


def test_without_a_picture_no_caption_is_checked() -> None:
    draft, teacher = verify(VerifyConfig(caption_check=True), QUESTION, said(GOOD.render()))
    assert (draft.reason, len(teacher.asked)) == (None, 1)
    assert "caption" not in draft.checks


def test_the_blind_question_must_arrive_at_the_answer() -> None:
    config = VerifyConfig(resolve=True, resolve_tries=2)
    draft, teacher = verify(config, PICTURED, said(GOOD.render()), said("Answer: 3"), said("One, two.\nAnswer: 2"))
    assert (draft.reason, draft.checks[-1], teacher.samples) == (None, "resolve", [0, 0, 1])
    assert teacher.asked[1][0].text.startswith(RESOLVE_LEAD)
    assert teacher.images[1] == PICTURED.image
    draft, teacher = verify(config, PICTURED, said(GOOD.render()), said("Answer: 3"), said("Hm.\nHm."), max_attempts=3)
    assert (draft.reason, draft.attempts, len(teacher.asked)) == (RejectReason.NOT_RESOLVED, 1, 3)
    assert "'3'" in draft.detail


def test_a_blind_answer_in_other_words_is_judged() -> None:
    exact = replace(GOOD, conclusion="A pair of cubes.")
    config = VerifyConfig(resolve=True)
    draft, teacher = verify(config, FREE, said(exact.render()), said("Answer: two cubes"), said("valid"))
    assert (draft.reason, len(teacher.asked)) == (None, 3)
    draft, _ = verify(config, FREE, said(exact.render()), said("Answer: two balls"), said("invalid"))
    assert draft.reason is RejectReason.NOT_RESOLVED


@pytest.mark.parametrize("place", [1, 2, 3])
def test_a_call_that_fails_on_the_way_up_gives_its_own_reason_and_keeps_the_stages(place: int) -> None:
    replies: list[TeacherReply | CallFault] = [
        said(GOOD.render()),
        said("valid"),
        said("consistent"),
        said("Answer: 2"),
    ]
    replies[place] = CallFault(reason=RejectReason.RATE_LIMITED, message="HTTP 429", retries=("429",))
    pictured = replace(FREE, image=ImageRef(data=b"x"))
    draft, _ = verify(VerifyConfig(caption_check=True, resolve=True), pictured, *replies, max_attempts=3)
    assert (draft.reason, draft.stages, draft.attempts) == (RejectReason.RATE_LIMITED, GOOD, 1)
    assert (
        draft.checks == ("ending", "form", "refusal", "answer_by_judge", "leak", "caption")[: place + 2 + (place > 1)]
    )
