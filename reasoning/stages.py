"""The four stages and their written form.

``<SUMMARY> … </SUMMARY>``, a blank line, ``<CAPTION> … </CAPTION>`` and so on, one space inside
each tag (arXiv 2411.10440, appendix; the released training data).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Stage(StrEnum):
    """A stage of the answer, in the order in which they are written."""

    SUMMARY = "SUMMARY"
    CAPTION = "CAPTION"
    REASONING = "REASONING"
    CONCLUSION = "CONCLUSION"

    @property
    def open_tag(self) -> str:
        return f"<{self.value}>"

    @property
    def close_tag(self) -> str:
        return f"</{self.value}>"


STAGES: tuple[Stage, ...] = tuple(Stage)
TAGS: tuple[str, ...] = tuple(tag for stage in STAGES for tag in (stage.open_tag, stage.close_tag))
SEPARATOR = "\n\n"


def render_stage(stage: Stage, text: str) -> str:
    """One stage in its written form; ``text`` without tags."""
    return f"{stage.open_tag} {text.strip()} {stage.close_tag}"


@dataclass(frozen=True, kw_only=True)
class FourStages:
    """The texts of a complete answer, without tags and without outer white space."""

    summary: str
    caption: str
    reasoning: str
    conclusion: str

    def render(self) -> str:
        """The written form of all four, as a model is trained to emit it."""
        return SEPARATOR.join(render_stage(stage, self[stage]) for stage in STAGES)

    def __getitem__(self, stage: Stage) -> str:
        return str(getattr(self, stage.value.lower()))

    def as_mapping(self) -> dict[Stage, str]:
        """Stage to text, in writing order."""
        return {stage: self[stage] for stage in STAGES}

    @classmethod
    def from_mapping(cls, texts: Mapping[Stage, str]) -> FourStages:
        """From stage to text; raises KeyError when a stage is missing."""
        return cls(**{stage.value.lower(): texts[stage] for stage in STAGES})
