"""What is sent to a teacher, and what a call of it may come to.

A call's key is a hash of the very bytes that are sent: equal keys, equal calls.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from actors.governing.terms import CallCost
from actors.images import ImagePolicy, encode_image, image_bytes
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


def image_url(image: ImageRef) -> str:
    """What stands for the image in a request: its address if it is remote, else its bytes as they are."""
    if is_remote(image):
        return image.uri or ""
    return f"data:{image.media_type};base64,{base64.b64encode(image_bytes(image)).decode('ascii')}"


def prepared(image: ImageRef, policy: ImagePolicy) -> ImageRef:
    """The image as ``policy`` wants it sent; a remote one as it is. Blocking; raises ImageError."""
    if is_remote(image):
        return image
    sent = encode_image(image, policy)
    return ImageRef(data=sent.data, media_type=sent.media_type)


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
