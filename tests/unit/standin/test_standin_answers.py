"""The stand-in's answers pass for a teacher's, and its faults come at the rates one sets."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from pydantic import ValidationError
from standin_cases import chat

from actors.verifier import check_reply, check_stage_reply
from pipelines.judgements import FlawedAnswer, parse_flawed
from reasoning.grading import is_correct
from reasoning.parsing import parse_stages
from reasoning.prompts import (
    annotation_prompt,
    caption_check_prompt,
    correction_prompt,
    flaw_prompt,
    resolve_prompt,
    stage_annotation_prompt,
    validity_prompt,
)
from reasoning.records import RejectReason
from reasoning.stages import STAGES, FourStages, Stage
from reasoning.verdicts import parse_answer_line, parse_consistency, parse_validity
from stagebeam.standin.answers import CallKind, answer
from stagebeam.standin.faults import FaultName, StandInConfig
from stagebeam.world.dataset import make_questions

QUESTIONS = make_questions(40, seed=3, split="test")
FAULTLESS = StandInConfig.faultless()


def only(name: FaultName, **more: Any) -> StandInConfig:
    return StandInConfig(**{**FAULTLESS.model_dump(), name.value: 1.0, **more})


def test_annotations_are_right_for_every_family() -> None:
    assert {q.meta["family"] for q in QUESTIONS} >= {"count", "choice"}
    for question in QUESTIONS:
        found = answer(FAULTLESS, chat(question, annotation_prompt(question)))
        check = check_reply(question, found.text, finish_reason=found.finish_reason, refusal=found.refusal)
        assert check.reason is None, check.detail
        assert found.prompt_tokens > 100
        assert found.generated_tokens > 10


def test_each_stage_by_itself() -> None:
    question = QUESTIONS[0]
    texts: dict[Stage, str] = {}
    for stage in STAGES:
        found = answer(FAULTLESS, chat(question, stage_annotation_prompt(question, stage, texts)))
        text = check_stage_reply(found.text, stage, finish_reason=found.finish_reason, refusal=None)
        assert isinstance(text, str)
        texts[stage] = text
    whole = answer(FAULTLESS, chat(question, annotation_prompt(question))).text
    assert parse_stages(whole) == FourStages.from_mapping(texts)


def test_flawed_version_differs_in_every_stage_and_says_what_is_right() -> None:
    for question in QUESTIONS:
        right = parse_stages(answer(FAULTLESS, chat(question, annotation_prompt(question))).text)
        assert isinstance(right, FourStages)
        flawed = parse_flawed(answer(FAULTLESS, chat(question, flaw_prompt(question, right))).text)
        assert isinstance(flawed, FlawedAnswer)
        assert all(flawed.stages[stage] != right[stage] for stage in STAGES)
        assert set(flawed.notes) == set(STAGES)
        assert not is_correct(question, flawed.stages.conclusion)


def test_validity_check() -> None:
    question = QUESTIONS[0]
    assert question.answer is not None
    right = answer(FAULTLESS, [{"role": "user", "content": validity_prompt(question, f"It is {question.answer}.")}])
    wrong = answer(FAULTLESS, [{"role": "user", "content": validity_prompt(question, "a zebra")}])
    assert (right.kind, parse_validity(right.text)) == (CallKind.VALIDITY, True)
    assert parse_validity(wrong.text) is False


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (FaultName.REFUSAL, RejectReason.REFUSAL),
        (FaultName.MISSING_TAG, RejectReason.BAD_FORMAT),
        (FaultName.WRONG_ANSWER, RejectReason.WRONG_ANSWER),
        (FaultName.TRUNCATED, RejectReason.LENGTH),
        (FaultName.LEAK, RejectReason.LEAK),
        (FaultName.CONTENT_FILTER, RejectReason.CONTENT_FILTER),
        (FaultName.WRONG_TAGS, RejectReason.BAD_FORMAT),
    ],
)
def test_each_fault_is_rejected_for_its_reason(fault: FaultName, reason: RejectReason) -> None:
    config = only(fault)
    for question in QUESTIONS:
        found = answer(config, chat(question, annotation_prompt(question)))
        check = check_reply(question, found.text, finish_reason=found.finish_reason, refusal=found.refusal)
        assert (found.fault, check.reason) == (fault, reason)


def test_faults_come_at_their_rates_and_again_for_the_same_question() -> None:
    questions = make_questions(400, seed=5, split="test")
    config = StandInConfig(refusal=0.1, missing_tag=0.2, wrong_answer=0.0, truncated=0.0, leak=0.0)
    first = [answer(config, chat(q, annotation_prompt(q))) for q in questions]
    assert first == [answer(config, chat(q, annotation_prompt(q))) for q in questions]
    counts = Counter(found.fault for found in first)
    assert counts[FaultName.REFUSAL] == pytest.approx(40, abs=18)
    assert counts[FaultName.MISSING_TAG] == pytest.approx(80, abs=24)
    assert counts[None] + counts[FaultName.REFUSAL] + counts[FaultName.MISSING_TAG] == 400


def test_stubborn_share_keeps_its_fault_when_corrected() -> None:
    def second(stubborn: float) -> set[FaultName | None]:
        config = only(FaultName.MISSING_TAG, stubborn=stubborn)
        return {
            answer(config, chat(q, annotation_prompt(q), "…", correction_prompt("a tag is missing"))).fault
            for q in QUESTIONS
        }

    assert second(0.0) == {None}
    assert second(1.0) == {FaultName.MISSING_TAG}
    assert second(0.5) == {None, FaultName.MISSING_TAG}


def test_caption_check_knows_its_own_caption_and_no_other() -> None:
    question = QUESTIONS[0]
    right = parse_stages(answer(FAULTLESS, chat(question, annotation_prompt(question))).text)
    assert isinstance(right, FourStages)
    flawed = parse_flawed(answer(FAULTLESS, chat(question, flaw_prompt(question, right))).text)
    assert isinstance(flawed, FlawedAnswer)
    said = [
        answer(FAULTLESS, chat(question, caption_check_prompt(question, caption)))
        for caption in (right.caption, flawed.stages.caption)
    ]
    assert [found.kind for found in said] == [CallKind.CAPTION_CHECK] * 2
    assert [parse_consistency(found.text) for found in said] == [True, False]


def test_blind_question_is_answered_from_the_scene() -> None:
    for question in QUESTIONS[:10]:
        found = answer(FAULTLESS, chat(question, resolve_prompt(question)))
        assert found.kind is CallKind.RESOLVE
        said = parse_answer_line(found.text)
        assert said is not None
        assert is_correct(question, said)


def test_unreadable_request_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="no user message"):
        answer(FAULTLESS, [])
    parts = [{"type": "image_url", "image_url": {"url": "http://x"}}, {"type": "text", "text": "?"}]
    bad = [{"role": "user", "content": parts}]
    with pytest.raises(ValueError, match="data URL"):
        answer(FAULTLESS, bad)


def test_rates_above_one_in_all_are_refused() -> None:
    with pytest.raises(ValidationError, match="add up to"):
        StandInConfig(refusal=0.9, missing_tag=0.9)
    with pytest.raises(ValidationError, match="transport fault rates add up to"):
        StandInConfig(hang=0.6, cut_body=0.6)
