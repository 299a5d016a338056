"""Settings of the in-process engines. No model is loaded here."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class TransformersEngineConfig(BaseModel):
    """The engine that runs a model in this process, through transformers."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    model: str
    """Folder (or hub name) of the model with its processor and chat template."""
    device: str = "cpu"
    """Where the model runs: ``cpu``, ``cuda``, ``cuda:1`` …"""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of weights and activations."""
    threads: int = Field(default=1, ge=1)
    """Torch threads of this process. On shared cores one is fastest, two can be ten times slower."""
    max_rows: int = Field(default=64, ge=1)
    """Continuations that are generated side by side; the others wait."""
    max_prefill_tokens: int = Field(default=4096, ge=1)
    """Prompt tokens computed between two steps of generation, at least one request's."""
    prefix_cache_bytes: int = Field(default=256 * 1024**2, ge=0)
    """Room for keys and values of prefixes that may come again."""
    image_cache_bytes: int = Field(default=256 * 1024**2, ge=0)
    """Room for encoded images."""
    max_pixels: int = Field(default=64_000_000, ge=1)
    """Images with more pixels are refused."""
