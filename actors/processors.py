"""Processors put together from their parts, for models whose own cannot be made without torchvision.

The processors of the Qwen-VL models and of SmolVLM bring one for videos, which needs torchvision.
Nothing here looks at videos: the image processor, the tokenizer and the chat template are enough,
and what a processor adds is the text that stands for an image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import AutoImageProcessor, AutoTokenizer, PreTrainedConfig, ProcessorMixin
from transformers.utils import cached_file

_CARRIED = ("processor_config.json", "video_preprocessor_config.json")
"""Files that the parts do not write and that the model's own processor wants, where there is one."""


class ImageTextProcessor:
    """What ``actors.chat`` asks of a processor."""

    def __init__(
        self, image_processor: Any, tokenizer: Any, *, chat_template: str | None, files: Mapping[str, str]
    ) -> None:
        """``files`` are written beside the parts by ``save_pretrained``, by their names."""
        self.image_processor = image_processor
        self.tokenizer = tokenizer
        self.chat_template = chat_template
        self._files = files
        self.image_token: str = getattr(tokenizer, "image_token", None) or self._usual_image_token
        self.image_token_id: int = tokenizer.convert_tokens_to_ids(self.image_token)

    _usual_image_token = "<|image_pad|>"

    def apply_chat_template(
        self, messages: Sequence[Mapping[str, Any]], *, tokenize: bool = False, add_generation_prompt: bool = False
    ) -> Any:
        """The conversation as text, or as ids when ``tokenize`` is set."""
        return self.tokenizer.apply_chat_template(
            list(messages),
            chat_template=self.chat_template,
            tokenize=tokenize,
            add_generation_prompt=add_generation_prompt,
        )

    def replace_image_token(self, image_inputs: Mapping[str, Any], image_idx: int) -> str:
        """Qwen: one token for each ``merge_size`` × ``merge_size`` patches."""
        patches = int(image_inputs["image_grid_thw"][image_idx].prod())
        return self.image_token * (patches // self.image_processor.merge_size**2)

    def save_pretrained(self, folder: Path | str) -> None:
        """Write the parts so that ``load_processor``, and the model's own class elsewhere, read them."""
        self.tokenizer.save_pretrained(folder)
        self.image_processor.save_pretrained(folder)
        if self.chat_template is not None:
            (Path(folder) / "chat_template.jinja").write_text(self.chat_template, encoding="utf-8")
        for name, text in self._files.items():
            (Path(folder) / name).write_text(text, encoding="utf-8")


class SmolVlmProcessor(ImageTextProcessor):
    """The image processor cuts an image into tiles; the text names each tile's row and column."""

    _usual_image_token = "<image>"

    def __init__(self, *parts: Any, tokens_per_tile: int, **fields: Any) -> None:
        super().__init__(*parts, **fields)
        self.tokens_per_tile = tokens_per_tile
        self.fake_image_token: str = getattr(self.tokenizer, "fake_image_token", None) or "<fake_token_around_image>"
        self.global_image_token: str = getattr(self.tokenizer, "global_image_token", None) or "<global-img>"

    def replace_image_token(self, image_inputs: Mapping[str, Any], image_idx: int) -> str:
        """The tiles row by row, then the whole image; the whole image alone where nothing was cut."""
        from transformers.models.smolvlm.processing_smolvlm import get_image_prompt_string

        rows = [row for several in image_inputs["rows"] for row in several]
        columns = [column for several in image_inputs["cols"] for column in several]
        text: str = get_image_prompt_string(
            rows[image_idx],
            columns[image_idx],
            self.tokens_per_tile,
            fake_token_around_image=self.fake_image_token,
            image_token=self.image_token,
            global_image_token=self.global_image_token,
        )
        return text


def processor_of_parts(model_dir: Path | str) -> ImageTextProcessor | None:
    """The processor of a model whose own class cannot be made here; None for the others.

    Raises OSError and ValueError as transformers does when the folder is not a model's.
    """
    kind = PreTrainedConfig.get_config_dict(model_dir)[0].get("model_type")
    if kind not in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "smolvlm"):
        return None
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    parts = (AutoImageProcessor.from_pretrained(model_dir, backend="pil"), tokenizer)
    settings = ProcessorMixin.get_processor_dict(str(model_dir))[0]
    template = settings.get("chat_template") or tokenizer.chat_template
    fields = {"chat_template": template, "files": _carried(model_dir)}
    if kind == "smolvlm":
        return SmolVlmProcessor(*parts, tokens_per_tile=settings.get("image_seq_len", 169), **fields)
    return ImageTextProcessor(*parts, **fields)


def _carried(model_dir: Path | str) -> dict[str, str]:
    found = {name: cached_file(model_dir, name, _raise_exceptions_for_missing_entries=False) for name in _CARRIED}
    return {name: Path(path).read_text(encoding="utf-8") for name, path in found.items() if path is not None}
