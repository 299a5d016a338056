"""What a search gives back for one question."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from reasoning.ledger import Ledger
from reasoning.protocols import StopReason
from reasoning.stages import FourStages
from reasoning.trace import Trace


class Ending(StrEnum):
    """Why a search ended."""

    DONE = "done"
    AGREEMENT = "agreement"
    """The first answers concluded the same, so no more were drawn."""
    DEADLINE = "deadline"
    BUDGET = "budget"


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """The answer to one question, how it was reached and what it cost.

    Either ``conclusion`` is set and ``fault`` is None, or the other way round: a question that no
    usable text was written for is a result with a fault, not an exception.
    """

    question_id: str
    strategy: str
    conclusion: str | None
    """The answer to show: the conclusion's text; for ``direct`` the whole answer."""
    stages: FourStages | None
    """All four texts; None for ``direct`` and on a fault."""
    text: str
    """The assistant's turn as generated; on a fault as far as it came."""
    score: float | None
    """The chosen candidate's score in the last selection; None when nothing was selected."""
    score_kind: str
    """What ``score`` is: ``win_probability``, ``wins``, ``mean_logprob``, ``vote_share``, ``posterior``, ``rating``,
    ``reward`` or ``none``."""
    stop_reasons: tuple[StopReason, ...]
    """Why each generation of the chosen path ended, in writing order."""
    fault: str | None
    """Why there is no answer, such as ``caption.unclosed`` (``ParseFault.code``)."""
    trace: Trace
    ledger: Ledger
    ended_by: Ending = Ending.DONE
    """Whether it went to its end or was cut short, with the best so far as its answer."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold; ``from_dict`` is the inverse."""
        return {
            "question_id": self.question_id,
            "strategy": self.strategy,
            "conclusion": self.conclusion,
            "stages": {s.value: t for s, t in self.stages.as_mapping().items()} if self.stages else None,
            "text": self.text,
            "score": self.score,
            "score_kind": self.score_kind,
            "stop_reasons": [reason.value for reason in self.stop_reasons],
            "fault": self.fault,
            "trace": json.loads(self.trace.to_json()),
            "ledger": self.ledger.as_dict(),
            "ended_by": self.ended_by.value,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SearchResult:
        """From what ``to_dict`` gave; raises KeyError when a field is missing."""
        stages = values["stages"]
        return cls(
            question_id=values["question_id"],
            strategy=values["strategy"],
            conclusion=values["conclusion"],
            stages=FourStages(**{name.lower(): text for name, text in stages.items()}) if stages else None,
            text=values["text"],
            score=values["score"],
            score_kind=values["score_kind"],
            stop_reasons=tuple(StopReason(reason) for reason in values["stop_reasons"]),
            fault=values["fault"],
            trace=Trace.from_json(json.dumps(values["trace"])),
            ledger=Ledger.from_dict(values["ledger"]),
            ended_by=Ending(values.get("ended_by", Ending.DONE)),
        )
