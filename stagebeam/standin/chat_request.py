"""What of a chat request counts for the stand-in."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reasoning.prompts import CORRECTION_LEAD


@dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """The first user message, and how the conversation went on."""

    prompt: str
    image: bytes | None
    attempt: int
    """Corrections that were asked for."""
    letters: int
    """Letters of all messages."""


def read_request(messages: Sequence[Mapping[str, Any]]) -> ChatRequest:
    """The parts of ``messages`` that count; raises ValueError for messages that cannot be read."""
    prompt, image, letters = "", None, 0
    attempt = 0
    for message in messages:
        content = message.get("content")
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else list(content or ())
        text = "\n".join(str(part.get("text", "")) for part in parts if part.get("type") == "text")
        letters += len(text)
        attempt += text.count(CORRECTION_LEAD) if message.get("role") == "user" else 0
        if not prompt and message.get("role") == "user":
            prompt = text
            image = next((_decoded(part) for part in parts if part.get("type") == "image_url"), None)
    if not prompt:
        raise ValueError("no user message with text")
    return ChatRequest(prompt=prompt, image=image, attempt=attempt, letters=letters)


def _decoded(part: Mapping[str, Any]) -> bytes:
    url = str(part.get("image_url", {}).get("url", ""))
    head, comma, body = url.partition(";base64,")
    if not comma or not head.startswith("data:"):
        raise ValueError("image_url must be a base64 data URL: the stand-in fetches nothing")
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error as error:
        raise ValueError(f"image_url is no base64: {error}") from error
