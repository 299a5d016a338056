"""A mix: which data sets, how much of each, with which seed."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from pipelines.sources.base import SourceSpec


class MixConfig(BaseModel):
    """The questions of several sources in one folder."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    sources: tuple[SourceSpec, ...] = Field(min_length=1)
    """What is taken of each, in this order."""
    seed: int = 0
    """Draws the entries where a source has ``take``."""
    output: str = Field(min_length=1)
    """The folder, or an object store's URI, that the question shards go to."""
    root: Path | None = None
    """Where relative paths of the sources begin; none: where the command is run."""
    rows_per_file: int = Field(default=2000, ge=1)
    """Questions a shard; of large pictures fewer."""

    def specs(self) -> tuple[SourceSpec, ...]:
        """The sources with ``root`` before their relative paths."""
        return tuple(_below(self.root, spec) for spec in self.sources)


def _below(root: Path | None, spec: SourceSpec) -> SourceSpec:
    if root is None:
        return spec
    image_root = root / spec.image_root if spec.image_root is not None else None
    return spec.model_copy(update={"path": root / spec.path, "image_root": image_root})
