"""From a request to the body of a chat completion call. Pure functions.

Text from outside cannot write control tokens: those of the usual chat formats are spelled apart,
since the endpoint's tokenizer would take them at their word.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from actors.engines.config import Continuing, OpenAIEngineConfig
from actors.engines.openai_abilities import Abilities
from reasoning.prompts import choice_prompt, continuation_prompt
from reasoning.protocols import ChoiceRequest, ContinuationRequest
from reasoning.records import Turn

_CONTROL = re.compile(
    r"<(?=\|[^|<>\s]{1,64}\|>|(?:/?s|pad|unk|bos|eos|image|image_soft_token|start_of_turn|end_of_turn|start_of_image)>)"
)
_WHOLE_TURN = {"continue_final_message": True, "add_generation_prompt": False}
# vLLM's and SGLang's names for the same wish: the stop text stays in the reply.
_KEEP_STOP = {"include_stop_str_in_output": True, "no_stop_trim": True}


def continuation_body(
    request: ContinuationRequest,
    seeds: Sequence[int],
    image_url: str | None,
    config: OpenAIEngineConfig,
    abilities: Abilities,
) -> dict[str, Any]:
    """One call for ``seeds`` of the request; more than one seed is sent as the first of them and ``n``."""
    way = abilities.continuation
    prompt = request.prompt
    if way is Continuing.INSTRUCT:
        is_stage = request.stage is not None and request.stage.close_tag in request.stops
        prompt = continuation_prompt(prompt, request.prefix, request.stage if is_stage else None)
    body = _opening(prompt, request.prefix, request.history, image_url, config, way)
    body |= {
        "temperature": request.sampling.temperature,
        "top_p": request.sampling.top_p,
        abilities.token_field: request.sampling.max_new_tokens,
    }
    if stops := sent_stops(request.stops, abilities):
        body["stop"] = list(stops)
        if way is Continuing.CONTINUE:
            body["extra_body"] |= _KEEP_STOP
    if request.sampling.temperature > 0 and abilities.seed:
        body["seed"] = seeds[0]
    if (count := min(len(seeds), abilities.choices)) > 1:
        body["n"] = count
    if abilities.logprobs:
        body["logprobs"] = True
    return body


def choice_body(
    request: ChoiceRequest, image_url: str | None, config: OpenAIEngineConfig, abilities: Abilities
) -> dict[str, Any]:
    """The call whose first word, or its alternatives, is the choice."""
    way = abilities.continuation
    prompt = request.prompt
    if way is Continuing.INSTRUCT:
        prompt = choice_prompt(prompt, request.prefix, request.options)
    body = _opening(prompt, request.prefix, request.history, image_url, config, way)
    # Some tokenizers write the space before a word as a token of its own; and a reply may begin with a mark.
    body |= {"temperature": 0.0, abilities.token_field: 2 if way is Continuing.CONTINUE else 4}
    if abilities.logprobs:
        body |= {"logprobs": True, "top_logprobs": abilities.top_logprobs}
    return body


def sent_stops(stops: Sequence[str], abilities: Abilities) -> Sequence[str]:
    """Which stop texts the endpoint is told; the others are cut off here.

    Where it does not name the one that it met, several are worth nothing to it: the reply would be cut
    without a word of how.
    """
    names = abilities.names_stops or abilities.continuation is Continuing.CONTINUE
    if len(stops) > 1 and not names:
        return ()
    return stops[: abilities.most_stops]


def spelled_apart(text: str) -> str:
    """``text`` with control tokens of the usual chat formats broken up (``<|eot_id|>`` becomes ``< |eot_id|>``)."""
    return _CONTROL.sub("< ", text)


def _opening(
    prompt: str,
    prefix: str,
    history: Sequence[Turn],
    image_url: str | None,
    config: OpenAIEngineConfig,
    way: Continuing | None,
) -> dict[str, Any]:
    """Model, messages and extra fields."""
    messages: list[dict[str, Any]] = []
    for turn in history:
        messages.append({"role": "user", "content": spelled_apart(turn.question)})
        messages.append({"role": "assistant", "content": spelled_apart(turn.answer)})
    messages.append({"role": "user", "content": spelled_apart(prompt)})
    if image_url is not None:
        first = messages[0]
        image = {"type": "image_url", "image_url": {"url": image_url}}
        first["content"] = [image, {"type": "text", "text": first["content"]}]
    extra: dict[str, Any] = dict(config.extra_body)
    if prefix and way in (Continuing.CONTINUE, Continuing.PREFILL):
        # Some endpoints refuse an assistant's message that ends in white space.
        text = prefix if way is Continuing.CONTINUE else prefix.rstrip()
        messages.append({"role": "assistant", "content": spelled_apart(text)})
        if way is Continuing.CONTINUE:
            extra |= _WHOLE_TURN
    return {"model": config.model, "messages": messages, "extra_body": extra}
