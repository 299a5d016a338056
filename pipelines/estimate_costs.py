"""What the calls of one row come to, by its prompts, its picture and what a teacher is assumed to write."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from actors.image_tokens import ImageRule, Size
from pipelines.annotator import AnnotationMode
from pipelines.verification import JudgeUse, VerifyConfig
from reasoning.prompts import (
    annotation_prompt,
    caption_check_prompt,
    flaw_prompt,
    resolve_prompt,
    stage_annotation_prompt,
    validity_prompt,
)
from reasoning.records import AnswerType, Question
from reasoning.stages import STAGES, FourStages, Stage

LETTERS_PER_TOKEN = 4
_MESSAGE_TOKENS = 8
"""What a chat's turn costs beside its words."""
_CORRECTION_TOKENS = 50
_VERDICT_TOKENS = 3
_CONSISTENCY_TOKENS = 8
_STAGE_PARTS = {Stage.SUMMARY: 0.2, Stage.CAPTION: 0.3, Stage.REASONING: 0.42, Stage.CONCLUSION: 0.08}
"""How a reply's tokens are spread over its stages, tags included."""


@dataclass(frozen=True)
class Span:
    """A figure that is not known: between ``low`` and ``high``, most likely ``likely``."""

    low: float
    likely: float
    high: float

    def times(self, factor: float) -> Span:
        """Every bound times ``factor``."""
        return Span(self.low * factor, self.likely * factor, self.high * factor)

    def each(self) -> tuple[float, float, float]:
        return self.low, self.likely, self.high

    @classmethod
    def of(cls, values: Iterable[float]) -> Span:
        """From low, likely and high in this order."""
        low, likely, high = values
        return cls(low, likely, high)


@dataclass(frozen=True)
class Cost:
    """Calls, prompt tokens, of these the pictures', generated tokens."""

    calls: float = 0.0
    prompt: float = 0.0
    image: float = 0.0
    generated: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.calls + other.calls,
            self.prompt + other.prompt,
            self.image + other.image,
            self.generated + other.generated,
        )

    def __mul__(self, factor: float) -> Cost:
        return Cost(self.calls * factor, self.prompt * factor, self.image * factor, self.generated * factor)

    @property
    def tokens(self) -> float:
        return self.prompt + self.generated


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way it may go: what a teacher does that has not been asked yet."""

    attempts: float
    """Attempts a row takes."""
    reply: float
    """Tokens of the four stages."""
    judged: float
    """Of the answers in words of their own, the part that goes to the judge."""
    resolve: float
    """Tokens of a reply to the blind question."""
    first_token_s: float
    tokens_per_s: float
    """How fast a reply is written after its first token."""


@dataclass(frozen=True)
class Sampled:
    """A question and its picture's size as it will be sent; None where it has none or that is not known."""

    question: Question
    size: Size | None = None
    is_readable: bool = True


def text_tokens(text: str) -> int:
    """Tokens of a text by its letters: four plain ones a token, two of other alphabets, one of Chinese or the like.

    The rule of thumb of help.openai.com ("What are tokens"); tokenizers differ by a tenth or two.
    """
    plain = sum(ord(letter) < 128 for letter in text)
    wide = sum(ord(letter) >= 0x2E80 for letter in text)
    return math.ceil(plain / LETTERS_PER_TOKEN + (len(text) - plain - wide) / 2 + wide)


class CallCounter:
    """Adds up what a row's calls hold."""

    def __init__(
        self,
        *,
        mode: AnnotationMode,
        verify: VerifyConfig,
        with_flaws: bool,
        rule: ImageRule,
        count: Callable[[str], int],
        median: Size | None,
    ) -> None:
        """``median`` is the size that a picture counts with where its own is not known."""
        self._mode = mode
        self._verify = verify
        self._with_flaws = with_flaws
        self._rule = rule
        self._count = count
        self._median = median

    def picture(self, seen: Sampled) -> float:
        """Tokens of the row's picture; one behind the web counts as the median."""
        size = seen.size or self._median
        return self._rule.tokens(*size) if seen.question.image is not None and size is not None else 0.0

    def row(self, seen: Sampled, case: Case) -> Cost:
        """All calls of one row, fractions of calls included."""
        verify, question = self._verify, seen.question
        first = self._written(seen, case)
        total = first + self._again(seen, case, first) * (case.attempts - 1)
        total += self._judged(question, case)
        if verify.caption_check and question.image is not None:
            caption = case.reply * _STAGE_PARTS[Stage.CAPTION]
            total += self._call(seen, caption_check_prompt(question, ""), caption, _CONSISTENCY_TOKENS)
        if verify.resolve:
            total += self._call(seen, resolve_prompt(question), 0, case.resolve)
        if self._with_flaws:
            blank = FourStages(summary="", caption="", reasoning="", conclusion="")
            total += self._call(seen, flaw_prompt(question, blank), case.reply, case.reply)
        return total

    def _written(self, seen: Sampled, case: Case) -> Cost:
        """The first attempt."""
        if self._mode is AnnotationMode.ONE_PROMPT:
            return self._call(seen, annotation_prompt(seen.question), 0, case.reply)
        stages = (self._stage(seen, stage, case) for stage in STAGES)
        return sum(stages, Cost())

    def _again(self, seen: Sampled, case: Case, first: Cost) -> Cost:
        """A further attempt: shown the last reply and its fault, or the last two stages written anew."""
        if self._mode is AnnotationMode.ONE_PROMPT:
            return first + Cost(prompt=case.reply + _CORRECTION_TOKENS)
        stages = (self._stage(seen, stage, case) for stage in (Stage.REASONING, Stage.CONCLUSION))
        return sum(stages, Cost(prompt=_CORRECTION_TOKENS))

    def _stage(self, seen: Sampled, stage: Stage, case: Case) -> Cost:
        before = sum(_STAGE_PARTS[s] for s in STAGES[: STAGES.index(stage)]) * case.reply
        prompt = stage_annotation_prompt(seen.question, stage, {})
        return self._call(seen, prompt, before, _STAGE_PARTS[stage] * case.reply)

    def _judged(self, question: Question, case: Case) -> Cost:
        """The judge's part of a row; it is shown no picture."""
        match self._verify.judge:
            case JudgeUse.NEVER:
                return Cost()
            case JudgeUse.ALWAYS:
                part = 1.0
            case JudgeUse.WHEN_UNSURE:
                part = case.judged if question.answer_type in (AnswerType.FREE, AnswerType.TEXT) else 0.0
        prompt = self._count(validity_prompt(question, question.answer or "")) + _MESSAGE_TOKENS
        return Cost(1, prompt, 0, _VERDICT_TOKENS) * part

    def _call(self, seen: Sampled, prompt: str, further: float, generated: float) -> Cost:
        image = self.picture(seen)
        return Cost(1, self._count(prompt) + _MESSAGE_TOKENS + further + image, image, generated)
