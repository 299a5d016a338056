"""Running prompts: what is known of them is copied, the rest is computed, several at once.

Prompts that begin alike beyond what is known go one after another, so that the second finds what
the first has left: judge prompts of one question share the question and the earlier stages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

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
        self, family: Family, tree: PrefixTree, store: ImageStore, read_image: Callable[[ImageRef], ImageFacts]
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
        images = self._encode(jobs)
        waiting = [job for job in jobs if job.image is None or job.image_key in images]
        while waiting:
            wave, waiting = self._next_wave(waiting)
            for bucket in _buckets(wave):
                yield self._compute(bucket, images)

    def _encode(self, jobs: Sequence[Job]) -> dict[str, EncodedImage]:
        """The encoded images of the jobs; those not known are looked at in one pass."""
        known: dict[str, EncodedImage] = {}
        new: dict[str, tuple[Job, ImageFacts]] = {}
        failed: dict[str, Exception] = {}
        for job in jobs:
            key = job.image_key
            if job.image is None or key in known or key in new:
                continue
            found = self._store.get(key)
            if found is not None:
                known[key] = found
            elif key not in failed:
                try:
                    new[key] = (job, self._read_image(job.image))
                except Exception as error:  # noqa: BLE001 - handed to the caller who sent the image
                    failed[key] = error
            if key in failed:
                job.fail(failed[key])
        if new:
            encoded = self._family.encode_images([facts for _, facts in new.values()])
            for (key, (job, _)), image in zip(new.items(), encoded, strict=True):
                job.image_encodes = 1
                self._store.put(key, image)
                known[key] = image
        return known

    def _next_wave(self, jobs: list[Job]) -> tuple[list[tuple[Job, int, list[torch.Tensor]]], list[Job]]:
        """Jobs with what is known of them, and those that had better wait for one of these."""
        wave: list[tuple[Job, int, list[torch.Tensor]]] = []
        later: list[Job] = []
        begun: set[tuple[str, bytes]] = set()
        for job in jobs:
            # The last token is always run: its logits are what the prompt is run for.
            known, segments = self._tree.match(job.image_key, job.ids[:-1])
            mark = (job.image_key, job.ids[: known + WORTH_WAITING].tobytes())
            if mark in begun and len(job.ids) > known + WORTH_WAITING and self._tree.is_keeping:
                later.append(job)
            else:
                begun.add(mark)
                job.cached_tokens = known
                wave.append((job, known, segments))
        return wave, later

    def _compute(self, bucket: list[tuple[Job, int, list[torch.Tensor]]], images: dict[str, EncodedImage]) -> Prefilled:
        width = max(len(job.ids) - known for job, known, _ in bucket)
        columns = max(known for _, known, _ in bucket) + width
        self._kv.reserve(len(bucket), columns)
        self._images.reserve(len(bucket))
        ids = np.zeros((len(bucket), width), dtype=np.int64)
        starts, last = [], []
        for number, (job, known, segments) in enumerate(bucket):
            column = 0
            for segment in segments:
                self._kv.write(number, column, segment)
                column += segment.shape[3]
            self._images.place(number, images.get(job.image_key), job.image_start)
            ids[number, : len(job.ids) - known] = job.ids[known:]
            starts.append([known])
            last.append(len(job.ids) - known - 1)
        device = self._family.kv_shape.device
        positions = torch.tensor(starts, device=device) + torch.arange(width, device=device)
        step = Step(
            ids=torch.from_numpy(ids).to(device),
            positions=positions,
            last=torch.tensor(last, device=device),
            columns=columns,
        )
        logits = self._family.forward(step, self._kv, self._images)
        for number, (job, _, _) in enumerate(bucket):
            start = self._tree.missing_from(job.image_key, job.ids)
            if start < len(job.ids):
                self._tree.insert(job.image_key, job.ids, start, self._kv.read(number, start, len(job.ids)))
        return Prefilled(jobs=[job for job, _, _ in bucket], logits=logits, kv=self._kv, images=self._images)


def _buckets(
    wave: list[tuple[Job, int, list[torch.Tensor]]],
) -> Iterator[list[tuple[Job, int, list[torch.Tensor]]]]:
    """Jobs with about equally many tokens to compute together: at most half of a step is padding."""
    bucket: list[tuple[Job, int, list[torch.Tensor]]] = []
    for item in sorted(wave, key=lambda item: len(item[0].ids) - item[1]):
        width = len(item[0].ids) - item[1]
        if bucket and width > 16 and width > 2 * (len(bucket[0][0].ids) - bucket[0][1]):
            yield bucket
            bucket = []
        bucket.append(item)
    if bucket:
        yield bucket
