"""Chat requests as the teacher client sends them."""

from __future__ import annotations

import base64
from typing import Any

from reasoning.records import Question


def chat(question: Question, prompt: str, *later: str) -> list[dict[str, Any]]:
    """A request's messages; ``later``: replies and corrections in turn."""
    assert question.image is not None
    assert question.image.data is not None
    url = f"data:image/png;base64,{base64.b64encode(question.image.data).decode()}"
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": prompt}]
    roles = ("assistant", "user")
    return [
        {"role": "user", "content": parts},
        *({"role": roles[i % 2], "content": text} for i, text in enumerate(later)),
    ]
