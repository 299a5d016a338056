"""What the stand-in says to a chat request, with its mistakes. No server, no clock."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from PIL import UnidentifiedImageError

from reasoning.grading import normalise
from reasoning.prompts import (
    ANNOTATION_LEAD,
    ANSWER_HEADING,
    CORRECTION_LEAD,
    FLAW_LEAD,
    STAGE_ANNOTATION_LEAD,
    VALIDITY_LEAD,
)
from reasoning.stages import STAGES, FourStages, Stage, render_stage
from stagebeam.standin.faults import FaultName, StandInConfig, draw, fault_of, is_slow
from stagebeam.world.teacher import Truth, flawed_stages, four_stages, read_truth

_REFUSAL = "I'm sorry, but I can't help with this picture. (I am a stand-in teacher, told to refuse now and then.)"
_UNKNOWN_PICTURE = (
    "I'm sorry, but I can't answer this. I am a stand-in teacher: I read the truth of embedded scenes from their "
    "metadata and see no other picture. Name a real teacher in the configuration for your own data."
)
_UNKNOWN_PROMPT = "I am a stand-in teacher and only know how to annotate embedded scenes."
_IMAGE_TOKENS = 85
_LETTERS_PER_TOKEN = 4


class CallKind(StrEnum):
    """What a request asks for."""

    ANNOTATION = "annotation"
    STAGE = "stage"
    FLAW = "flaw"
    VALIDITY = "validity"
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
class _Request:
    """What of a chat request counts here."""

    prompt: str
    image: bytes | None
    attempt: int
    letters: int
    """Letters of all messages."""


def answer(config: StandInConfig, messages: Sequence[Mapping[str, Any]]) -> Answer:
    """The reply to a chat request's ``messages``, faults and all; raises ValueError for one it cannot read."""
    request = _read(messages)
    kind = kind_of(request.prompt)
    if kind is CallKind.VALIDITY:
        return _counted(request, Answer(kind=kind, text=_validity(request.prompt)))
    if kind is CallKind.OTHER:
        return _counted(request, Answer(kind=kind, text=_UNKNOWN_PROMPT))
    truth = _truth(request.image)
    question = _asked(truth, request.prompt) if truth else None
    if truth is None or question is None:
        return _counted(request, Answer(kind=kind, text=_UNKNOWN_PICTURE))
    key = hashlib.blake2b((request.image or b"") + question.encode(), digest_size=16).hexdigest()
    fault = fault_of(config, key, request.attempt)
    if kind is CallKind.FLAW and config.flawless_flaws:
        fault = None
    late = is_slow(config, key, request.attempt)
    if fault is FaultName.REFUSAL:
        in_field = draw(config.seed, "refusal-field", key) < 0.5
        text, refusal = ("", _REFUSAL) if in_field else (_REFUSAL, None)
        return _counted(request, Answer(kind=kind, text=text, refusal=refusal, fault=fault, is_slow=late))
    text = _written(config, kind, truth, question, key, request.prompt, fault)
    finish = "length" if fault is FaultName.TRUNCATED else "stop"
    return _counted(request, Answer(kind=kind, text=text, finish_reason=finish, fault=fault, is_slow=late))


def kind_of(prompt: str) -> CallKind:
    """What a prompt of ``reasoning.prompts`` asks for, by its first words."""
    leads = {
        ANNOTATION_LEAD: CallKind.ANNOTATION,
        STAGE_ANNOTATION_LEAD: CallKind.STAGE,
        FLAW_LEAD: CallKind.FLAW,
        VALIDITY_LEAD: CallKind.VALIDITY,
    }
    return next((kind for lead, kind in leads.items() if prompt.startswith(lead)), CallKind.OTHER)


def _written(
    config: StandInConfig,
    kind: CallKind,
    truth: Truth,
    question: str,
    key: str,
    prompt: str,
    fault: FaultName | None,
) -> str:
    right = four_stages(truth, question)
    flawed = flawed_stages(truth, question, config.seed)
    if kind is CallKind.FLAW:
        notes = "; ".join(f"{stage.value.lower()}: {text}" for stage, text in flawed.notes.as_mapping().items())
        return _spoiled(f"{flawed.stages.render()}\n\n<NOTES> {notes} </NOTES>", fault, config, key)
    texts = right.as_mapping()
    if fault is FaultName.WRONG_ANSWER:
        texts[Stage.CONCLUSION] = flawed.stages.conclusion
    if fault is FaultName.LEAK:
        texts[Stage.REASONING] = f"{right.reasoning} This agrees with the standard answer."
    if kind is CallKind.STAGE:
        stage = _stage_asked(prompt)
        return _spoiled(render_stage(stage, texts[stage]), fault, config, key)
    return _spoiled(FourStages.from_mapping(texts).render(), fault, config, key)


def _spoiled(text: str, fault: FaultName | None, config: StandInConfig, key: str) -> str:
    """``text`` with a closing tag left out, or cut off."""
    if fault is FaultName.TRUNCATED:
        return text[: len(text) // 2]
    if fault is FaultName.MISSING_TAG:
        present = [stage.close_tag for stage in STAGES if stage.close_tag in text]
        return text.replace(present[int(draw(config.seed, "tag", key) * len(present))], "", 1).rstrip()
    return text


def _stage_asked(prompt: str) -> Stage:
    found = [stage for stage in STAGES if f"The stage to write is {stage.value}:" in prompt]
    if not found:
        raise ValueError("the prompt asks for a stage and names none")
    return found[0]


def _validity(prompt: str) -> str:
    """Compares the two answers in the prompt, letter by letter once normalised."""
    sections = prompt.split("### ")
    by_heading = {section.partition("\n")[0].strip(): section.partition("\n")[2].strip() for section in sections}
    standard = by_heading.get(ANSWER_HEADING.removeprefix("### "), "")
    checked = by_heading.get("Answer to check", "").removeprefix("> ")
    return "valid" if normalise(standard) in normalise(checked) else "invalid"


def _truth(image: bytes | None) -> Truth | None:
    if image is None:
        return None
    try:
        return read_truth(image)
    except (UnidentifiedImageError, OSError, SyntaxError):
        return None  # Whatever it is, it is no embedded scene; the answer says so.


def _asked(truth: Truth, prompt: str) -> str | None:
    """The question of this picture that stands in the prompt; of two that do, the longer one."""
    found = [text for text in truth.questions if text in prompt]
    return max(found, key=len, default=None)


def _read(messages: Sequence[Mapping[str, Any]]) -> _Request:
    prompt, image, letters = "", None, 0
    attempt = 0
    for message in messages:
        content = message.get("content")
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else list(content or ())
        text = "\n".join(str(part.get("text", "")) for part in parts if part.get("type") == "text")
        letters += len(text)
        attempt += text.count(CORRECTION_LEAD) if message.get("role") == "user" else 0
        if not prompt and message.get("role") == "user":
            prompt = text
            image = next((_decoded(part) for part in parts if part.get("type") == "image_url"), None)
    if not prompt:
        raise ValueError("no user message with text")
    return _Request(prompt=prompt, image=image, attempt=attempt, letters=letters)


def _decoded(part: Mapping[str, Any]) -> bytes:
    url = str(part.get("image_url", {}).get("url", ""))
    head, comma, body = url.partition(";base64,")
    if not comma or not head.startswith("data:"):
        raise ValueError("image_url must be a base64 data URL: the stand-in fetches nothing")
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error as error:
        raise ValueError(f"image_url is no base64: {error}") from error


def _counted(request: _Request, found: Answer) -> Answer:
    """With numbers of tokens of a plausible size."""
    prompt = request.letters // _LETTERS_PER_TOKEN + (_IMAGE_TOKENS if request.image is not None else 0)
    generated = max(1, len(found.text or found.refusal or "") // _LETTERS_PER_TOKEN)
    return Answer(**{**vars(found), "prompt_tokens": prompt, "generated_tokens": generated})
