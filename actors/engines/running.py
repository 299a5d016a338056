"""The rows that are generating: one step adds a token to each, and those that are done leave."""

from __future__ import annotations

import math
from typing import Any

import torch

from actors.engines.families import Family, ImageSlots, Step
from actors.engines.jobs import Row
from actors.engines.kv import KvRows
from actors.engines.prefix_tree import PrefixTree
from actors.engines.sampling import Settings, draw
from actors.engines.stops import StopTexts
from reasoning.errors import EngineError
from reasoning.protocols import Continuation, ContinuationRequest, StopReason


class RunningRows:
    """Row ``i`` of the buffers belongs to ``rows[i]``; there are no holes between steps."""

    def __init__(self, family: Family[Any], stops: StopTexts, eos_ids: frozenset[int], tree: PrefixTree) -> None:
        self._family = family
        self._stops = stops
        self._eos_ids = eos_ids
        self._tree = tree
        self._kv = KvRows(family.kv_shape, 8, 256)
        self._images = family.new_image_slots(8)
        self.rows: list[Row] = []
        self._settings: Settings | None = None

    def start(self, rows: list[Row], logits: torch.Tensor, kv: KvRows, images: ImageSlots, source: int) -> None:
        """Fork a prefilled row to ``rows`` of one job; ``logits`` [vocabulary] are those after its prompt."""
        tokens, logprobs = self._draw(rows, logits.expand(len(rows), -1))
        going = []
        for row, token, logprob in zip(rows, tokens, logprobs, strict=True):
            done = self._accept(row, token, logprob)
            if done is None:
                going.append(row)
            else:
                row.job.finish(row.place, done)
        if not going:
            return
        first, prompt = len(self.rows), len(going[0].job.ids)
        self._kv.reserve(first + len(going), prompt + 1)
        self._images.reserve(first + len(going))
        targets = range(first, first + len(going))
        self._kv.fork_from(kv, source, targets, prompt)
        self._images.fork_from(images, source, targets)
        self.rows.extend(going)
        self._settings = None

    def step(self) -> None:
        """One token for every row."""
        self._leave([i for i, row in enumerate(self.rows) if row.job.future.done()])
        if not self.rows:
            return
        device = self._family.kv_shape.device
        lengths = [row.length for row in self.rows]
        columns = max(lengths)
        self._kv.reserve(len(self.rows), columns)
        step = Step(
            ids=torch.tensor([row.ids[-1:] for row in self.rows], device=device),
            positions=torch.tensor([[length - 1] for length in lengths], device=device),
            last=torch.zeros(len(self.rows), dtype=torch.long, device=device),
            columns=columns,
        )
        logits = self._family.forward(step, self._kv, self._images)
        if self._settings is None:
            self._settings = _settings(self.rows, device)
        tokens, logprobs = self._draw(self.rows, logits, self._settings)
        over: dict[int, tuple[Row, Continuation]] = {}
        for number, (row, token, logprob) in enumerate(zip(self.rows, tokens, logprobs, strict=True)):
            done = self._accept(row, token, logprob)
            if done is not None:
                self._remember(number, row)
                over[number] = (row, done)
        self._leave(list(over))
        # Only now: a caller who has its answer finds the rows free.
        for row, done in over.values():
            row.job.finish(row.place, done)

    def clear(self) -> list[Row]:
        """Drop all rows and hand them back."""
        rows, self.rows, self._settings = self.rows, [], None
        return rows

    def _draw(
        self, rows: list[Row], logits: torch.Tensor, settings: Settings | None = None
    ) -> tuple[list[int], list[float]]:
        chosen = settings or _settings(rows, logits.device)
        uniforms = [] if chosen.is_all_greedy else [row.uniforms.next() for row in rows]
        tokens, logprobs = draw(logits, chosen, uniforms)
        values: list[float] = logprobs.tolist()
        if not all(map(math.isfinite, values)):
            raise EngineError("the model's logits are not finite; weights or number format do not fit")
        return tokens.tolist(), values

    def _accept(self, row: Row, token: int, logprob: float) -> Continuation | None:
        """Add a token to a row; its continuation when that was the last one."""
        row.ids.append(token)
        row.logprob += logprob
        if token in self._eos_ids:
            return row.continuation(self._stops.decode(row.ids[:-1]), StopReason.EOS)
        if row.stop_table[token] and self._stops.is_complete(row.ids, row.stops):
            return row.continuation(self._stops.text_until(row.ids, row.stops), StopReason.TAG)
        if len(row.ids) >= row.limit:
            return row.continuation(self._stops.decode(row.ids), StopReason.LENGTH)
        return None

    def _remember(self, number: int, row: Row) -> None:
        """Keep what a finished row computed, for requests that go on from its text."""
        if row.ids[-1] in self._eos_ids:
            return
        # The last token was drawn but has not been through the model.
        ids = row.all_ids()[:-1]
        start = self._tree.missing_from(row.job.image_key, ids)
        self._tree.insert(row.job.image_key, ids, start, self._kv.read(number, start, len(ids)))

    def _leave(self, numbers: list[int]) -> None:
        """Take rows out; the last ones move into their places."""
        if not numbers:
            return
        for number in sorted(numbers, reverse=True):
            last = len(self.rows) - 1
            if number != last:
                self._kv.copy_row(last, number, self.rows[last].length)
                self._images.copy_row(last, number)
                self.rows[number] = self.rows[last]
            self.rows.pop()
        self._settings = None


def _settings(rows: list[Row], device: torch.device) -> Settings:
    pairs = []
    for row in rows:
        assert isinstance(row.job.request, ContinuationRequest)
        pairs.append((row.job.request.sampling.temperature, row.job.request.sampling.top_p))
    return Settings.of(pairs, device)
