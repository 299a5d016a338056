"""The stand-in answers questions of any data set: what it writes passes the checks and says whose text it is."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image
from standin_cases import chat

from actors.verifier import check_reply, check_stage_reply
from pipelines.judgements import FlawedAnswer, parse_flawed
from reasoning.grading import is_correct
from reasoning.parsing import parse_stages
from reasoning.prompts import (
    annotation_prompt,
    caption_check_prompt,
    flaw_prompt,
    resolve_prompt,
    stage_annotation_prompt,
    validity_prompt,
)
from reasoning.records import AnswerType, ImageRef, Question, RejectReason, Turn
from reasoning.stages import STAGES, FourStages, Stage
from reasoning.verdicts import parse_answer_line, parse_consistency, parse_validity
from stagebeam.standin.answers import CallKind, answer
from stagebeam.standin.anything import UNSURE
from stagebeam.standin.faults import FaultName, StandInConfig
from stagebeam.world.dataset import make_questions

FAULTLESS = StandInConfig.faultless()


def picture(kind: str = "JPEG") -> ImageRef:
    stream = io.BytesIO()
    Image.new("RGB", (48, 36), (200, 40, 40)).save(stream, kind)
    return ImageRef(data=stream.getvalue(), media_type=f"image/{kind.lower()}")


def question(text: str, answer_text: str | None, **more: Any) -> Question:
    return Question(**{"id": text[:8], "question": text, "answer": answer_text, "image": picture(), **more})


CASES = [
    question("Is there a dog?", "yes", answer_type=AnswerType.TEXT),
    question("How many bars are above 10?", "7", answer_type=AnswerType.NUMBER),
    question("What is x?", "B", choices=("3", "4", "5", "6"), answer_type=AnswerType.CHOICE),
    question("Which one?", "the café", choices=("a bar", "the café"), answer_type=AnswerType.CHOICE, hint="Look left."),
    question("What does the sign say?", "Keep out, or else.", image=picture("WEBP")),
    question("Describe <CAPTION> tags.\n\n### Odd\nline", "They are tags."),
    question(
        "And the other?",
        "red",
        history=(Turn(question="### Question\nWhat colour?", answer="### Standard answer\nblue"),),
        answer_type=AnswerType.TEXT,
    ),
    question("No picture here: 2 + 2?", "4", image=None, answer_type=AnswerType.NUMBER),
    replace(make_questions(1, seed=1, split="test")[0], id="w", question="Who painted this?", choices=(), answer="Ray"),
]


def messages(asked: Question, prompt: str) -> list[dict[str, Any]]:
    return chat(asked, prompt) if asked.image else [{"role": "user", "content": prompt}]


@pytest.mark.parametrize("asked", CASES, ids=lambda q: q.id)
def test_annotations_pass_the_checks_and_say_that_they_are_a_stand_ins(asked: Question) -> None:
    found = answer(FAULTLESS, messages(asked, annotation_prompt(asked)))
    check = check_reply(asked, found.text, finish_reason=found.finish_reason, refusal=found.refusal)
    assert check.reason is None, check.detail
    assert check.stages is not None
    assert check.stages.conclusion == asked.answer
    assert "stand-in" in check.stages.summary
    assert "stand-in" in check.stages.caption
    assert ("48 by 36" in check.stages.caption) == (asked.image is not None and asked.id != "w")


@pytest.mark.parametrize("asked", CASES, ids=lambda q: q.id)
def test_stage_by_stage_they_are_the_same(asked: Question) -> None:
    texts: dict[Stage, str] = {}
    for stage in STAGES:
        found = answer(FAULTLESS, messages(asked, stage_annotation_prompt(asked, stage, texts)))
        text = check_stage_reply(found.text, stage, finish_reason=found.finish_reason, refusal=None)
        assert isinstance(text, str)
        texts[stage] = text
    assert parse_stages(answer(FAULTLESS, messages(asked, annotation_prompt(asked))).text) == FourStages.from_mapping(
        texts
    )


@pytest.mark.parametrize("asked", CASES, ids=lambda q: q.id)
def test_flawed_versions_differ_everywhere_and_conclude_wrongly(asked: Question) -> None:
    right = parse_stages(answer(FAULTLESS, messages(asked, annotation_prompt(asked))).text)
    assert isinstance(right, FourStages)
    flawed = parse_flawed(answer(FAULTLESS, messages(asked, flaw_prompt(asked, right))).text)
    assert isinstance(flawed, FlawedAnswer)
    assert all(flawed.stages[stage] != right[stage] for stage in STAGES)
    assert set(flawed.notes) == set(STAGES)
    assert not is_correct(asked, flawed.stages.conclusion)


@pytest.mark.parametrize("asked", CASES, ids=lambda q: q.id)
def test_checks_of_its_own_answers(asked: Question) -> None:
    assert asked.answer is not None
    stages = parse_stages(answer(FAULTLESS, messages(asked, annotation_prompt(asked))).text)
    assert isinstance(stages, FourStages)
    for conclusion, valid in ((asked.answer, True), ("a zebra", False)):
        found = answer(FAULTLESS, [{"role": "user", "content": validity_prompt(asked, conclusion)}])
        assert (found.kind, parse_validity(found.text)) == (CallKind.VALIDITY, valid)
    for caption, consistent in ((stages.caption, True), ("A zebra.", False)):
        found = answer(FAULTLESS, messages(asked, caption_check_prompt(asked, caption)))
        assert parse_consistency(found.text) is consistent


@pytest.mark.parametrize("asked", CASES, ids=lambda q: q.id)
def test_blind_question_is_not_answered_from_what_was_hidden(asked: Question) -> None:
    found = answer(FAULTLESS, messages(asked, resolve_prompt(asked)))
    assert found.kind is CallKind.RESOLVE
    assert parse_answer_line(found.text) == UNSURE


def test_further_accepted_answers_are_valid() -> None:
    asked = question("Where?", "NYC", answers=("NYC", "New York"))
    found = answer(FAULTLESS, [{"role": "user", "content": validity_prompt(asked, "It is in New York.")}])
    assert parse_validity(found.text) is True


def test_without_a_standard_answer_it_is_unsure() -> None:
    found = parse_stages(answer(FAULTLESS, messages(CASES[0], annotation_prompt(replace(CASES[0], answer=None)))).text)
    assert isinstance(found, FourStages)
    assert found.conclusion == UNSURE


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (FaultName.REFUSAL, RejectReason.REFUSAL),
        (FaultName.MISSING_TAG, RejectReason.BAD_FORMAT),
        (FaultName.TRUNCATED, RejectReason.LENGTH),
        (FaultName.LEAK, RejectReason.LEAK),
        (FaultName.CONTENT_FILTER, RejectReason.CONTENT_FILTER),
        (FaultName.WRONG_ANSWER, RejectReason.WRONG_ANSWER),
    ],
)
def test_faults_are_the_same_for_any_picture(fault: FaultName, reason: RejectReason) -> None:
    config = StandInConfig(**{**FAULTLESS.model_dump(), fault.value: 1.0})
    for asked in CASES[:4]:
        found = answer(config, messages(asked, annotation_prompt(asked)))
        check = check_reply(asked, found.text, finish_reason=found.finish_reason, refusal=found.refusal)
        assert (found.fault, check.reason) == (fault, reason)


def test_unreadable_picture_and_foreign_prompt_are_answered() -> None:
    broken = question("What is this?", "A tree.", image=ImageRef(data=b"\x89PNG\r\n\x1a\nbroken"))
    found = parse_stages(answer(FAULTLESS, messages(broken, annotation_prompt(broken))).text)
    assert isinstance(found, FourStages)
    assert "no picture that can be read" in found.caption
    foreign = answer(FAULTLESS, [{"role": "user", "content": "Tell me a story."}])
    assert (foreign.kind, "stand-in" in foreign.text) == (CallKind.OTHER, True)
