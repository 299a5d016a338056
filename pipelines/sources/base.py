"""What every source of questions shares: how it is described, asked for and read.

A source turns one data set's own layout into ``Question`` records, row by row. It reads and
nothing else: what is kept, sampled and written is decided in ``pipelines/sources/prepare.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from reasoning.errors import InputError
from reasoning.records import Question

FAULT = "source_fault"
"""The key of ``Question.meta`` that says what is wrong with a row that is no usable question."""
TEACHER_HINT = "teacher_hint"
"""The key of ``Question.meta`` for a hint that the teacher sees and the answering model does not."""


class RowFaultError(InputError):
    """A row that cannot be made a question; it is kept, with this message under ``FAULT``."""


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A row left out on purpose; ``cause`` is what such rows are counted by."""

    cause: str


Rows = Iterator[Question | Skipped]


@dataclass(frozen=True, kw_only=True)
class ExpectedFile:
    """A file of the official layout."""

    pattern: str
    """A glob below the data set's folder."""
    what: str
    is_required: bool = True


@dataclass(frozen=True, kw_only=True)
class SourceInfo:
    """What is known of a data set without having it."""

    name: str
    title: str
    task: str
    licence: str
    where: str
    """Where to get it."""
    files: tuple[ExpectedFile, ...]
    counts: dict[str, int] = field(default_factory=dict)
    """How many entries the official release has, by split; empty where nobody says."""
    counted: str = "questions"
    """What ``counts`` counts: ``questions``, or ``conversations`` (entries of one or several turns)."""
    paper_thousands: float | None = None
    """Thousands of entries that the paper's Table 1 gives for it."""
    notes: str = ""


@dataclass(frozen=True, kw_only=True)
class ReadRequest:
    """One pass over a source."""

    home: Path
    """The folder or file that the layout begins at, as ``Source.find_home`` answered it."""
    split: str | None = None
    """Only rows of this split; None: of every split."""
    image_root: Path | None = None
    label: str | None = None
    every_pair: bool = False
    draws: bool = True
    """Make the pictures that the data set only implies; else their rows come with the picture as it is, or none."""

    def leaves_out(self, split: str) -> bool:
        """Whether rows of ``split`` are not asked for."""
        return self.split is not None and plain_split(self.split) != plain_split(split)


@dataclass(frozen=True, kw_only=True)
class Source:
    """One layout: how to recognise it, which files its rows stand in, and how to read them."""

    info: SourceInfo
    find_home: Callable[[Path], Path | None]
    """The folder or file that the layout begins at, from the path a user gave; None: it is not this layout."""
    manifests: Callable[[Path], list[Path]]
    """The files below the home that the rows are read from, pictures left out, sorted."""
    read: Callable[[ReadRequest], Rows]
    """The rows in the order of the files. Raises InputError for a file that cannot be read on."""

    @property
    def name(self) -> str:
        return self.info.name

    def detects(self, root: Path) -> bool:
        """Whether ``root`` is, or holds, this layout."""
        return self.find_home(root) is not None

    def home(self, root: Path) -> Path:
        """As ``find_home``; raises InputError that lists the files it looked for."""
        found = self.find_home(root)
        if found is None:
            wanted = ", ".join(file.pattern for file in self.info.files if file.is_required)
            raise InputError(f"{root}: is no {self.info.title} ({self.name}): looked for {wanted}")
        return found


class SourceSpec(BaseModel):
    """One source of a mix, and what is taken of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    path: Path
    """The data set's folder, or its one file."""
    name: str | None = None
    """Which source it is (`stagebeam sources` lists them); none finds out by the files."""
    split: str | None = None
    """Only this split; none takes every split there is."""
    take: int | None = Field(default=None, ge=1)
    """So many entries, drawn with the run's seed; a conversation of several turns is one entry. None takes all."""
    text_only: bool = True
    """Keep rows without an image."""
    without_answers: bool = False
    """Keep rows without a standard answer; nothing can check what a teacher concludes for them."""
    image_root: Path | None = None
    """Where the pictures are, if elsewhere: A-OKVQA's COCO, CLEVR-Math's CLEVR, a LLaVA-style file's images."""
    label: str | None = None
    """What the rows are called in column `source`; none takes the data set's name."""
    every_pair: bool = False
    """PISC: every annotated pair of people, not only pictures that have one."""

    @field_validator("name", "split", "label")
    @classmethod
    def _has_words(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():
            raise ValueError("must not be empty; leave it out instead")
        return value

    def request(self, home: Path, *, draws: bool = True) -> ReadRequest:
        """The pass over the source that this asks for."""
        return ReadRequest(
            home=home,
            split=self.split,
            image_root=self.image_root,
            label=self.label,
            every_pair=self.every_pair,
            draws=draws,
        )

    def skip_cause(self, question: Question) -> str | None:
        """Why a row is left out on purpose; None keeps it. What cannot be used is kept, for its fault."""
        if FAULT in question.meta:
            return None
        if question.image is None and not self.text_only:
            return "without image"
        if question.answer is None and not self.without_answers:
            return "without answer"
        return None


def plain_split(split: str) -> str:
    """One name for a split: lower case, ``val`` for ``validation`` and ``dev``."""
    plain = split.strip().lower()
    return "val" if plain in ("validation", "dev") else plain


def first_home(candidates: list[Path], holds: Callable[[Path], bool]) -> Path | None:
    """The first of the folders that ``holds`` what it should."""
    return next((folder for folder in candidates if folder.is_dir() and holds(folder)), None)


def existing_files(folder: Path, *patterns: str) -> list[Path]:
    """The files below ``folder`` that match a pattern, sorted, each once."""
    found = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return sorted(path for path in found if not path.name.startswith("."))
