"""Calls to keep."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import Any

from actors.request_cache import CallStore, StoredReply, open_call_store


def reply(number: int = 0, **changes: Any) -> StoredReply:
    fields: dict[str, Any] = {
        "text": f"<SUMMARY> call {number} </SUMMARY>",
        "finish_reason": "stop",
        "refusal": None,
        "prompt_tokens": 10 + number,
        "generated_tokens": 5,
        "dollars": 0.25,
        "seconds": 1.5,
    }
    return StoredReply(**{**fields, **changes})


def put_all(where: str | Path, writer: str, numbers: Iterable[int]) -> None:
    """Keep calls ``key-<number>``, all at a time, and close."""

    async def scenario() -> None:
        store = open_call_store(where, writer=writer)
        await asyncio.gather(*(store.put(f"key-{n}", reply(n)) for n in numbers))
        await store.close()

    asyncio.run(scenario())


def get_all(where: str | Path, writer: str, keys: Iterable[str]) -> list[StoredReply | None]:
    async def scenario() -> list[StoredReply | None]:
        store = open_call_store(where, writer=writer)
        try:
            return list(await asyncio.gather(*(store.get(key) for key in keys)))
        finally:
            await store.close()

    return asyncio.run(scenario())


def with_store(store: CallStore, work: Coroutine[Any, Any, None]) -> None:
    """Run ``work`` and close ``store`` whatever comes of it."""

    async def scenario() -> None:
        try:
            await work
        finally:
            await store.close()

    asyncio.run(scenario())
