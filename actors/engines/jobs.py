"""One request on its way through the engine, and how its answer is handed back."""

from __future__ import annotations

from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field

import numpy as np

from actors.engines.image_store import ImageSpan
from actors.engines.prefix_tree import Ids
from actors.engines.sampling import Uniforms
from reasoning.ledger import Usage
from reasoning.protocols import (
    ChoiceReply,
    ChoiceRequest,
    Continuation,
    ContinuationReply,
    ContinuationRequest,
    StopReason,
)
from reasoning.records import ImageRef

NO_SPAN = ImageSpan(columns=np.empty(0, dtype=np.int64))
NO_IMAGE = ""
"""The image key of requests without image."""


@dataclass(kw_only=True, eq=False)
class Job:
    """A request, encoded, with the future that its caller waits on."""

    request: ContinuationRequest | ChoiceRequest
    ids: Ids
    option_ids: tuple[int, ...] = ()
    """For a choice: the token that stands for each option."""
    span: ImageSpan = NO_SPAN
    future: Future[ContinuationReply | ChoiceReply] = field(default_factory=Future)
    cached_tokens: int = 0
    image_encodes: int = 0
    done: dict[int, Continuation] = field(default_factory=dict)
    """Finished continuations by their place among the request's seeds."""

    @property
    def image(self) -> ImageRef | None:
        return self.request.image

    @property
    def image_key(self) -> str:
        return self.request.image.key if self.request.image is not None else NO_IMAGE

    @property
    def row_count(self) -> int:
        """Rows the job will take in the running batch."""
        return len(self.request.seeds) if isinstance(self.request, ContinuationRequest) else 0

    def usage(self, generated: int) -> Usage:
        return Usage(
            prompt_tokens=len(self.ids),
            cached_tokens=self.cached_tokens,
            generated_tokens=generated,
            image_encodes=self.image_encodes,
        )

    def answer(self, reply: ContinuationReply | ChoiceReply) -> None:
        """Hand the reply over; a caller that has gone is no error."""
        try:
            self.future.set_result(reply)
        except InvalidStateError:
            return

    def fail(self, error: Exception) -> None:
        """Let the caller's await raise ``error``."""
        try:
            self.future.set_exception(error)
        except InvalidStateError:
            return

    def finish(self, place: int, continuation: Continuation) -> None:
        """Note one continuation; with the last of them the reply goes out."""
        self.done[place] = continuation
        if len(self.done) == self.row_count:
            ordered = tuple(self.done[i] for i in range(self.row_count))
            usage = self.usage(sum(c.tokens for c in ordered))
            self.answer(ContinuationReply(continuations=ordered, usage=usage))


@dataclass(kw_only=True, eq=False)
class Row:
    """One continuation being generated."""

    job: Job
    place: int
    """Which of the request's seeds."""
    seed: int
    uniforms: Uniforms
    stops: tuple[str, ...]
    stop_table: bytes
    limit: int
    """The most tokens it may generate."""
    ids: list[int] = field(default_factory=list)
    logprob: float = 0.0

    @property
    def length(self) -> int:
        """Columns in use once the last generated token has been run."""
        return len(self.job.ids) + len(self.ids)

    def all_ids(self) -> Ids:
        return np.concatenate([self.job.ids, np.asarray(self.ids, dtype=np.int64)])

    def continuation(self, text: str, stop: StopReason) -> Continuation:
        return Continuation(text=text, stop=stop, tokens=len(self.ids), logprob=self.logprob, seed=self.seed)
