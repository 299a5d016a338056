"""Running prompts: what is known of them is copied, the rest is computed, several at once.

Prompts that begin alike beyond what is known go one after another, so that the second finds what
the first has left: judge prompts of one question share the question and the earlier stages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from actors.chat import ImageFacts
from actors.engines.families import Family, ImageSlots, Step
from actors.engines.image_store import EncodedImage, ImageStore
from actors.engines.jobs import Job
from actors.engines.kv import KvRows
from actors.engines.prefix_tree import PrefixTree
from reasoning.records import ImageRef

# Waiting for a neighbour costs a step of its own; fewer shared tokens than this are not worth one.
WORTH_WAITING = 16


@dataclass(frozen=True, kw_only=True)
class _Begun:
    """A job and what is known of its prompt."""

    job: Job
    known: int
    """Leading tokens whose keys and values are known."""
    segments: list[torch.Tensor]

    @property
    def missing(self) -> int:
        """Tokens to compute."""
        return len(self.job.ids) - self.known


@dataclass(kw_only=True)
class _Images:
    """The encoded images of one run of the prompts, whatever the store throws out meanwhile."""

    known: dict[str, EncodedImage] = field(default_factory=dict)
    failed: dict[str, Exception] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Prefilled:
    """A bucket of prompts after their step: row ``i`` of everything belongs to ``jobs[i]``."""

    jobs: list[Job]
    logits: torch.Tensor
    """[jobs, vocabulary], after each prompt's last token."""
    kv: KvRows
    images: ImageSlots


class Prefill:
    """Owns the encoded images and the buffers in which prompts are run."""

    def __init__(
        self, family: Family[Any], tree: PrefixTree, store: ImageStore, read_image: Callable[[ImageRef], ImageFacts]
    ) -> None:
        self._family = family
        self._tree = tree
        self._store = store
        self._read_image = read_image
        self._kv = KvRows(family.kv_shape, 8, 256)
        self._images = family.new_image_slots(8)

    def run(self, jobs: Sequence[Job]) -> Iterator[Prefilled]:
        """Prompts in buckets as they are done; use each before asking for the next, which reuses the buffers.

        A job whose image cannot be used fails by itself, without a word to the others.
        """
        images, waiting = _Images(), list(jobs)
        while waiting:
            wave, waiting = self._next_wave(waiting)
            for bucket in _buckets(self._encode(wave, images)):
                yield self._compute(bucket, images.known)

    def _encode(self, wave: list[_Begun], images: _Images) -> list[_Begun]:
        """Look at the images that the jobs need and nobody has looked at, in one pass; the jobs that can go on."""
        new: dict[str, tuple[Job, ImageFacts]] = {}
        for begun in wave:
            job, key = begun.job, begun.job.image_key
            if job.image is None or not self._family.needs_image(job.span, begun.known):
                continue
            if key in images.known or key in images.failed or key in new:
                continue
            found = self._store.get(key)
            if found is not None:
                images.known[key] = found
                continue
            try:
                new[key] = (job, self._read_image(job.image))
            except Exception as error:  # noqa: BLE001 - handed to the callers who sent the image
                images.failed[key] = error
        if new:
            encoded = self._family.encode_images([facts for _, facts in new.values()])
            for (key, (job, _)), image in zip(new.items(), encoded, strict=True):
                job.image_encodes = 1
                self._store.put(key, image)
                images.known[key] = image
        for begun in wave:
            if begun.job.image_key in images.failed:
                begun.job.fail(images.failed[begun.job.image_key])
        return [begun for begun in wave if begun.job.image_key not in images.failed]

    def _next_wave(self, jobs: list[Job]) -> tuple[list[_Begun], list[Job]]:
        """Jobs with what is known of them, and those that had better wait for one of these."""
        wave: list[_Begun] = []
        later: list[Job] = []
        marks: set[tuple[str, bytes]] = set()
        for job in jobs:
            # The last token is always run: its logits are what the prompt is run for.
            known, segments = self._tree.match(job.image_key, job.ids[:-1])
            mark = (job.image_key, job.ids[: known + WORTH_WAITING].tobytes())
            if mark in marks and len(job.ids) > known + WORTH_WAITING and self._tree.is_keeping:
                later.append(job)
            else:
                marks.add(mark)
                job.cached_tokens = known
                wave.append(_Begun(job=job, known=known, segments=segments))
        return wave, later

    def _compute(self, bucket: list[_Begun], images: dict[str, EncodedImage]) -> Prefilled:
        width = max(begun.missing for begun in bucket)
        columns = max(begun.known for begun in bucket) + width
        self._kv.reserve(len(bucket), columns)
        self._images.reserve(len(bucket))
        ids = np.zeros((len(bucket), width), dtype=np.int64)
        for number, begun in enumerate(bucket):
            job, column = begun.job, 0
            for segment in begun.segments:
                self._kv.write(number, column, segment)
                column += segment.shape[3]
            self._images.place(number, images.get(job.image_key), job.span, begun.known)
            ids[number, : begun.missing] = job.ids[begun.known :]
        device = self._family.kv_shape.device
        starts = torch.tensor([[begun.known] for begun in bucket], device=device)
        step = Step(
            ids=torch.from_numpy(ids).to(device),
            positions=starts + torch.arange(width, device=device),
            last=torch.tensor([begun.missing - 1 for begun in bucket], device=device),
            columns=columns,
        )
        logits = self._family.forward(step, self._kv, self._images)
        jobs = [begun.job for begun in bucket]
        for number, job in enumerate(jobs):
            start = self._tree.missing_from(job.image_key, job.ids)
            if start < len(job.ids):
                self._tree.insert(job.image_key, job.ids, start, self._kv.read(number, start, len(job.ids)))
        return Prefilled(jobs=jobs, logits=logits, kv=self._kv, images=self._images)


def _buckets(wave: list[_Begun]) -> Iterator[list[_Begun]]:
    """Jobs with about equally many tokens to compute together: at most half of a step is padding."""
    bucket: list[_Begun] = []
    for begun in sorted(wave, key=lambda begun: begun.missing):
        if bucket and begun.missing > 16 and begun.missing > 2 * bucket[0].missing:
            yield bucket
            bucket = []
        bucket.append(begun)
    if bucket:
        yield bucket
