"""From an image reference to the vision part's input, off the event loop and once for all who ask.

Where an image stands among the text tokens, a prompt cannot be encoded before its image was read:
``layout`` reads it in a thread and keeps how it stands in the text. What the vision part takes is
kept until the engine's thread fetches it, or until too many others have come.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from actors.chat import ImageFacts, ImageLayout, image_facts
from actors.images import load_image
from reasoning.records import ImageRef

# Read images that nobody has fetched yet; what leaves is read again.
WAITING_BYTES = 64 * 1024**2
KNOWN_LAYOUTS = 4096


class ImageReader:
    """May be asked from any thread."""

    def __init__(self, processor: Any, *, max_pixels: int, threads: int) -> None:
        self._processor = processor
        self._max_pixels = max_pixels
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="image-reader")
        self._gate = threading.Lock()
        self._layouts: OrderedDict[str, Future[ImageLayout]] = OrderedDict()
        self._waiting: OrderedDict[str, ImageFacts] = OrderedDict()
        self._waiting_bytes = 0

    def layout(self, ref: ImageRef) -> Future[ImageLayout]:
        """How the image stands in the text; the future raises ImageError when it cannot be used.

        Raises RuntimeError after ``close``.
        """
        key = ref.key
        with self._gate:
            known = self._layouts.get(key)
            if known is None or (known.done() and known.exception() is not None):
                # A failure is not kept: a file may be there the next time.
                known = self._layouts[key] = self._pool.submit(self._read_ahead, key, ref)
            self._layouts.move_to_end(key)
            while len(self._layouts) > KNOWN_LAYOUTS:
                self._layouts.popitem(last=False)
            return known

    def fetch(self, ref: ImageRef) -> ImageFacts:
        """What the vision part takes, read now unless it was read ahead; raises ImageError."""
        with self._gate:
            found = self._waiting.pop(ref.key, None)
            if found is not None:
                self._waiting_bytes -= _size(found)
                return found
        return self._read(ref)

    def close(self) -> None:
        """Read no more; what was asked for before is still read."""
        self._pool.shutdown(wait=False)

    def _read(self, ref: ImageRef) -> ImageFacts:
        return image_facts(self._processor, load_image(ref, max_pixels=self._max_pixels))

    def _read_ahead(self, key: str, ref: ImageRef) -> ImageLayout:
        facts = self._read(ref)
        with self._gate:
            self._waiting[key] = facts
            self._waiting_bytes += _size(facts)
            while self._waiting_bytes > WAITING_BYTES and len(self._waiting) > 1:
                _, oldest = self._waiting.popitem(last=False)
                self._waiting_bytes -= _size(oldest)
        return facts.layout


def _size(facts: ImageFacts) -> int:
    return sum(tensor.nbytes for tensor in facts.tensors.values())
