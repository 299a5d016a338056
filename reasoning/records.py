"""The records that flow between the parts: a question, its image, an annotation.

Frozen values of plain Python types; each survives pickling. How they lie in Parquet is said in
``pipelines/schemas.py``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum

from reasoning.stages import FourStages


class AnswerType(StrEnum):
    """How an answer is compared (``reasoning.grading``)."""

    CHOICE = "choice"
    NUMBER = "number"
    TEXT = "text"
    FREE = "free"


@dataclass(frozen=True, kw_only=True)
class ImageRef:
    """An image by its encoded bytes or by a URI; exactly one of them is set."""

    data: bytes | None = None
    uri: str | None = None
    media_type: str = "image/png"

    @property
    def key(self) -> str:
        """What caches and routers know the image by: a hash of its bytes, or of its URI."""
        source = self.data if self.data is not None else (self.uri or "").encode()
        return hashlib.sha256(source).hexdigest()[:32]


@dataclass(frozen=True, kw_only=True)
class Turn:
    """An earlier question of the conversation and the answer that was given."""

    question: str
    answer: str


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question about one image (or about none: ``image`` is None).

    ``answer`` is the standard answer where one is known, None where not; ``answers`` holds further
    accepted forms. ``choices`` are option texts in order; their letters are A, B, C …
    """

    id: str
    question: str
    image: ImageRef | None = None
    source: str = ""
    split: str = ""
    conversation_id: str = ""
    turn: int = 0
    choices: tuple[str, ...] = ()
    answer: str | None = None
    answers: tuple[str, ...] = ()
    answer_type: AnswerType = AnswerType.FREE
    hint: str | None = None
    history: tuple[Turn, ...] = ()
    meta: dict[str, str] = field(default_factory=dict)


def question_id(source: str, image: ImageRef | None, question: str, turn: int = 0) -> str:
    """The identity of a question: a hash of its content, the same on every machine and run."""
    parts = (source, image.key if image else "", question, str(turn))
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:24]


class RejectReason(StrEnum):
    """Why an annotation was not kept. The values are written to Parquet and never change."""

    LENGTH = "length"
    CONTENT_FILTER = "content_filter"
    EMPTY_REPLY = "empty_reply"
    BAD_FORMAT = "bad_format"
    REFUSAL = "refusal"
    WRONG_ANSWER = "wrong_answer"
    JUDGED_INVALID = "judged_invalid"
    UNDECIDED = "undecided"
    LEAK = "leak"
    CAPTION_INCONSISTENT = "caption_inconsistent"
    NOT_RESOLVED = "not_resolved"
    IMAGE_UNUSABLE = "image_unusable"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    TIMEOUT = "timeout"
    CONNECTION_LOST = "connection_lost"
    GARBLED_REPLY = "garbled_reply"
    TEACHER_ERROR = "teacher_error"
    SOURCE_FAULT = "source_fault"
    ROW_ERROR = "row_error"


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """What the teacher wrote for one question and what became of it."""

    question_id: str
    stages: FourStages | None
    reply: str
    reason: RejectReason | None
    detail: str
    teacher: str
    prompt_version: str
    attempts: int
    prompt_tokens: int
    generated_tokens: int
    dollars: float
    config_hash: str

    @property
    def is_accepted(self) -> bool:
        return self.reason is None


class RowKind(StrEnum):
    """What a training row teaches."""

    FOUR_STAGE = "four_stage"
    DIRECT = "direct"
    JUDGEMENT = "judgement"


@dataclass(frozen=True, kw_only=True)
class TrainingRow:
    """One row of an SFT shard: loss falls on ``response`` and its end-of-turn token alone.

    In Parquet: columns ``id, kind, image{bytes, uri, media_type}, prompt, response,
    history[{question, answer}]``.
    """

    id: str
    kind: RowKind
    image: ImageRef | None
    prompt: str
    response: str
    history: tuple[Turn, ...] = ()
    """Earlier turns, as a service passes them to the chat template; the image stands before the first."""
