"""Results and answerers that the tests of this folder share."""

from __future__ import annotations

import base64
import io
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from PIL import Image

from reasoning.ledger import Ledger
from reasoning.protocols import StopReason
from reasoning.records import Question
from reasoning.search.config import SearchConfig
from reasoning.search.result import SearchResult
from reasoning.stages import FourStages, Stage
from reasoning.trace import Trace
from serve.events import EventKind, StageEvent

STAGES = FourStages(summary="plan", caption="two circles", reasoning="1 + 1 = 2", conclusion="2")
GOOD = SearchResult(
    question_id="q",
    strategy="stage_beam",
    conclusion="2",
    stages=STAGES,
    text=STAGES.render(),
    score=0.8,
    score_kind="win_probability",
    stop_reasons=(StopReason.TAG,) * 4,
    fault=None,
    trace=Trace(question_id="q", strategy="stage_beam"),
    ledger=Ledger(prompt_tokens=100, cached_tokens=60, generated_tokens=40, judge_tokens=30, serial_steps=8),
)
CUT = replace(
    GOOD, conclusion=None, stages=None, text="<SUMMARY> pl", stop_reasons=(StopReason.LENGTH,), fault="summary.unclosed"
)


class FakeAnswerer:
    """Gives ``outcome``, or raises it; remembers what it was asked."""

    def __init__(self, outcome: SearchResult | Exception = GOOD) -> None:
        self.outcome = outcome
        self.questions: list[Question] = []
        self.searches: list[SearchConfig] = []

    async def answer(self, question: Question, search: SearchConfig) -> SearchResult:
        self.questions.append(question)
        self.searches.append(search)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    async def stream(self, question: Question, search: SearchConfig) -> AsyncIterator[StageEvent | SearchResult]:
        yield StageEvent(kind=EventKind.STARTED, stage=Stage.SUMMARY, candidates=4)
        yield await self.answer(question, search)


def png(colour: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, "PNG")
    return buffer.getvalue()


def chat_body(image: bytes | None = None, **fields: Any) -> dict[str, Any]:
    url = f"data:image/png;base64,{base64.b64encode(png() if image is None else image).decode()}"
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "How many?"}]
    return {"model": "stagebeam", "messages": [{"role": "user", "content": content}], **fields}
