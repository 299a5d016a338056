"""One question and a teacher: what is accepted, what is asked again and how, what is given up."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from annotation_cases import FLAWED, GOOD, QUESTION, ScriptedTeacher, said
from PIL import Image

from actors.teacher import CallFault
from pipelines.annotator import AnnotationMode, Annotator, Draft
from reasoning.errors import TeacherError
from reasoning.prompts import CORRECTION_LEAD
from reasoning.records import AnswerType, ImageRef, Question, RejectReason
from reasoning.stages import STAGES, Stage, render_stage


def annotate(
    teacher: ScriptedTeacher,
    question: Question = QUESTION,
    *,
    mode: AnnotationMode = AnnotationMode.ONE_PROMPT,
    max_attempts: int = 3,
    with_flaws: bool = False,
) -> Draft:
    annotator = Annotator(teacher, mode=mode, max_attempts=max_attempts, with_flaws=with_flaws)
    return asyncio.run(annotator.annotate(question))


def test_good_reply_is_accepted_at_once() -> None:
    draft = annotate(ScriptedTeacher(said(GOOD.render())))
    assert (draft.stages, draft.reason, draft.attempts, draft.attempt_faults) == (GOOD, None, 1, ())
    assert (draft.calls, draft.usage.prompt_tokens, draft.usage.dollars) == (1, 10, 0.5)


def test_fault_is_shown_with_the_reply_at_the_next_attempt() -> None:
    wrong = replace(GOOD, conclusion="3").render()
    teacher = ScriptedTeacher(said(wrong), said(GOOD.render()))
    draft = annotate(teacher)
    assert (draft.reason, draft.attempts, draft.attempt_faults) == (None, 2, ("wrong_answer",))
    assert draft.usage.generated_tokens == 10
    prompt, reply, correction = teacher.asked[1]
    assert prompt == teacher.asked[0][0]
    assert (reply.role, reply.text) == ("assistant", wrong)
    assert CORRECTION_LEAD in correction.text
    assert "'3' is not the standard answer '2'" in correction.text


def test_fault_without_words_is_shown_in_the_prompt() -> None:
    teacher = ScriptedTeacher(said("", refusal="No."), said(GOOD.render()))
    assert annotate(teacher).attempts == 2
    (message,) = teacher.asked[1]
    assert CORRECTION_LEAD in message.text


def test_last_fault_is_the_reason_when_attempts_run_out() -> None:
    teacher = ScriptedTeacher(said("?"), said(replace(GOOD, conclusion="3").render()))
    draft = annotate(teacher, max_attempts=2)
    assert draft.reason is RejectReason.WRONG_ANSWER
    assert (draft.attempts, draft.attempt_faults) == (2, ("bad_format", "wrong_answer"))
    assert draft.stages is not None
    assert draft.reply.endswith("<CONCLUSION> 3 </CONCLUSION>")


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (CallFault(message="HTTP 400", retries=("500",)), RejectReason.TEACHER_ERROR),
        (said("", finish_reason="content_filter"), RejectReason.CONTENT_FILTER),
    ],
)
def test_what_no_attempt_can_mend_is_asked_once(reply: CallFault, reason: RejectReason) -> None:
    draft = annotate(ScriptedTeacher(reply))
    assert (draft.reason, draft.attempts) == (reason, 1)


def test_repeated_calls_are_counted() -> None:
    reply = replace(said(GOOD.render()), retries=("429", "timeout"))
    assert annotate(ScriptedTeacher(reply)).call_retries == ("429", "timeout")


def test_lost_teacher_is_raised() -> None:
    with pytest.raises(TeacherError):
        annotate(ScriptedTeacher(TeacherError("gone")))


def test_unusable_picture_is_rejected_without_a_call(tmp_path: Path) -> None:
    for image in (ImageRef(data=b"\x89PNG\r\n\x1a\n..."), ImageRef(uri=str(tmp_path / "none.png"))):
        teacher = ScriptedTeacher()
        draft = annotate(teacher, replace(QUESTION, image=image))
        assert (draft.reason, draft.attempts, teacher.asked) == (RejectReason.IMAGE_UNUSABLE, 0, [])


def test_picture_in_a_file_is_sent_by_its_bytes_and_true_type(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (4, 4)).save(path, "JPEG")
    teacher = ScriptedTeacher(said(GOOD.render()))
    annotate(teacher, replace(QUESTION, image=ImageRef(uri=str(path))))
    assert teacher.images == [ImageRef(data=path.read_bytes(), media_type="image/jpeg")]


def test_four_prompts_build_on_what_was_written() -> None:
    replies = [said(render_stage(stage, text)) for stage, text in GOOD.as_mapping().items()]
    teacher = ScriptedTeacher(*replies)
    draft = annotate(teacher, mode=AnnotationMode.FOUR_PROMPTS)
    assert (draft.stages, draft.reason, draft.attempts, draft.calls) == (GOOD, None, 1, 4)
    assert GOOD.caption in teacher.asked[2][0].text


def test_four_prompts_repeat_only_the_stage_that_failed() -> None:
    good = {stage: said(render_stage(stage, text)) for stage, text in GOOD.as_mapping().items()}
    teacher = ScriptedTeacher(good[Stage.SUMMARY], said("Two."), *[good[s] for s in STAGES[1:]])
    draft = annotate(teacher, mode=AnnotationMode.FOUR_PROMPTS)
    assert (draft.stages, draft.attempts, draft.attempt_faults) == (GOOD, 2, ("bad_format",))
    assert len(teacher.asked[2]) == 3
    assert len(teacher.asked[3]) == 1


def test_four_prompts_rewrite_reasoning_and_conclusion_of_a_wrong_answer() -> None:
    good = {stage: said(render_stage(stage, text)) for stage, text in GOOD.as_mapping().items()}
    wrong = said(render_stage(Stage.CONCLUSION, "3"))
    first = [good[Stage.SUMMARY], good[Stage.CAPTION], good[Stage.REASONING], wrong]
    teacher = ScriptedTeacher(*first, good[Stage.REASONING], good[Stage.CONCLUSION])
    draft = annotate(teacher, mode=AnnotationMode.FOUR_PROMPTS)
    assert (draft.stages, draft.attempts, draft.calls) == (GOOD, 2, 6)
    assert CORRECTION_LEAD in teacher.asked[4][-1].text


@pytest.mark.parametrize(
    ("opinion", "reason"),
    [("valid", None), ("invalid", RejectReason.JUDGED_INVALID), ("maybe", RejectReason.UNDECIDED)],
)
def test_answer_in_free_words_is_asked_about(opinion: str, reason: RejectReason | None) -> None:
    question = replace(QUESTION, answer="a pair of cubes", answer_type=AnswerType.FREE)
    teacher = ScriptedTeacher(said(GOOD.render()), said(opinion))
    draft = annotate(teacher, question, max_attempts=1)
    assert (draft.reason, draft.calls, draft.usage.prompt_tokens) == (reason, 2, 20)


def test_flawed_version_of_accepted_rows_only() -> None:
    draft = annotate(ScriptedTeacher(said(GOOD.render()), said(FLAWED.render())), with_flaws=True)
    assert (draft.flawed_reply, draft.reply, draft.calls) == (FLAWED.render(), GOOD.render(), 2)
    rejected = annotate(ScriptedTeacher(said("?")), with_flaws=True, max_attempts=1)
    assert (rejected.flawed_reply, rejected.calls) == (None, 1)


def test_row_stays_accepted_when_its_flawed_version_fails() -> None:
    fault = CallFault(message="HTTP 400", retries=())
    draft = annotate(ScriptedTeacher(said(GOOD.render()), fault), with_flaws=True)
    assert (draft.reason, draft.flawed_reply) == (None, None)
