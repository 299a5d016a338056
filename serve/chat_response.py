"""From a search result to OpenAI's chat completion, whole or in chunks. Pure functions.

The message is the conclusion and nothing else; what stands behind it is in ``stagebeam``, a field
beside OpenAI's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from reasoning.counts import count_verdicts
from reasoning.ledger import Ledger
from reasoning.protocols import StopReason
from reasoning.search.result import SearchResult
from serve.api_errors import ApiError, error_body
from serve.chat_request import ChatTask
from serve.events import StageEvent

SSE_DONE = "data: [DONE]\n\n"


@dataclass(frozen=True, kw_only=True)
class ReplyMarks:
    """What all pieces of one reply carry."""

    reply_id: str
    created: int
    """Seconds since 1970."""


def completion(task: ChatTask, result: SearchResult, marks: ReplyMarks) -> dict[str, Any]:
    """The reply as one object.

    Where no usable text was written the content is empty and ``stagebeam.fault`` says why.
    """
    message = {"role": "assistant", "content": result.conclusion or "", "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason(result), "logprobs": None}
    return {
        **_head(task, marks, "chat.completion"),
        "choices": [choice],
        "usage": usage(result.ledger),
        "stagebeam": details(task, result),
    }


def finish_reason(result: SearchResult) -> str:
    """``length`` where the token limit is why there is no answer, else ``stop``."""
    is_cut = result.fault is not None and result.stop_reasons[-1:] == (StopReason.LENGTH,)
    return "length" if is_cut else "stop"


def usage(ledger: Ledger) -> dict[str, Any]:
    """OpenAI's count: all candidates' tokens. What judging took is in the ledger."""
    return {
        "prompt_tokens": ledger.prompt_tokens,
        "completion_tokens": ledger.generated_tokens,
        "total_tokens": ledger.prompt_tokens + ledger.generated_tokens,
        "prompt_tokens_details": {"cached_tokens": ledger.cached_tokens},
    }


def details(task: ChatTask, result: SearchResult) -> dict[str, Any]:
    """The ``stagebeam`` object: always outcome and cost, stages and trace when asked for."""
    values = result.to_dict()
    shown = {
        name: values[name]
        for name in ("question_id", "strategy", "score", "score_kind", "stop_reasons", "fault", "ended_by", "ledger")
    }
    shown["counts"] = count_verdicts(result.trace).as_dict()
    shown["notes"] = [*task.notes, *result.trace.notes]
    if task.include_stages:
        shown["stages"] = values["stages"]
        shown["text"] = values["text"]
    if task.include_trace:
        shown["trace"] = values["trace"]
    return shown


def opening_chunk(task: ChatTask, marks: ReplyMarks) -> str:
    """The first piece of a stream."""
    return _chunk(task, marks, delta={"role": "assistant", "content": ""})


def event_chunk(task: ChatTask, event: StageEvent, marks: ReplyMarks) -> str:
    """A stage event: no text for clients that do not know it, ``stagebeam`` for those that do."""
    return _chunk(task, marks, delta={}, stagebeam=event.as_dict())


def closing_chunks(task: ChatTask, result: SearchResult, marks: ReplyMarks) -> Iterator[str]:
    """The conclusion, the finish with its details, the usage when asked for, the end mark."""
    if result.conclusion:
        yield _chunk(task, marks, delta={"content": result.conclusion})
    done = {"event": "done", **details(task, result)}
    yield _chunk(task, marks, delta={}, finish=finish_reason(result), stagebeam=done)
    if task.include_usage:
        head = _head(task, marks, "chat.completion.chunk")
        yield sse({**head, "choices": [], "usage": usage(result.ledger)})
    yield SSE_DONE


def error_chunks(error: ApiError) -> Iterator[str]:
    """An error after the stream has begun."""
    yield sse(error_body(error))
    yield SSE_DONE


def sse(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False, separators=(',', ':'))}\n\n"


def model_list(name: str, created: int) -> dict[str, Any]:
    model = {"id": name, "object": "model", "created": created, "owned_by": "stagebeam"}
    return {"object": "list", "data": [model]}


def _head(task: ChatTask, marks: ReplyMarks, kind: str) -> dict[str, Any]:
    return {"id": marks.reply_id, "object": kind, "created": marks.created, "model": task.model}


def _chunk(
    task: ChatTask,
    marks: ReplyMarks,
    *,
    delta: dict[str, Any],
    finish: str | None = None,
    stagebeam: dict[str, Any] | None = None,
) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
    value = {**_head(task, marks, "chat.completion.chunk"), "choices": [choice]}
    return sse(value if stagebeam is None else {**value, "stagebeam": stagebeam})
