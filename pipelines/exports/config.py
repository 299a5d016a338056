"""The settings of an export."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipelines.exports.conversations import RejectedTurn
from pipelines.judgements import JudgementConfig
from reasoning.records import RowKind


class ExportFormat(StrEnum):
    """Who reads the export."""

    LLAVA = "llava"
    """LLaVA-CoT's released form, or LLaVA's list."""
    LLAMAFACTORY = "llamafactory"
    """LLaMA-Factory: sharegpt with ``dataset_info.json``."""
    TRL = "trl"
    """TRL's SFTTrainer: Parquet with messages and images."""
    OPENAI = "openai"
    """Chat completion messages, a line each."""
    PARQUET = "parquet"
    """`stagebeam train`."""


class ImageMode(StrEnum):
    """Where the pictures are."""

    FILES = "files"
    """A file each, in a folder beside the records."""
    EMBEDDED = "embedded"
    """Inside the records."""


class TrlForm(StrEnum):
    """Which of TRL's two conversational forms."""

    MESSAGES = "messages"
    """A conversation a row; loss on the assistant's turns needs ``assistant_only_loss``."""
    PROMPT_COMPLETION = "prompt_completion"
    """A turn a row; TRL puts the loss on the completion alone."""


_MODES = {
    ExportFormat.LLAVA: (ImageMode.FILES,),
    ExportFormat.LLAMAFACTORY: (ImageMode.FILES,),
    ExportFormat.TRL: (ImageMode.EMBEDDED, ImageMode.FILES),
    ExportFormat.OPENAI: (ImageMode.EMBEDDED, ImageMode.FILES),
    ExportFormat.PARQUET: (ImageMode.EMBEDDED,),
}
"""The ways a format can hold pictures, its usual one first."""


class ExportConfig(BaseModel):
    """One export of an annotation run's accepted rows."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    run: str
    """The annotation run: a folder or a URI."""
    format: ExportFormat
    """llava, llamafactory, trl, openai or parquet."""
    output: Path
    """The folder to write: records, pictures, README.md and run.json."""
    images: ImageMode | None = None
    """files or embedded; none: what is usual for the format."""
    on_rejected_turn: RejectedTurn = RejectedTurn.CUT
    """A conversation in which a turn was rejected: cut it there, or drop that turn alone."""
    image_folder: str = "images"
    """The name of the folder of pictures inside ``output``, and the beginning of their names in the records."""
    image_token: bool | None = None
    """llava: write `<image>` before the first question; none: only in the list, the released lines have none."""
    llava_list: bool = False
    """llava: one JSON list (`train.json`), as LLaVA's trainer reads, and not lines (`train.jsonl`)."""
    trl_form: TrlForm = TrlForm.MESSAGES
    """trl: messages or prompt_completion."""
    dataset_name: str = Field(default="stagebeam", min_length=1)
    """llamafactory: the name in `dataset_info.json`, which `dataset:` of a training names."""
    rows_per_file: int = Field(default=2000, ge=1)
    """trl and parquet: rows a Parquet file."""
    kinds: tuple[RowKind, ...] = Field(default=(RowKind.FOUR_STAGE, RowKind.JUDGEMENT), min_length=1)
    """parquet: what the rows teach."""
    judgements: JudgementConfig = JudgementConfig()
    """parquet: which judgements are made, where the run asked for flawed answers."""

    @field_validator("run", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, Path) else value

    @field_validator("image_folder")
    @classmethod
    def _is_name(cls, value: str) -> str:
        if not re.fullmatch(r"\w[\w.+-]*", value) or value in ("commits", "data"):
            raise ValueError(
                "image_folder must be the name of one folder (letters, digits, _ . + -), not `commits` or `data`"
            )
        return value

    @model_validator(mode="after")
    def _images_fit(self) -> ExportConfig:
        if self.images is not None and self.images not in _MODES[self.format]:
            raise ValueError(
                f"images: the format {self.format.value} holds them {_MODES[self.format][0].value}, "
                f"not {self.images.value}"
            )
        return self

    @property
    def image_mode(self) -> ImageMode:
        """How the pictures are held."""
        return self.images or _MODES[self.format][0]

    @property
    def has_image_token(self) -> bool:
        """llava: whether `<image>` is written."""
        return self.llava_list if self.image_token is None else self.image_token

    def identity(self) -> dict[str, Any]:
        """What the export's content depends on, beside the run's rows."""
        common: dict[str, Any] = {"format": self.format.value}
        if self.format is ExportFormat.PARQUET:
            return common
        common |= {"images": self.image_mode.value, "on_rejected_turn": self.on_rejected_turn.value}
        if self.image_mode is ImageMode.FILES:
            common["image_folder"] = self.image_folder
        match self.format:
            case ExportFormat.LLAVA:
                common |= {"image_token": self.has_image_token, "llava_list": self.llava_list}
            case ExportFormat.LLAMAFACTORY:
                common["dataset_name"] = self.dataset_name
            case ExportFormat.TRL:
                common |= {"trl_form": self.trl_form.value, "rows_per_file": self.rows_per_file}
            case ExportFormat.OPENAI:
                pass
        return common
