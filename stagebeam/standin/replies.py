"""How the stand-in's answers leave it: whole, late, in pieces, cut off or never.

ASGI responses; what is in them is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from fastapi import Response
from starlette.types import Receive, Scope, Send

_DRIPS = 20
_LOOK_S = 0.25
"""So often a request that hangs looks whether anybody still waits for it."""


class ConnectionCutError(Exception):
    """Makes the server close the connection; raised on purpose, see ``quiet_about_cuts``."""


class NotedResponse(Response):
    """A reply of which ``note`` is called before its last byte goes out."""

    def __init__(self, body: bytes, note: Callable[[], None]) -> None:
        super().__init__(body, media_type="application/json")
        self._bytes = body
        self._note = note

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._begin(send)
        await _send(send, self._bytes[:-1], more=True)
        self._note()
        await _send(send, self._bytes[-1:], more=False)

    async def _begin(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})


class DrippingResponse(NotedResponse):
    """A reply that takes ``seconds``, a few bytes at a time."""

    def __init__(self, body: bytes, note: Callable[[], None], seconds: float) -> None:
        super().__init__(body, note)
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._begin(send)
        step = len(self._bytes) // _DRIPS + 1
        for start in range(0, len(self._bytes) - 1, step):
            await _send(send, self._bytes[start : min(start + step, len(self._bytes) - 1)], more=True)
            await asyncio.sleep(self._seconds / _DRIPS)
        self._note()
        await _send(send, self._bytes[-1:], more=False)


class CutResponse(NotedResponse):
    """Half of a reply, then the connection is closed."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._begin(send)
        await _send(send, self._bytes[: len(self._bytes) // 2], more=True)
        raise ConnectionCutError


class HangingResponse(Response):
    """Nothing, until the client goes away or the server ends."""

    def __init__(self, is_ending: Callable[[], bool]) -> None:
        super().__init__()
        self._is_ending = is_ending

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        while not self._is_ending():
            try:
                message = await asyncio.wait_for(receive(), _LOOK_S)
            except TimeoutError:
                continue
            if message["type"] == "http.disconnect":
                return
        raise ConnectionCutError


def quiet_about_cuts() -> None:
    """Keep connections that are cut on purpose out of the server's log."""
    logging.getLogger("uvicorn.error").addFilter(
        lambda record: not (record.exc_info and isinstance(record.exc_info[1], ConnectionCutError))
    )


async def _send(send: Send, body: bytes, *, more: bool) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})
