"""From a chat completion request to a question and a search: what the fields mean.

Beyond a limit ``max_tokens`` and ``n`` are clamped, since clients send large values by habit;
everything else that cannot be is refused with an error that names the field.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from reasoning.errors import ConfigError
from reasoning.protocols import Sampling
from reasoning.records import ImageRef, Question, Turn, question_id
from reasoning.search.config import SearchConfig, Strategy
from reasoning.search.parts import needs_rewarder
from reasoning.search.presets import Preset, preset_fields
from serve.api_errors import ApiError
from serve.chat_body import ChatBody, ImagePart, Message, TextPart, split_ignored
from serve.config import RequestLimits, ServeConfig

_SEARCH_FIELDS = (
    "strategy", "samples", "samples_by_stage", "width_by_stage", "subtrees", "selector", "scorer", "deadline_s",
    "token_budget", "stop_on_agreement", "prompt_style", "judge_both_orders", "pairing", "unreadable_verdict",
    "check_reasoning", "seed",
)  # fmt: skip
"""Fields of a request that are fields of ``SearchConfig``; ``width`` and sampling need a look at others too."""

ReadImage = Callable[[str, RequestLimits], ImageRef]


@dataclass(frozen=True, kw_only=True)
class ChatTask:
    """A request, understood."""

    model: str
    question: Question
    search: SearchConfig
    stream: bool
    include_usage: bool
    include_stages: bool
    include_trace: bool
    notes: tuple[str, ...]
    """What was clamped or ignored, in words."""


def parse_chat_request(raw: object, config: ServeConfig, read_image: ReadImage) -> ChatTask:
    """The task that ``raw``, decoded JSON, asks for; raises ApiError 400, 404, 413 or 422."""
    if not isinstance(raw, dict):
        raise ApiError("The request body must be a JSON object.")
    known, ignored = split_ignored(raw)
    body = _validated(known)
    if body.model != config.served_model_name:
        raise ApiError(
            f"The model {body.model!r} does not exist; this service has {config.served_model_name!r}.",
            404,
            "model",
            "model_not_found",
        )
    search, notes = _search(body, config)
    if ignored:
        notes.append(f"ignored: {', '.join(ignored)}")
    return ChatTask(
        model=body.model,
        question=_question(body.messages, config.limits, read_image),
        search=search,
        stream=body.stream,
        include_usage=body.stream_options is not None and body.stream_options.include_usage,
        include_stages=body.include_stages,
        include_trace=body.include_trace,
        notes=tuple(notes),
    )


def _validated(raw: dict[str, Any]) -> ChatBody:
    try:
        return ChatBody.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise ApiError(f"Unrecognized request field: {where}.", 400, where, "unknown_field") from error
        raise ApiError(f"Field {where!r}: {first['msg']}.", 400, where, "invalid_value") from error


def _search(body: ChatBody, config: ServeConfig) -> tuple[SearchConfig, list[str]]:
    """The service's search with what the request sets, and notes on what was clamped."""
    notes: list[str] = []
    if body.n is not None and body.n != 1:
        notes.append(f"n={body.n} taken as 1: one answer a request, the search picks it")
    for field, asked in (("samples", body.samples or 1), ("samples_by_stage", max(body.samples_by_stage or (1,)))):
        if asked > config.limits.samples:
            raise ApiError(f"Field {field!r} is {asked}; at most {config.limits.samples} here.", 422, field)
    base = config.search if body.preset is None else _with_preset(config.search, body.preset)
    if base.samples > config.limits.samples and body.samples is None:
        raise ApiError(
            f"Field 'preset': {body.preset} draws {base.samples} candidates; at most {config.limits.samples} here, "
            "so give 'samples' too.",
            422,
            "preset",
        )
    given = {name: value for name in _SEARCH_FIELDS if (value := getattr(body, name)) is not None}
    samples = body.samples or base.samples
    width = body.width or min(base.width, samples)
    sampling = Sampling(
        temperature=base.sampling.temperature if body.temperature is None else body.temperature,
        top_p=body.top_p or base.sampling.top_p,
        max_new_tokens=_clamped_tokens(body, config, notes),
    )
    try:
        search = replace(base, **given, width=width, sampling=sampling)
    except ConfigError as error:
        raise ApiError(str(error), 422) from error
    if needs_rewarder(search) and config.reward is None:
        raise ApiError(
            "Field 'scorer': this service has no reward model; take likelihood, rating or round_robin.",
            400,
            "scorer",
            "no_reward_model",
        )
    expected = search.retrace.expected
    if search.strategy is Strategy.SWIRES and expected is not None and expected.scorer is not search.scorer:
        notes.append(f"the cutoff was fitted on scores by {expected.scorer}, not by {search.scorer}")
    if search.sampling.temperature == 0 and search.strategy not in (Strategy.DIRECT, Strategy.GREEDY):
        notes.append("temperature 0 makes all candidates alike; leave it out to search")
    return search, notes


def _with_preset(search: SearchConfig, preset: Preset) -> SearchConfig:
    fields = preset_fields(preset)
    return replace(search, **{**fields, "sampling": replace(search.sampling, **fields["sampling"])})


def _clamped_tokens(body: ChatBody, config: ServeConfig, notes: list[str]) -> int:
    asked = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
    if asked is None:
        return min(config.search.sampling.max_new_tokens, config.limits.max_new_tokens)
    tokens = max(1, min(asked, config.limits.max_new_tokens))
    if tokens != asked:
        notes.append(f"max_tokens={asked} taken as {tokens}")
    return tokens


def _question(messages: Sequence[Message], limits: RequestLimits, read_image: ReadImage) -> Question:
    """The last user message as the question, earlier exchanges as its history.

    A system message is put before the first user's text: the models served here know no system
    turn together with an image.
    """
    turns = _exchanges(messages)
    texts = [user for user, _ in turns]
    if sum(len(user) + len(reply) for user, reply in turns) > limits.question_chars:
        raise ApiError(f"The messages exceed {limits.question_chars:,} characters.", 413, "messages", "too_large")
    if not texts[-1]:
        raise ApiError("The question is empty: the last user message has no text.", 422, "messages", "empty_question")
    image = _only_image(messages, limits, read_image)
    history = tuple(Turn(question=user, answer=reply) for user, reply in turns[:-1])
    identity = "\x1e".join([*(f"{turn.question}\x1d{turn.answer}" for turn in history), texts[-1]])
    return Question(
        id=question_id("serve", image, identity, len(history)),
        question=texts[-1],
        image=image,
        source="serve",
        turn=len(history),
        history=history,
    )


def _exchanges(messages: Sequence[Message]) -> list[tuple[str, str]]:
    """Pairs of user text and reply, in order; the last one's reply is empty."""
    system = [_text(message) for message in messages if message.role in ("system", "developer")]
    spoken = [message for message in messages if message.role in ("user", "assistant")]
    if not spoken or spoken[-1].role != "user":
        raise ApiError("The last message must be the user's.", 422, "messages", "no_question")
    for place, message in enumerate(spoken):
        if message.role != ("user", "assistant")[place % 2]:
            raise ApiError("User and assistant messages must alternate, the user first.", 422, "messages", "bad_order")
    texts = [_text(message) for message in spoken]
    if texts[0]:
        texts[0] = "\n\n".join([*system, texts[0]])
    replies = [*texts[1::2], ""]
    return list(zip(texts[0::2], replies, strict=True))


def _text(message: Message) -> str:
    if isinstance(message.content, str):
        return message.content.strip()
    return "\n".join(part.text for part in message.content if isinstance(part, TextPart)).strip()


def _only_image(messages: Sequence[Message], limits: RequestLimits, read_image: ReadImage) -> ImageRef | None:
    parts = [part for message in messages if not isinstance(message.content, str) for part in message.content]
    urls = [part.image_url.url for part in parts if isinstance(part, ImagePart)]
    if len(urls) > 1:
        raise ApiError(f"A conversation may hold one image, got {len(urls)}.", 422, "messages", "too_many_images")
    return read_image(urls[0], limits) if urls else None
