"""Ask a running service a question, through the openai client as any other program would."""

from __future__ import annotations

import base64
import http.client
import json
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
from pydantic import BaseModel

from reasoning.errors import EngineError, InputError
from reasoning.ledger import Ledger
from reasoning.stages import FourStages
from reasoning.trace import Trace

OPTIONS = (
    "strategy", "samples", "width", "samples_by_stage", "width_by_stage", "subtrees", "selector", "scorer",
    "deadline_s", "token_budget", "stop_on_agreement", "seed", "temperature", "top_p", "max_tokens", "prompt_style",
    "preset", "judge_both_orders", "pairing", "unreadable_verdict", "check_reasoning", "include_stages",
    "include_trace",
)  # fmt: skip
_NATIVE = ("seed", "temperature", "top_p", "max_tokens")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A reply, read."""

    conclusion: str | None
    """None where no usable text was written; ``fault`` says why."""
    fault: str | None
    finish_reason: str
    score: float | None
    score_kind: str
    ledger: Ledger
    notes: tuple[str, ...]
    stages: FourStages | None = None
    """When asked for with ``include_stages``."""
    trace: Trace | None = None
    """When asked for with ``include_trace``."""


def ask(
    base_url: str,
    image: Path | str | bytes | None,
    question: str,
    *,
    model: str = "stagebeam",
    timeout_s: float = 600,
    on_event: Callable[[dict[str, Any]], None] | None = None,
    **options: Any,
) -> Answer:
    """The service's answer to ``question`` about ``image`` (a path, or encoded bytes).

    ``base_url`` may end with ``/v1`` or not; ``options`` are those of ``OPTIONS``, each None or
    left out for the service's own. ``on_event`` hears the stage events while they happen. Raises
    InputError (no such file, unknown option, a request the service refuses) or EngineError (the
    service cannot be reached or failed).
    """
    unknown = sorted(set(options) - set(OPTIONS))
    if unknown:
        raise InputError(f"ask() knows no option {unknown[0]!r}; it takes {', '.join(OPTIONS)}")
    given = {name: value for name, value in options.items() if value is not None}
    arguments: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": _content(image, question)}],
        **{name: given.pop(name) for name in _NATIVE if name in given},
        "extra_body": given,
    }
    with _client(base_url, timeout_s) as client, _translated(base_url):
        if on_event is not None:
            return _streamed(client, arguments, on_event)
        reply = client.chat.completions.create(**arguments)
        choice = reply.choices[0]
        return _answer(choice.message.content, choice.finish_reason, _details(reply))


def is_healthy(base_url: str, timeout_s: float = 5) -> bool:
    """Whether a service answers there."""
    try:
        with urllib.request.urlopen(f"{_root(base_url)}/healthz", timeout=timeout_s) as reply:
            return bool(reply.status == 200)
    except (OSError, http.client.HTTPException):
        return False


def _root(base_url: str) -> str:
    return base_url.rstrip("/").removesuffix("/v1")


def _client(base_url: str, timeout_s: float) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{_root(base_url)}/v1", api_key="unused", timeout=timeout_s, max_retries=2)


def _content(image: Path | str | bytes | None, question: str) -> list[dict[str, Any]]:
    text = {"type": "text", "text": question}
    if image is None:
        return [text]
    data, media_type = (image, sniff_media_type(image)) if isinstance(image, bytes) else _read_file(Path(image))
    url = f"data:{media_type};base64,{base64.b64encode(data).decode()}"
    return [{"type": "image_url", "image_url": {"url": url}}, text]


def _read_file(path: Path) -> tuple[bytes, str]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"Image {str(path)!r} cannot be read: {error.strerror}; give the path of a PNG or JPEG"
        ) from error
    return data, sniff_media_type(data)


def sniff_media_type(data: bytes) -> str:
    """The media type that the first bytes tell; PNG where they tell nothing, the service checks."""
    known = ((b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"), (b"BM", "image/bmp"))
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((media_type for start, media_type in known if data.startswith(start)), "image/png")


def _streamed(client: openai.OpenAI, arguments: dict[str, Any], on_event: Callable[[dict[str, Any]], None]) -> Answer:
    text, finish, details = "", "", dict[str, Any]()
    for chunk in client.chat.completions.create(**arguments, stream=True):
        event = _details(chunk)
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
        if event.get("event") == "done":
            details = event
        elif event:
            on_event(event)
    if not details:
        raise EngineError("The service ended the stream without an answer")
    return _answer(text, finish, details)


def _details(reply: BaseModel) -> dict[str, Any]:
    return dict((reply.model_extra or {}).get("stagebeam") or {})


def _answer(content: str | None, finish_reason: str, details: dict[str, Any]) -> Answer:
    if "ledger" not in details:
        raise EngineError("The reply has no 'stagebeam' field: what answers there is another kind of service")
    stages, trace = details.get("stages"), details.get("trace")
    return Answer(
        conclusion=None if details["fault"] else content,
        fault=details["fault"],
        finish_reason=finish_reason,
        score=details["score"],
        score_kind=details["score_kind"],
        ledger=Ledger.from_dict(details["ledger"]),
        notes=tuple(details["notes"]),
        stages=FourStages(**{name.lower(): text for name, text in stages.items()}) if stages else None,
        trace=Trace.from_json(json.dumps(trace)) if trace else None,
    )


@contextmanager
def _translated(base_url: str) -> Iterator[None]:
    """The openai client's errors as ours, with what the service said."""
    try:
        yield
    except openai.APIConnectionError as error:
        raise EngineError(f"No service answers at {base_url} ({error}); start one with `stagebeam serve`") from error
    except openai.APIStatusError as error:
        kind = InputError if error.status_code < 500 else EngineError
        raise kind(f"The service answered {error.status_code}: {_message(error)}") from error
    except openai.APIError as error:
        raise EngineError(f"The service failed while answering: {_message(error)}") from error


def _message(error: openai.APIError) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    return str(body.get("message", error.message))
