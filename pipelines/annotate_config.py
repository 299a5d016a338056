"""The settings of an annotation run, and which of them its rows depend on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from actors.governor import LimitsConfig
from actors.teacher import TeacherConfig
from cluster.stores import absolute, join
from pipelines.annotator import AnnotationMode
from pipelines.sources.base import SourceSpec
from pipelines.verification import VerifyConfig
from reasoning.prompts import PROMPT_VERSION


class AnnotateConfig(BaseModel):
    """One annotation run."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    input: str | None = None
    """Questions as Parquet (a file, a folder, a URI), or a data set in a layout that `stagebeam sources` lists."""
    sources: tuple[SourceSpec, ...] = ()
    """Several data sets instead of ``input``, each with its path and how much of it to take."""
    seed: int = 0
    """Which rows a source that is not taken whole gives."""
    output: str
    """The run's folder or URI: questions/, accepted/, rejected/, commits/, calls/, README.md and run.json."""
    teacher: TeacherConfig
    """Who writes the annotations."""
    limits: LimitsConfig = LimitsConfig()
    """How much may be asked and spent, by all actors together."""
    mode: AnnotationMode = AnnotationMode.ONE_PROMPT
    """All four stages in one reply, or a call for each."""
    verify: VerifyConfig = VerifyConfig()
    """What a reply must pass to be accepted."""
    max_attempts: int = Field(default=3, ge=1)
    """How often a question is put to the teacher, each time with the last fault shown."""
    with_judgements: bool = False
    """Ask for a flawed version of each accepted answer too: the material for judgements."""
    limit: int | None = Field(default=None, ge=1)
    """Only the first so many questions; a later run may raise it."""
    drop: Path | None = None
    """A drop list of `stagebeam decontaminate`: questions with these ids are left out."""
    cache: str | None = None
    """Where finished calls are kept; none: ``calls/`` in the run's folder. Runs that share one pay once for what is
    the same."""
    shard_rows: int = Field(default=64, ge=1)
    """Rows a shard: what is committed as a whole."""
    actors: int = Field(default=1, ge=1)
    """Annotation actors; each keeps at most ``teacher.max_in_flight`` calls open."""
    ray_address: str | None = None
    """The Ray cluster to run on; none starts one on this machine for the run."""

    @field_validator("input", "output", "cache", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, Path) else value

    @model_validator(mode="after")
    def _has_input(self) -> AnnotateConfig:
        if (self.input is None) == (not self.sources):
            raise ValueError("give either `input` or `sources`: what is to be annotated")
        return self

    @property
    def calls(self) -> str:
        """Where finished calls are kept."""
        return self.cache or join(self.output, "calls")

    def identity(self) -> dict[str, Any]:
        """What the rows depend on. Where the teacher is, how hard it is asked and how many work at it is not."""
        return {
            "input": None if self.input is None else absolute(self.input),
            "sources": [spec.model_dump(mode="json") for spec in self.sources],
            "seed": self.seed if self.sources else 0,
            "teacher": {
                "model": self.teacher.model,
                "temperature": self.teacher.temperature,
                "max_tokens": self.teacher.max_tokens,
                "image": self.teacher.image.model_dump(mode="json"),
            },
            "mode": self.mode.value,
            "verify": self.verify.model_dump(mode="json"),
            "max_attempts": self.max_attempts,
            "with_judgements": self.with_judgements,
            "drop": None if self.drop is None else str(self.drop.resolve()),
            "prompt_version": PROMPT_VERSION,
        }
