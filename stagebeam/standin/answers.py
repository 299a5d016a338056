"""What the stand-in says to a chat request, with its mistakes. No server, no clock."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from actors.image_files import DECODER_ERRORS
from reasoning.grading import normalise
from reasoning.prompts import (
    ANNOTATION_LEAD,
    ANSWER_HEADING,
    CAPTION_CHECK_LEAD,
    CHECKED_ANSWER_HEADING,
    CHECKED_CAPTION_HEADING,
    FINAL_ANSWER_LABEL,
    FLAW_LEAD,
    FURTHER_ANSWERS_HEADING,
    RESOLVE_LEAD,
    STAGE_ANNOTATION_LEAD,
    VALIDITY_LEAD,
)
from reasoning.stages import STAGES, FourStages, Stage, render_stage
from stagebeam.standin.anything import (
    UNSURE,
    describe,
    flawed_plain_stages,
    plain_stages,
    read_asked,
    section,
)
from stagebeam.standin.chat_request import ChatRequest, read_request
from stagebeam.standin.faults import FaultName, StandInConfig, draw, fault_of, is_slow
from stagebeam.world.teacher import Truth, flawed_stages, four_stages, read_truth

_REFUSAL = "I'm sorry, but I can't help with this picture. (I am a stand-in teacher, told to refuse now and then.)"
_UNKNOWN_PROMPT = "I am a stand-in teacher and only know the prompts of an annotation run."
_FINISH = {FaultName.TRUNCATED: "length", FaultName.CONTENT_FILTER: "content_filter"}
_IMAGE_TOKENS = 85
_LETTERS_PER_TOKEN = 4


class CallKind(StrEnum):
    """What a request asks for."""

    ANNOTATION = "annotation"
    STAGE = "stage"
    FLAW = "flaw"
    VALIDITY = "validity"
    CAPTION_CHECK = "caption_check"
    RESOLVE = "resolve"
    OTHER = "other"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A chat reply."""

    kind: CallKind
    text: str
    finish_reason: str = "stop"
    refusal: str | None = None
    fault: FaultName | None = None
    is_slow: bool = False
    prompt_tokens: int = 0
    generated_tokens: int = 0


@dataclass(frozen=True, kw_only=True)
class _Knowledge:
    """What the stand-in can say about a question: the right four stages, and the same with mistakes."""

    question: str
    right: FourStages
    flawed: FourStages
    notes: FourStages


def answer(config: StandInConfig, messages: Sequence[Mapping[str, Any]]) -> Answer:
    """The reply to a chat request's ``messages``, faults and all; raises ValueError for one it cannot read."""
    request = read_request(messages)
    kind = kind_of(request.prompt)
    match kind:
        case CallKind.OTHER:
            return _counted(request, Answer(kind=kind, text=_UNKNOWN_PROMPT))
        case CallKind.VALIDITY:
            return _counted(request, Answer(kind=kind, text=_validity(request.prompt)))
        case CallKind.CAPTION_CHECK:
            return _counted(request, Answer(kind=kind, text=_caption_check(request)))
        case CallKind.RESOLVE:
            return _counted(request, Answer(kind=kind, text=_resolved(request)))
        case CallKind.ANNOTATION | CallKind.STAGE | CallKind.FLAW:
            return _counted(request, _written_answer(config, kind, request))


def _written_answer(config: StandInConfig, kind: CallKind, request: ChatRequest) -> Answer:
    known = _known(config, request)
    key = hashlib.blake2b((request.image or b"") + known.question.encode(), digest_size=16).hexdigest()
    fault = fault_of(config, key, request.attempt)
    if kind is CallKind.FLAW and config.flawless_flaws:
        fault = None
    late = is_slow(config, key, request.attempt)
    if fault is FaultName.REFUSAL:
        in_field = draw(config.seed, "refusal-field", key) < 0.5
        text, refusal = ("", _REFUSAL) if in_field else (_REFUSAL, None)
        return Answer(kind=kind, text=text, refusal=refusal, fault=fault, is_slow=late)
    text = _spoiled(_written(kind, known, request.prompt, fault), fault, config, key)
    finish = _FINISH.get(fault, "stop") if fault else "stop"
    return Answer(kind=kind, text=text, finish_reason=finish, fault=fault, is_slow=late)


def kind_of(prompt: str) -> CallKind:
    """What a prompt of ``reasoning.prompts`` asks for, by its first words."""
    leads = {
        ANNOTATION_LEAD: CallKind.ANNOTATION,
        STAGE_ANNOTATION_LEAD: CallKind.STAGE,
        FLAW_LEAD: CallKind.FLAW,
        VALIDITY_LEAD: CallKind.VALIDITY,
        CAPTION_CHECK_LEAD: CallKind.CAPTION_CHECK,
        RESOLVE_LEAD: CallKind.RESOLVE,
    }
    return next((kind for lead, kind in leads.items() if prompt.startswith(lead)), CallKind.OTHER)


def _known(config: StandInConfig, request: ChatRequest) -> _Knowledge:
    truth = _truth(request.image)
    question = _question_of(truth, request.prompt) if truth else None
    if truth is not None and question is not None:
        flawed = flawed_stages(truth, question, config.seed)
        return _Knowledge(
            question=question, right=four_stages(truth, question), flawed=flawed.stages, notes=flawed.notes
        )
    asked = read_asked(request.prompt)
    right = plain_stages(asked, request.image)
    stages, notes = flawed_plain_stages(asked, right)
    return _Knowledge(question=asked.question, right=right, flawed=stages, notes=notes)


def _written(kind: CallKind, known: _Knowledge, prompt: str, fault: FaultName | None) -> str:
    if kind is CallKind.FLAW:
        notes = "; ".join(f"{stage.value.lower()}: {text}" for stage, text in known.notes.as_mapping().items())
        return f"{known.flawed.render()}\n\n<NOTES> {notes} </NOTES>"
    texts = known.right.as_mapping()
    if fault is FaultName.WRONG_ANSWER:
        texts[Stage.CONCLUSION] = known.flawed.conclusion
    if fault is FaultName.LEAK:
        texts[Stage.REASONING] = f"{known.right.reasoning} This agrees with the standard answer."
    if kind is CallKind.STAGE:
        stage = _stage_asked(prompt)
        return render_stage(stage, texts[stage])
    return FourStages.from_mapping(texts).render()


def _spoiled(text: str, fault: FaultName | None, config: StandInConfig, key: str) -> str:
    """``text`` with a closing tag left out, with other tags, or cut off."""
    if fault in (FaultName.TRUNCATED, FaultName.CONTENT_FILTER):
        return text[: len(text) // 2]
    if fault is FaultName.MISSING_TAG:
        present = [stage.close_tag for stage in STAGES if stage.close_tag in text]
        return text.replace(present[int(draw(config.seed, "tag", key) * len(present))], "", 1).rstrip()
    if fault is FaultName.WRONG_TAGS:
        return text.replace("<", "[").replace(">", "]") if draw(config.seed, "tags", key) < 0.5 else text.lower()
    return text


def _stage_asked(prompt: str) -> Stage:
    found = [stage for stage in STAGES if f"The stage to write is {stage.value}:" in prompt]
    if not found:
        raise ValueError("the prompt asks for a stage and names none")
    return found[0]


def _validity(prompt: str) -> str:
    """Whether an accepted answer stands in the one to check, word for word once normalised."""
    checked = f" {normalise(_unquoted(section(prompt, CHECKED_ANSWER_HEADING)))} "
    accepted = [section(prompt, ANSWER_HEADING) or "", *_unquoted(section(prompt, FURTHER_ANSWERS_HEADING)).split("\n")]
    found = [normalise(answer) for answer in accepted]
    return "valid" if any(answer and f" {answer} " in checked for answer in found) else "invalid"


def _caption_check(request: ChatRequest) -> str:
    """Only the descriptions that the stand-in itself would write are right."""
    caption = normalise(_unquoted(section(request.prompt, CHECKED_CAPTION_HEADING)))
    truth = _truth(request.image)
    own = [describe(request.image), *([truth.scene.caption] if truth else [])]
    if any(normalise(text) in caption for text in own):
        return "consistent"
    return "inconsistent. This is not what I, a stand-in, would write of this picture."


def _resolved(request: ChatRequest) -> str:
    """From an embedded scene's truth; of another picture the stand-in knows nothing."""
    truth = _truth(request.image)
    question = _question_of(truth, request.prompt) if truth else None
    if truth is None or question is None:
        return f"This is stand-in text: nothing here says what the answer could be.\n{FINAL_ANSWER_LABEL} {UNSURE}"
    stages = four_stages(truth, question)
    return f"{stages.reasoning}\n{FINAL_ANSWER_LABEL} {stages.conclusion}"


def _unquoted(text: str | None) -> str:
    return "\n".join(line.removeprefix("> ") for line in (text or "").splitlines())


def _truth(image: bytes | None) -> Truth | None:
    if image is None:
        return None
    try:
        return read_truth(image)
    except DECODER_ERRORS:
        return None  # Whatever it is, it is no embedded scene.


def _question_of(truth: Truth, prompt: str) -> str | None:
    """The question of this picture that stands in the prompt; of two that do, the longer one."""
    found = [text for text in truth.questions if text in prompt]
    return max(found, key=len, default=None)


def _counted(request: ChatRequest, found: Answer) -> Answer:
    """With numbers of tokens of a plausible size."""
    prompt = request.letters // _LETTERS_PER_TOKEN + (_IMAGE_TOKENS if request.image is not None else 0)
    generated = max(1, len(found.text or found.refusal or "") // _LETTERS_PER_TOKEN)
    return Answer(**{**vars(found), "prompt_tokens": prompt, "generated_tokens": generated})
