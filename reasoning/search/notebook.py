"""What one search has drawn, decided and spent so far; it becomes the result's trace and ledger."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from reasoning.drafts import Draft
from reasoning.errors import EngineError
from reasoning.ledger import Ledger
from reasoning.protocols import Continuation, ContinuationReply, ContinuationRequest, Generator, StopReason
from reasoning.records import Question
from reasoning.search.config import SearchConfig
from reasoning.search.result import Ending, SearchResult
from reasoning.selectors import Selection, Selector
from reasoning.stages import FourStages, Stage
from reasoning.trace import Candidate, Comparison, Step, StepKind, Trace


@dataclass
class Notebook:
    """The one mutable thing of a search. ``clock`` gives seconds; its zero does not matter."""

    question: Question
    config: SearchConfig
    generator: Generator
    clock: Callable[[], float]
    ledger: Ledger = field(default_factory=Ledger)
    candidates: dict[str, Candidate] = field(default_factory=dict)
    comparisons: list[Comparison] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    started: float = 0.0
    ended_by: Ending = Ending.DONE

    def __post_init__(self) -> None:
        self.started = self.clock()

    async def draw(self, requests: Sequence[ContinuationRequest]) -> list[ContinuationReply]:
        """One batch of generations: one serial step."""
        begun = self.elapsed()
        replies = await self.generator.generate(requests)
        if len(replies) != len(requests):
            raise EngineError(f"the engine gave {len(replies)} replies to {len(requests)} requests")
        for request, reply in zip(requests, replies, strict=True):
            if len(reply.continuations) != len(request.seeds):
                got, asked = len(reply.continuations), len(request.seeds)
                raise EngineError(f"the engine gave {got} continuations for {asked} seeds")
            # The engine says it with every reply from the first on.
            self.notes += [note for note in reply.notes if note not in self.notes]
        cost = sum((Ledger.of_generation(reply.usage) for reply in replies), Ledger.of_step())
        self.ledger += cost
        self.log(StepKind.WRITE, requests[0].stage if requests else None, begun, cost)
        return replies

    async def select(
        self, selector: Selector, stage: Stage | None, drafts: Sequence[Draft], keep: int, seed: int
    ) -> Selection:
        """What ``selector`` decides, with its time written down; ``settle`` writes down the rest."""
        begun = self.elapsed()
        selection = await selector.select(self.question, stage, drafts, keep, seed)
        self.log(StepKind.SELECT, stage, begun, selection.ledger)
        return selection

    def elapsed(self) -> float:
        """Seconds since the search began."""
        return self.clock() - self.started

    def log(self, kind: StepKind, stage: Stage | None, begun: float, cost: Ledger) -> None:
        """Write down what was waited for since ``begun``; nothing where no model was asked."""
        if cost.serial_steps:
            ended, tokens = self.elapsed(), cost.computed_tokens
            self.steps.append(Step(kind=kind, stage=stage, started_s=begun, ended_s=ended, tokens=tokens))

    def note(
        self, number: int, stage: Stage | None, parent: str | None, said: Continuation, text: str, fault: str | None
    ) -> str:
        """Write a candidate of round ``number`` down; returns its id."""
        start = f"S{number}."
        name = f"{start}{1 + sum(known.startswith(start) for known in self.candidates)}"
        self.candidates[name] = Candidate(
            id=name,
            parent=parent,
            stage=stage,
            text=text,
            stop=said.stop,
            tokens=said.tokens,
            logprob=said.logprob if math.isfinite(said.logprob) else None,
            seed=said.seed,
            fault=fault,
        )
        return name

    def settle(self, selection: Selection, *, with_cost: bool = True) -> None:
        """Write down what a selector decided and, unless the caller adds it up, what that cost."""
        for name, score in selection.scores.items():
            self.candidates[name] = replace(self.candidates[name], score=score)
        for name in selection.kept:
            self.keep(name)
        self.comparisons += selection.comparisons
        self.notes += selection.notes
        if with_cost:
            self.ledger += selection.ledger

    def keep(self, name: str) -> None:
        """Write down that a candidate went on."""
        self.candidates[name] = replace(self.candidates[name], is_kept=True)

    def limit_reached(self) -> bool:
        """Whether the deadline has passed or the token budget is spent; the first of them is remembered."""
        if self.ended_by is Ending.DONE:
            config = self.config
            if config.deadline_s is not None and self.elapsed() >= config.deadline_s:
                self.ended_by = Ending.DEADLINE
            elif config.token_budget is not None and self.ledger.computed_tokens >= config.token_budget:
                self.ended_by = Ending.BUDGET
        return self.ended_by in (Ending.DEADLINE, Ending.BUDGET)

    def answered(
        self, *, conclusion: str, stages: FourStages | None, text: str, chosen: str, score_kind: str
    ) -> SearchResult:
        """The result whose path ends in the candidate ``chosen``."""
        path = self._path(chosen)
        score = self.candidates[chosen].score
        return self._result(
            conclusion=conclusion,
            stages=stages,
            text=text,
            score=score,
            score_kind=score_kind if score is not None else "none",
            path=path,
            fault=None,
        )

    def failed(self, *, text: str, last: str, fault: str) -> SearchResult:
        """The result when nothing usable was written; ``last`` is the candidate whose ``fault`` is told."""
        return self._result(
            conclusion=None,
            stages=None,
            text=text,
            score=None,
            score_kind="none",
            path=self._path(last),
            fault=fault,
        )

    def _path(self, last: str) -> list[Candidate]:
        path = [self.candidates[last]]
        while (parent := path[-1].parent) is not None:
            path.append(self.candidates[parent])
        return path[::-1]

    def _result(
        self,
        *,
        conclusion: str | None,
        stages: FourStages | None,
        text: str,
        score: float | None,
        score_kind: str,
        path: Sequence[Candidate],
        fault: str | None,
    ) -> SearchResult:
        stops: tuple[StopReason, ...] = tuple(candidate.stop for candidate in path)
        return SearchResult(
            question_id=self.question.id,
            strategy=self.config.strategy.value,
            conclusion=conclusion,
            stages=stages,
            text=text,
            score=score,
            score_kind=score_kind,
            stop_reasons=stops,
            fault=fault,
            trace=Trace(
                question_id=self.question.id,
                strategy=self.config.strategy.value,
                candidates=tuple(self.candidates.values()),
                comparisons=tuple(self.comparisons),
                chosen=tuple(candidate.id for candidate in path) if fault is None else (),
                notes=tuple(self.notes),
                steps=tuple(self.steps),
            ),
            ended_by=self.ended_by,
            ledger=replace(self.ledger, seconds=self.elapsed()),
        )
