"""One conversation as a record of each format. Pure: no file is read or written here.

LLaVA and LLaVA-CoT: the released data sets; LLaMA-Factory: ``data/README.md``, form sharegpt; TRL:
"Dataset formats", conversational vision data; OpenAI: chat completion messages. No record has a
system prompt: the models that these formats train take none together with a picture.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pipelines.exports.conversations import Conversation, Exchange

IMAGE_TOKEN = "<image>"
_PLACEHOLDERS = re.compile(r"<(?=(?:image|video|audio)>)")

Record = dict[str, Any]


def plain_text(text: str) -> str:
    """``text`` with what trainers would take for the place of a picture, video or sound spelled apart."""
    return _PLACEHOLDERS.sub("< ", text)


def llava_record(conversation: Conversation, *, image_token: bool) -> Record:
    """``{id, image, conversations: [{from: human | gpt, value}]}``; without picture there is no ``image``.

    The released LLaVA-CoT-100k has no image token; LLaVA's own trainer and most others ask for it.
    """
    record: Record = {"id": conversation.id}
    if conversation.image is not None:
        record["image"] = conversation.image
    return {**record, "conversations": _turns(conversation, with_token=image_token)}


def sharegpt_record(conversation: Conversation) -> Record:
    """LLaMA-Factory's sharegpt form: as many image tokens as there are ``images``, human and gpt in turn."""
    images = [] if conversation.image is None else [conversation.image]
    return {"id": conversation.id, "conversations": _turns(conversation, with_token=True), "images": images}


def sharegpt_info(name: str, file: str) -> Record:
    """The content of ``dataset_info.json`` for one file of ``sharegpt_record``s."""
    return {
        name: {
            "file_name": file,
            "formatting": "sharegpt",
            "columns": {"messages": "conversations", "images": "images"},
            "tags": {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"},
        }
    }


def trl_messages(conversation: Conversation) -> Record:
    """``{id, messages}``; contents are lists of parts, the place of the picture is ``{type: image}``."""
    return {"id": conversation.id, "messages": _part_messages(conversation.exchanges, conversation.image is not None)}


def trl_completions(conversation: Conversation) -> list[Record]:
    """``{id, prompt, completion}`` for each turn, the turns before it in the prompt: each answer is learned once."""
    made = []
    for place, exchange in enumerate(conversation.exchanges):
        messages = _part_messages(conversation.exchanges[: place + 1], conversation.image is not None)
        made.append({"id": exchange.id, "prompt": messages[:-1], "completion": messages[-1:]})
    return made


def openai_record(conversation: Conversation, image_url: str | None) -> Record:
    """``{messages}`` as chat completions take them, the picture as a URL before the first question."""
    messages: list[Record] = []
    for place, exchange in enumerate(conversation.exchanges):
        content: str | list[Record] = exchange.user
        if place == 0 and image_url is not None:
            picture = {"type": "image_url", "image_url": {"url": image_url}}
            content = [picture, {"type": "text", "text": exchange.user}]
        messages.append({"role": "user", "content": content})
        messages.append({"role": "assistant", "content": exchange.assistant})
    return {"messages": messages}


def _turns(conversation: Conversation, *, with_token: bool) -> list[Record]:
    turns = []
    for place, exchange in enumerate(conversation.exchanges):
        token = f"{IMAGE_TOKEN}\n" if with_token and place == 0 and conversation.image is not None else ""
        turns.append({"from": "human", "value": token + plain_text(exchange.user)})
        turns.append({"from": "gpt", "value": plain_text(exchange.assistant)})
    return turns


def _part_messages(exchanges: Sequence[Exchange], has_image: bool) -> list[Record]:
    """Every part has ``type`` and ``text``, so that all have one type in Parquet; an image's text is None."""
    messages = []
    for place, exchange in enumerate(exchanges):
        picture = [{"type": "image", "text": None}] if has_image and place == 0 else []
        messages.append({"role": "user", "content": [*picture, {"type": "text", "text": exchange.user}]})
        messages.append({"role": "assistant", "content": [{"type": "text", "text": exchange.assistant}]})
    return messages
