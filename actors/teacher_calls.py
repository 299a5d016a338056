"""What is sent to a teacher, and what a call of it may come to.

A call's key is a hash of the very bytes that are sent: equal keys, equal calls.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from actors.governing.terms import CallCost
from actors.prices import Prices
from reasoning.records import ImageRef

BYTES_PER_TOKEN = 3
"""Of text: fewer than most tokenizers get, so that more tokens are reckoned with than there are."""
_TOKENS_PER_MESSAGE = 8
_FIRST_IMAGE_TOKENS = 1500
"""What an image is thought to take until replies have told."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """One turn of what the teacher is shown."""

    role: Literal["user", "assistant"]
    text: str


def request_body(
    messages: Sequence[Message],
    image_url: str | None,
    *,
    model: str,
    max_tokens: int,
    temperature: float | None,
) -> bytes:
    """The request as canonical JSON; the image stands before the first message's text."""
    sent: dict[str, Any] = {
        "model": model,
        "messages": [_payload(message, image_url if i == 0 else None) for i, message in enumerate(messages)],
        "max_tokens": max_tokens,
    }
    if temperature is not None:
        sent["temperature"] = temperature
    # Escaped, half a surrogate pair can be sent too: the server says what it makes of it.
    return json.dumps(sent, sort_keys=True, separators=(",", ":")).encode("ascii")


def call_key(payload: bytes | Mapping[str, Any], sample: int = 0) -> str:
    """What a call is kept under: a hash of what is sent and of which of several samples it is."""
    if not isinstance(payload, bytes):
        payload = json.dumps(payload, sort_keys=True, separators=(",", ":")).encode("ascii")
    digest = hashlib.sha256(payload)
    digest.update(f"\n{sample}".encode())
    return digest.hexdigest()


def is_remote(image: ImageRef) -> bool:
    """Whether the image is named to the server, which fetches it, and not sent."""
    return image.data is None and (image.uri or "").startswith(("http://", "https://", "data:"))


class ImageUrls:
    """Data URLs of images, each made once for all calls about it that are near in time."""

    def __init__(self, encode: Callable[[ImageRef], tuple[bytes, str]], *, kept: int) -> None:
        """``encode`` is blocking, and gives an image's bytes as they are to be sent and their media type."""
        self._encode = encode
        self._kept = kept
        self._made: OrderedDict[ImageRef, asyncio.Task[str]] = OrderedDict()

    async def get(self, image: ImageRef) -> str:
        """The URL to send for ``image``; raises ImageError when it cannot be used."""
        if is_remote(image):
            return image.uri or ""
        task = self._made.get(image)
        if task is None:
            task = self._made[image] = asyncio.create_task(asyncio.to_thread(self._url, image))
            task.add_done_callback(lambda done: self._forget_failed(image, done))
            if len(self._made) > self._kept:
                self._made.popitem(last=False)
        else:
            self._made.move_to_end(image)
        # Whoever made it may be cancelled while others wait for it.
        return await asyncio.shield(task)

    def _forget_failed(self, image: ImageRef, done: asyncio.Task[str]) -> None:
        """What could not be read now may be later."""
        if (done.cancelled() or done.exception() is not None) and self._made.get(image) is done:
            del self._made[image]

    def _url(self, image: ImageRef) -> str:
        data, media_type = self._encode(image)
        return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


class CallEstimate:
    """The most that a call can cost, before it is made."""

    def __init__(self, prices: Prices, *, max_tokens: int) -> None:
        self._prices = prices
        self._max_tokens = max_tokens
        self._image_tokens = _FIRST_IMAGE_TOKENS
        self._is_told = False

    def of(self, messages: Sequence[Message], *, has_image: bool) -> CallCost:
        """The reply at its longest; the prompt by its length, an image by the largest so far."""
        prompt = _text_tokens(messages) + (self._image_tokens if has_image else 0)
        return CallCost(tokens=prompt + self._max_tokens, dollars=self._prices.dollars(prompt, self._max_tokens))

    def learn(self, messages: Sequence[Message], prompt_tokens: int, *, has_image: bool) -> None:
        """Take note of what a prompt really took."""
        if not has_image or not prompt_tokens:
            return
        seen = prompt_tokens - _text_tokens(messages) // 2
        self._image_tokens = max(self._image_tokens, seen) if self._is_told else max(seen, 1)
        self._is_told = True


def _text_tokens(messages: Sequence[Message]) -> int:
    return sum(_TOKENS_PER_MESSAGE + len(one.text.encode(errors="replace")) // BYTES_PER_TOKEN for one in messages)


def _payload(message: Message, image_url: str | None) -> dict[str, Any]:
    if image_url is None:
        return {"role": message.role, "content": message.text}
    parts = [{"type": "image_url", "image_url": {"url": image_url}}, {"type": "text", "text": message.text}]
    return {"role": message.role, "content": parts}
