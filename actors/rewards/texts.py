"""What a reward model is shown of a candidate: the question, the stages before it, the text to be scored."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from reasoning.prompts import question_text
from reasoning.protocols import RewardRequest
from reasoning.stages import SEPARATOR, STAGES, render_stage

_BLANK_LINES = re.compile(r"\n\s*\n")


@dataclass(frozen=True, kw_only=True)
class RewardText:
    """A candidate as text: who asked what, and the assistant's turn in steps."""

    question: str
    prior: tuple[str, ...]
    """Steps that were written before; they are read but not scored."""
    steps: tuple[str, ...]
    """The steps to be scored, at least one."""

    @property
    def answer(self) -> str:
        """The assistant's turn as it was written."""
        return SEPARATOR.join([*self.prior, *self.steps])


def reward_text(request: RewardRequest) -> RewardText:
    """Stages in their written form, with tags; a blank line ends a step, so each stage is one at least.

    A text-only model knows the picture through the caption, which is among the stages before.
    """
    prior = [render_stage(stage, request.prior[stage]) for stage in STAGES if stage in request.prior]
    text = request.text if request.stage is None else render_stage(request.stage, request.text)
    return RewardText(
        question=question_text(request.question),
        prior=tuple(step for one in prior for step in _steps(one)),
        steps=tuple(_steps(text)) or ("",),
    )


def conversation(text: RewardText, *, has_image: bool = False) -> list[dict[str, object]]:
    """Messages as chat templates take them; with a picture the contents are lists of parts."""
    if not has_image:
        return [{"role": "user", "content": text.question}, {"role": "assistant", "content": text.answer}]
    return [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text.question}]},
        {"role": "assistant", "content": [{"type": "text", "text": text.answer}]},
    ]


def spell_apart(text: RewardText, control: Sequence[str]) -> RewardText:
    """The text with every control token in it spelled apart, so that no candidate can write one."""
    found = sorted((token for token in control if len(token) > 1), key=len, reverse=True)
    if not found:
        return text
    pattern = re.compile("|".join(map(re.escape, found)))

    def apart(part: str) -> str:
        return pattern.sub(lambda match: match.group()[0] + " " + match.group()[1:], part)

    return RewardText(
        question=apart(text.question),
        prior=tuple(apart(step) for step in text.prior),
        steps=tuple(apart(step) for step in text.steps),
    )


def _steps(text: str) -> list[str]:
    return [step.strip() for step in _BLANK_LINES.split(text) if step.strip()]
