"""One question and a teacher: what is accepted, what is asked again and how, what is given up."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from annotation_cases import FLAWED, GOOD, QUESTION, ScriptedTeacher, said
from PIL import Image

from actors.images import ImagePolicy
from actors.teacher import CallFault
from actors.teacher_calls import prepared
from pipelines.annotator import AnnotationMode, Annotator, Draft
from reasoning.errors import BudgetReachedError, ImageError, TeacherError
from reasoning.prompts import CORRECTION_LEAD
from reasoning.records import AnswerType, ImageRef, Question, RejectReason, Turn
from reasoning.stages import STAGES, FourStages, Stage, render_stage

PREPARE = partial(prepared, policy=ImagePolicy())


def annotate(
    teacher: ScriptedTeacher,
    question: Question = QUESTION,
    *,
    mode: AnnotationMode = AnnotationMode.ONE_PROMPT,
    max_attempts: int = 3,
    with_flaws: bool = False,
    generation: int = 0,
) -> Draft:
    annotator = Annotator(teacher, mode=mode, max_attempts=max_attempts, with_flaws=with_flaws)
    return asyncio.run(annotator.annotate(question, generation=generation))


def test_good_reply_is_accepted_at_once() -> None:
    draft = annotate(ScriptedTeacher(said(GOOD.render())))
    assert (draft.stages, draft.reason, draft.attempts, draft.attempt_faults) == (GOOD, None, 1, ())
    assert (draft.calls, draft.usage.prompt_tokens, draft.usage.dollars) == (1, 10, 0.5)
    assert draft.checks == ("ending", "form", "refusal", "answer_by_rule", "leak")


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
    assert draft.attempt_replies == ("?", draft.reply)
    assert draft.attempt_details[1] == draft.detail
    assert draft.attempt_details[0].startswith("summary.missing")
    assert draft.checks == ("ending", "form", "refusal")


@pytest.mark.parametrize(
    "reason",
    [
        RejectReason.RATE_LIMITED,
        RejectReason.SERVER_ERROR,
        RejectReason.TIMEOUT,
        RejectReason.CONNECTION_LOST,
        RejectReason.GARBLED_REPLY,
        RejectReason.TEACHER_ERROR,
    ],
)
def test_each_fault_of_a_call_shows_under_its_own_code(reason: RejectReason) -> None:
    draft = annotate(ScriptedTeacher(CallFault(reason=reason, message="HTTP 500", retries=("500",))))
    assert (draft.reason, draft.detail, draft.attempts, draft.call_retries) == (reason, "HTTP 500", 1, ("500",))


def test_what_a_content_filter_ended_is_asked_once() -> None:
    draft = annotate(ScriptedTeacher(said("", finish_reason="content_filter")))
    assert (draft.reason, draft.attempts, draft.calls) == (RejectReason.CONTENT_FILTER, 1, 1)


def test_a_call_that_fails_at_the_second_attempt_keeps_the_first_reply() -> None:
    fault = CallFault(reason=RejectReason.TIMEOUT, message="no reply within 9 s", retries=())
    draft = annotate(ScriptedTeacher(said("?"), fault))
    assert (draft.reason, draft.reply) == (RejectReason.TIMEOUT, "?")
    assert draft.attempt_faults == ("bad_format", "timeout")


def test_repeated_calls_are_counted() -> None:
    reply = replace(said(GOOD.render()), retries=("429", "timeout"))
    assert annotate(ScriptedTeacher(reply)).call_retries == ("429", "timeout")


def test_calls_from_the_cache_are_told_apart() -> None:
    draft = annotate(ScriptedTeacher(said("?", is_cached=True), said(GOOD.render())))
    assert (draft.calls, draft.cached_calls, draft.call_seconds) == (2, 1, (0.25,))
    assert draft.usage.prompt_tokens == 20


def test_a_picture_that_the_teachers_side_cannot_use_rejects_the_row() -> None:
    draft = annotate(ScriptedTeacher(ImageError("too large")))
    assert (draft.reason, draft.detail, draft.calls) == (RejectReason.IMAGE_UNUSABLE, "too large", 0)


def test_lost_teacher_and_spent_budget_end_the_run() -> None:
    for error in (TeacherError("gone"), BudgetReachedError("spent")):
        with pytest.raises(type(error)):
            annotate(ScriptedTeacher(error))


def test_a_request_put_again_is_a_fresh_sample() -> None:
    teacher = ScriptedTeacher(*[said("?")] * 4)
    annotate(teacher, max_attempts=4)
    assert teacher.asked[1] == teacher.asked[2] == teacher.asked[3]
    assert teacher.samples == [0, 0, 1, 2]


def test_a_row_done_over_asks_for_fresh_samples_and_counts_alike_each_time() -> None:
    for _ in range(2):
        teacher = ScriptedTeacher(*[said("?")] * 3)
        annotate(teacher, generation=2)
        assert teacher.samples == [2000, 2000, 2001]


def test_a_fault_of_the_source_is_rejected_before_the_picture_is_looked_at() -> None:
    teacher = ScriptedTeacher()
    broken = replace(QUESTION, image=ImageRef(data=b"no image"), meta={"source_fault": "no such option: E"})
    draft = annotate(teacher, broken)
    assert (draft.reason, draft.detail, draft.attempts) == (RejectReason.SOURCE_FAULT, "no such option: E", 0)
    assert teacher.asked == []


@pytest.mark.parametrize("answer", [None, "  "])
def test_without_a_standard_answer_nothing_is_paid(answer: str | None) -> None:
    teacher = ScriptedTeacher()
    draft = annotate(teacher, replace(QUESTION, answer=answer))
    assert (draft.reason, draft.calls, teacher.asked) == (RejectReason.UNDECIDED, 0, [])


def test_the_picture_is_prepared_once_a_row_and_sent_as_prepared() -> None:
    prepared: list[ImageRef] = []

    def prepare(image: ImageRef) -> ImageRef:
        prepared.append(image)
        return ImageRef(data=b"small", media_type="image/webp")

    teacher = ScriptedTeacher(said("?"), said(GOOD.render()), prepare=prepare)
    picture = ImageRef(uri="s3://pictures/a.tif")
    draft = annotate(teacher, replace(QUESTION, image=picture))
    assert (draft.reason, prepared) == (None, [picture])
    assert teacher.images == [ImageRef(data=b"small", media_type="image/webp")] * 2


def test_earlier_turns_and_the_teachers_own_hint_are_in_the_prompt() -> None:
    turns = (Turn(question="Is there a ball?", answer="no"),)
    asked = replace(QUESTION, history=turns, meta={"teacher_hint": "one is hidden"})
    for mode in AnnotationMode:
        teacher = ScriptedTeacher(said("I'm sorry, no."))
        annotate(teacher, asked, mode=mode, max_attempts=1)
        prompt = teacher.asked[0][0].text
        assert "Q: Is there a ball?\nA: no" in prompt
        assert "> one is hidden" in prompt


def test_unusable_picture_is_rejected_without_a_call(tmp_path: Path) -> None:
    for image in (ImageRef(data=b"\x89PNG\r\n\x1a\n..."), ImageRef(uri=str(tmp_path / "none.png"))):
        teacher = ScriptedTeacher(prepare=PREPARE)
        draft = annotate(teacher, replace(QUESTION, image=image))
        assert (draft.reason, draft.attempts, teacher.asked) == (RejectReason.IMAGE_UNUSABLE, 0, [])


def test_picture_in_a_file_is_sent_by_its_bytes_and_true_type(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (4, 4)).save(path, "JPEG")
    teacher = ScriptedTeacher(said(GOOD.render()), prepare=PREPARE)
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
    teacher = ScriptedTeacher(good[Stage.SUMMARY], said("<CAPTION> Two."), *[good[s] for s in STAGES[1:]])
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


def test_four_prompts_take_a_stage_without_tags() -> None:
    texts = [text if stage is Stage.SUMMARY else f"**{stage.value.title()}:** {text}" for stage, text in _texts(GOOD)]
    draft = annotate(ScriptedTeacher(*map(said, texts)), mode=AnnotationMode.FOUR_PROMPTS)
    assert (draft.stages, draft.reason, draft.calls) == (GOOD, None, 4)


def test_four_prompts_write_anew_from_the_stage_that_gave_the_answer_away() -> None:
    leaky = replace(GOOD, summary="Count until it matches the standard answer.")
    replies = [said(render_stage(stage, text)) for stage, text in [*_texts(leaky), *_texts(GOOD)]]
    teacher = ScriptedTeacher(*replies)
    draft = annotate(teacher, mode=AnnotationMode.FOUR_PROMPTS)
    assert (draft.stages, draft.attempt_faults, draft.calls) == (GOOD, ("leak",), 8)
    assert draft.attempt_replies == (leaky.render(),)
    assert "SUMMARY speaks of" in teacher.asked[4][0].text


def test_four_prompts_show_the_conclusion_all_that_was_written() -> None:
    teacher = ScriptedTeacher(*[said(render_stage(stage, text)) for stage, text in _texts(GOOD)])
    annotate(teacher, mode=AnnotationMode.FOUR_PROMPTS)
    shown = teacher.asked[3][0].text
    assert all(text in shown for stage, text in _texts(GOOD) if stage is not Stage.CONCLUSION)


@pytest.mark.parametrize(
    ("opinion", "reason"),
    [("valid", None), ("invalid", RejectReason.JUDGED_INVALID)],
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
    fault = CallFault(reason=RejectReason.TEACHER_ERROR, message="HTTP 400", retries=())
    draft = annotate(ScriptedTeacher(said(GOOD.render()), fault), with_flaws=True)
    assert (draft.reason, draft.flawed_reply) == (None, None)


def _texts(stages: FourStages) -> list[tuple[Stage, str]]:
    return list(stages.as_mapping().items())
