"""What differs between families of models: how images enter, which layers hold what, the step itself."""

from __future__ import annotations

from typing import Any

from actors.engines.families.base import Family, ImageSlots, Step, use_attention
from actors.engines.families.compiled import compile_step
from actors.engines.families.inline import InlineFamily
from actors.engines.families.mllama import MllamaFamily
from actors.engines.families.qwen import QwenFamily
from reasoning.errors import EngineError

__all__ = ["MODEL_TYPES", "Family", "ImageSlots", "Step", "build_family", "compile_step"]

MODEL_TYPES = ("mllama", "llava", "llava_next", "idefics3", "smolvlm", "qwen2_vl", "qwen2_5_vl", "qwen3_vl")
"""``model_type`` of the models that ``build_family`` takes."""


def build_family(model: Any) -> Family[Any]:
    """The family of a loaded model; raises EngineError for one that this engine cannot drive."""
    kind = model.config.model_type
    if kind not in MODEL_TYPES:
        raise EngineError(
            f"the transformers engine drives models of type {', '.join(MODEL_TYPES)}; this one is {kind!r}. "
            "The vllm and openai engines take other types"
        )
    use_attention(model)
    match kind:
        case "mllama":
            return MllamaFamily(model)
        case "qwen2_vl" | "qwen2_5_vl" | "qwen3_vl":
            return QwenFamily(model)
        case _:
            return InlineFamily(model)
