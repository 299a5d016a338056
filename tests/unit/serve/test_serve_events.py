"""Stage events, read from what the search asks of its generator."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from serve_fakes import GOOD, STAGES

from reasoning.ledger import Usage
from reasoning.protocols import ContinuationReply, ContinuationRequest, Sampling
from reasoning.stages import Stage, render_stage
from serve.events import EventKind, StageEvent, StageObserver


class Silent:
    async def generate(self, requests: Sequence[ContinuationRequest]) -> list[ContinuationReply]:
        return [ContinuationReply(continuations=(), usage=Usage()) for _ in requests]


def request(stage: Stage | None, prefix: str = "", seeds: int = 2) -> ContinuationRequest:
    return ContinuationRequest(
        prompt="?",
        image=None,
        prefix=prefix,
        stops=(stage.close_tag,) if stage else (),
        seeds=tuple(range(seeds)),
        sampling=Sampling(),
        stage=stage,
    )


def observed(*rounds: list[ContinuationRequest]) -> list[StageEvent]:
    events: list[StageEvent] = []
    observer = StageObserver(Silent(), events.append)

    async def go() -> None:
        for requests in rounds:
            await observer.generate(requests)
        observer.finish(GOOD)

    asyncio.run(go())
    return events


def test_next_stage_tells_which_texts_survived() -> None:
    first = render_stage(Stage.SUMMARY, "one plan") + "\n\n"
    second = render_stage(Stage.SUMMARY, "other plan") + "\n\n"
    events = observed([request(Stage.SUMMARY)], [request(Stage.CAPTION, first), request(Stage.CAPTION, second)])
    assert [(e.kind, e.stage) for e in events[:3]] == [
        (EventKind.STARTED, Stage.SUMMARY),
        (EventKind.CHOSEN, Stage.SUMMARY),
        (EventKind.STARTED, Stage.CAPTION),
    ]
    assert events[1].texts == ("one plan", "other plan")
    assert events[2].candidates == 4


def test_repair_of_a_stage_is_no_new_start() -> None:
    events = observed([request(Stage.SUMMARY)], [request(Stage.SUMMARY)])
    assert [e.stage for e in events if e.kind is EventKind.STARTED] == [Stage.SUMMARY]


def test_whole_answers_report_all_stages_at_the_end() -> None:
    events = observed([request(None, seeds=4)])
    assert events[0].as_dict() == {"event": "stage_started", "stage": None, "candidates": 4}
    assert [(e.stage, e.texts) for e in events[1:]] == [(s, (STAGES[s],)) for s in Stage]
