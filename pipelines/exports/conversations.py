"""Accepted rows back into the conversations they came from. Pure: rows in, conversations out.

A row is one turn; its question's earlier turns stand in its ``history``. Rows of one conversation
are joined in turn order, each with the answer the teacher wrote for it. The picture belongs to the
first turn. What is missing in between (a turn that was rejected, or never annotated) ends the
conversation there or is left out, as the caller says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import groupby
from typing import Any

from pipelines.schemas import question_from_row, stages_from_row
from reasoning.prompts import question_text
from reasoning.records import Question
from reasoning.stages import FourStages

HISTORY_HEADING = "Earlier in this conversation:"
QUESTION_HEADING = "Now answer:"


class RejectedTurn(StrEnum):
    """What becomes of a conversation in which a turn is missing."""

    CUT = "cut"
    """It ends before that turn: later turns may refer to it."""
    DROP = "drop"
    """That turn is left out, the later ones stay."""


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A question as the user puts it and the four-stage answer to it."""

    id: str
    """Of the accepted row."""
    user: str
    assistant: str


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """What one record of an export holds."""

    id: str
    image: str | None
    """The picture's name among the export's pictures; it stands in the first turn."""
    exchanges: tuple[Exchange, ...]


@dataclass
class Joined:
    """What became of accepted rows."""

    rows: int = 0
    """Rows that are in a conversation."""
    conversations: int = 0
    joined: int = 0
    """Conversations of several rows."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Ids of rows that are in none, with the cause."""
    apart: int = 0
    """Rows that name one conversation but cannot be turns of it, such as two first turns; each is by itself."""


def conversation_key(row: Mapping[str, Any]) -> str:
    """What rows of one conversation have in common; the row's id where it names no conversation."""
    name = row.get("conversation_id")
    if not name:
        return f"row\x1f{row['id']}"
    return "\x1f".join(("conversation", row.get("source") or "", row.get("split") or "", name))


def conversations(rows: Iterable[Mapping[str, Any]], rule: RejectedTurn, counts: Joined) -> Iterator[Conversation]:
    """The conversations of rows in which those of one key stand together; ``counts`` is filled on the way.

    ``image`` in a row is a name or None. Rows that cannot be one conversation (a turn twice, two
    pictures) come out one by one, earlier turns in their prompts.
    """
    for _, found in groupby(rows, key=conversation_key):
        group = sorted(found, key=lambda row: (_turn(row), row["id"]))
        for made in _of_group(group, rule, counts):
            counts.conversations += 1
            counts.joined += len(made.exchanges) > 1
            counts.rows += len(made.exchanges)
            yield made


def prompt_with_history(question: Question, prompt: str) -> str:
    """``prompt`` with the conversation before it written out, for a record that has no earlier turns of its own."""
    if not question.history:
        return prompt
    turns = [f"User: {turn.question.strip()}\nAssistant: {turn.answer.strip()}" for turn in question.history]
    return "\n\n".join([HISTORY_HEADING, *turns, f"{QUESTION_HEADING}\n{prompt}"])


def _of_group(group: Sequence[Mapping[str, Any]], rule: RejectedTurn, counts: Joined) -> Iterator[Conversation]:
    first = group[0]
    if not first.get("conversation_id"):
        yield _alone(first)
        return
    turns = [_turn(row) for row in group]
    if len(set(turns)) < len(turns) or len({row["image"] for row in group if row["image"] is not None}) > 1:
        counts.apart += len(group)
        yield from (_alone(row) for row in group)
        return
    kept = list(group)
    if rule is RejectedTurn.CUT:
        kept = [row for place, row in enumerate(group) if turns[place] == place]
        counts.left_out.update({row["id"]: "after_rejected_turn" for row in group[len(kept) :]})
    if kept:
        image = next((row["image"] for row in kept if row["image"] is not None), None)
        questions = [(question_from_row({**row, "image": None}), stages_from_row(row)) for row in kept]
        exchanges = tuple(_exchange(question, stages, question_text(question)) for question, stages in questions)
        # Alone, a turn keeps its own id; several go by that of the first: short, unique, and the same in each export.
        yield Conversation(id=kept[0]["id"], image=image, exchanges=exchanges)


def _alone(row: Mapping[str, Any]) -> Conversation:
    question = question_from_row({**row, "image": None})
    prompt = prompt_with_history(question, question_text(question))
    exchange = _exchange(question, stages_from_row(row), prompt)
    return Conversation(id=row["id"], image=row["image"], exchanges=(exchange,))


def _exchange(question: Question, stages: FourStages, prompt: str) -> Exchange:
    return Exchange(id=question.id, user=prompt, assistant=stages.render())


def _turn(row: Mapping[str, Any]) -> int:
    return int(row.get("turn") or 0) or len(row.get("history") or ())
