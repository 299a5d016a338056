"""Calls that are kept, shared, paced and cut short; a server whose every byte the test scripts."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from PIL import Image

from actors.call_records import StoredReply
from actors.governing.limits import LimitsConfig
from actors.governing.pace import LocalPace
from actors.governing.terms import CallCost, CallResult, Pace, Paid, Permit
from actors.prices import Prices
from actors.teacher import CallFault, Message, Teacher, TeacherConfig, TeacherReply, read_key
from actors.teacher_calls import CallEstimate, call_key, request_body
from cluster.secrets import Secret
from reasoning.errors import BudgetReachedError, ConfigError, ImageError, TeacherError
from reasoning.records import ImageRef, RejectReason

WHY = [Message(role="user", text="Why?")]


def completion(text: str = "hello", choices: bool = True) -> bytes:
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 1000, "completion_tokens": 500}
    body: dict[str, Any] = {"usage": usage, "choices": []}
    if choices:
        body["choices"] = [{"finish_reason": "stop", "message": message}]
    return json.dumps(body).encode()


def response(body: bytes, status: str = "200 OK", *headers: str, length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Server:
    """Each request is given to ``answer`` with its number; what that returns is sent, None hangs up."""

    def __init__(self, answer: Callable[[int, asyncio.StreamWriter], Awaitable[bytes | None]]) -> None:
        self._answer = answer
        self.heads: list[str] = []
        self.bodies: list[bytes] = []
        self.url = ""
        self.arrived = asyncio.Event()
        self._open: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next(line for line in head.split("\r\n") if line.lower().startswith("content-length"))
                self.bodies.append(await reader.readexactly(int(length.partition(":")[2])))
                self.heads.append(head)
                self.arrived.set()
                said = await self._answer(len(self.heads) - 1, writer)
                if said is None:
                    return
                writer.write(said)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self._open.discard(task)
            writer.close()


def saying(*steps: bytes | None) -> Server:
    """One step a request, the last one for ever."""

    async def answer(number: int, writer: asyncio.StreamWriter) -> bytes | None:
        return steps[min(number, len(steps) - 1)]

    return Server(answer)


class Store:
    """A request cache in memory that notes the order of things."""

    def __init__(self) -> None:
        self.kept: dict[str, StoredReply] = {}

    async def get(self, key: str) -> StoredReply | None:
        return self.kept.get(key)

    async def put(self, key: str, reply: StoredReply) -> None:
        await asyncio.sleep(0)
        self.kept[key] = reply

    async def close(self) -> None:
        return


def config(server: Server, **settings: Any) -> TeacherConfig:
    prices = {"prompt_dollars_per_million": 2.0, "generated_dollars_per_million": 10.0}
    return TeacherConfig(base_url=server.url, model="m", **{"backoff_s": 0.001, **prices, **settings})


async def ask_once(server: Server, *, pace: Pace | None = None, **settings: Any) -> TeacherReply | CallFault:
    async with server:
        teacher = Teacher(config(server, **settings), Secret("sk-hush"), pace=pace)
        try:
            return await teacher.ask(WHY)
        finally:
            await teacher.close()


def test_kept_reply_is_neither_asked_nor_paid_again() -> None:
    async def run() -> None:
        store = Store()
        async with saying(response(completion())) as server:
            first = Teacher(config(server), None, calls=store)
            asked = await first.ask(WHY)
            await first.close()
            second = Teacher(config(server), None, calls=store)
            again, other = await second.ask(WHY), await second.ask(WHY, sample=1)
            await second.close()
        assert isinstance(asked, TeacherReply)
        assert isinstance(again, TeacherReply)
        assert isinstance(other, TeacherReply)
        assert not asked.is_cached
        assert again.is_cached
        assert (again.text, again.usage.dollars, again.usage.prompt_tokens) == ("hello", 0.0, 0)
        assert again.first_usage == asked.usage
        assert again.seconds == asked.seconds > 0
        assert not other.is_cached
        assert len(server.bodies) == 2

    asyncio.run(run())


def test_reply_is_kept_before_it_is_given() -> None:
    async def run() -> None:
        gate, store = asyncio.Event(), Store()
        inner = store.put

        async def put(key: str, reply: StoredReply) -> None:
            await gate.wait()
            await inner(key, reply)

        store.put = put  # type: ignore[method-assign]
        async with saying(response(completion())) as server:
            teacher = Teacher(config(server), None, calls=store)
            asking = asyncio.create_task(teacher.ask(WHY))
            await server.arrived.wait()
            done, _ = await asyncio.wait([asking], timeout=0.05)
            assert not done
            gate.set()
            await asking
            await teacher.close()
        assert len(store.kept) == 1

    asyncio.run(run())


def test_equal_calls_at_once_are_one_call() -> None:
    async def run() -> None:
        async with saying(response(completion())) as server:
            teacher = Teacher(config(server), None, calls=Store())
            replies = await asyncio.gather(*(teacher.ask(WHY) for _ in range(5)), teacher.ask(WHY, sample=1))
            await teacher.close()
        assert len(server.bodies) == 2
        assert [isinstance(one, TeacherReply) and one.is_cached for one in replies] == [False, *[True] * 4, False]
        assert sum(one.usage.dollars for one in replies if isinstance(one, TeacherReply)) == pytest.approx(0.014)

    asyncio.run(run())


def test_of_equal_calls_a_cancelled_one_leaves_the_others() -> None:
    async def run() -> None:
        gate = asyncio.Event()

        async def answer(number: int, writer: asyncio.StreamWriter) -> bytes:
            if number == 0:
                await gate.wait()
            return response(completion())

        async with Server(answer) as server:
            teacher = Teacher(config(server), None)
            first, second = (asyncio.create_task(teacher.ask(WHY)) for _ in range(2))
            await server.arrived.wait()
            first.cancel()
            reply = await second
            assert isinstance(reply, TeacherReply)
            assert not reply.is_cached
            await teacher.close()

    asyncio.run(run())


def test_key_is_sent_along_and_does_not_name_the_secret_or_the_server() -> None:
    async def run() -> None:
        async with saying(response(completion())) as server:
            teacher = Teacher(config(server), Secret("sk-hush"))
            await teacher.ask(WHY, sample=3)
            await teacher.close()
        headers = dict(line.lower().split(": ", 1) for line in server.heads[0].split("\r\n")[1:] if line)
        assert headers["x-client-request-id"] == call_key(server.bodies[0], 3)
        assert headers["authorization"] == "bearer sk-hush"

    asyncio.run(run())


def test_key_of_equal_content_is_equal_and_of_any_other_is_not() -> None:
    def key(text: str = "a", temperature: float | None = 0.5, sample: int = 0, model: str = "m") -> str:
        body = request_body([Message(role="user", text=text)], None, model=model, max_tokens=9, temperature=temperature)
        return call_key(body, sample)

    assert key() == key()
    assert len({key(), key("b"), key(temperature=None), key(sample=1), key(model="n")}) == 5
    raw = {"temperature": 0.5, "max_tokens": 9, "model": "m", "messages": [{"role": "user", "content": "a"}]}
    assert call_key(raw) == key()


@pytest.mark.parametrize(
    ("step", "reason", "cause"),
    [
        (response(b"{}", "429 Too Many Requests", "Retry-After: 0"), RejectReason.RATE_LIMITED, "429"),
        (response(b"down", "502 Bad Gateway"), RejectReason.SERVER_ERROR, "502"),
        (None, RejectReason.CONNECTION_LOST, "connection"),
        (response(b"{not json"), RejectReason.GARBLED_REPLY, "garbled"),
        (response(completion(choices=False)), RejectReason.GARBLED_REPLY, "garbled"),
        (response(b"[1, 2]"), RejectReason.GARBLED_REPLY, "garbled"),
        (b"no http at all\r\n\r\n", RejectReason.GARBLED_REPLY, "garbled"),
    ],
)
def test_each_fault_has_its_reason(step: bytes | None, reason: RejectReason, cause: str) -> None:
    fault = asyncio.run(ask_once(saying(step), max_retries=1))
    assert isinstance(fault, CallFault)
    assert (fault.reason, fault.retries) == (reason, (cause,))


def test_body_cut_short_is_garbled() -> None:
    async def answer(number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(response(completion()[:40], length=4000))
        await writer.drain()

    fault = asyncio.run(ask_once(Server(answer), max_retries=0))
    assert isinstance(fault, CallFault)
    assert fault.reason is RejectReason.GARBLED_REPLY
    assert "ended early" in fault.message


def test_request_that_only_this_row_has_is_a_teacher_error() -> None:
    fault = asyncio.run(ask_once(saying(response(b"{}", "400 Bad Request"))))
    assert isinstance(fault, CallFault)
    assert fault.reason is RejectReason.TEACHER_ERROR


def test_nobody_at_the_address_is_a_lost_connection_that_costs_nothing() -> None:
    class Noting:
        result: CallResult | None = None

        async def permit(self, cost: CallCost) -> Permit:
            return Permit(number=1, cost=cost, started=0.0)

        def settle(self, permit: Permit, result: CallResult) -> None:
            self.result = result

    async def run() -> CallResult | None:
        pace, server = Noting(), saying(None)
        async with server:
            pass
        teacher = Teacher(config(server, max_retries=0), None, pace=pace)
        fault = await teacher.ask(WHY)
        assert isinstance(fault, CallFault)
        assert fault.reason is RejectReason.CONNECTION_LOST
        await teacher.close()
        return pace.result

    result = asyncio.run(run())
    assert result is not None
    assert result.cost == CallCost()


def test_slow_drip_ends_at_the_deadline_and_may_have_cost_the_most() -> None:
    async def drip(number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(response(b"", length=100_000))
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.02)

    async def run() -> tuple[TeacherReply | CallFault, float]:
        pace = LocalPace(LimitsConfig())
        fault = await ask_once(Server(drip), pace=pace, timeout_s=0.2, max_retries=0)
        await pace.close()
        return fault, pace.governor_summary().spent_dollars

    fault, spent = asyncio.run(run())
    assert isinstance(fault, CallFault)
    assert fault.reason is RejectReason.TIMEOUT
    assert "0.2 s" in fault.message
    assert spent >= 2048 * 10 / 1e6


def test_budget_is_settled_to_what_calls_took_and_ends_the_run() -> None:
    async def run() -> tuple[int, float]:
        answered = 0
        async with saying(response(completion())) as server, LocalPace(LimitsConfig(budget_dollars=0.1)) as pace:
            teacher = Teacher(config(server, max_tokens=600), None, pace=pace)

            async def ask_on() -> None:
                nonlocal answered
                for number in range(100):
                    await teacher.ask([Message(role="user", text=f"{number} {'x' * 3000}")])
                    answered += 1

            with pytest.raises(BudgetReachedError):
                await ask_on()
            await teacher.close()
        return answered, pace.governor_summary().spent_dollars

    answered, spent = asyncio.run(run())
    # 0.007 dollars each, and 0.008 at the most: a fifteenth might have been too much.
    assert answered == 14
    assert spent == pytest.approx(answered * 0.007)


def test_kept_reply_needs_no_leave() -> None:
    async def run() -> None:
        store = Store()
        async with saying(response(completion())) as server:
            first = Teacher(config(server), None, calls=store)
            await first.ask(WHY)
            await first.close()
            spent = LocalPace(LimitsConfig(budget_dollars=0.001), paid=Paid(dollars=0.001))
            second = Teacher(config(server), None, calls=store, pace=spent)
            reply = await second.ask(WHY)
            assert isinstance(reply, TeacherReply)
            assert reply.is_cached
            await second.close()
            await spent.close()

    asyncio.run(run())


def test_too_long_pauses_in_a_row_end_the_run() -> None:
    async def run() -> None:
        async with saying(response(b"{}", "429 Busy", "Retry-After: 9999")) as server:
            teacher = Teacher(config(server, give_up_after=2), None)
            assert isinstance(await teacher.ask(WHY), CallFault)
            with pytest.raises(TeacherError, match="asks to wait 9999 s"):
                await teacher.ask(WHY)
            await teacher.close()

    asyncio.run(run())


def test_image_is_prepared_by_policy_and_then_sent_as_it_is() -> None:
    picture = io.BytesIO()
    Image.effect_noise((64, 48), 80).convert("RGB").save(picture, "BMP")

    async def run() -> None:
        async with saying(response(completion())) as server:
            teacher = Teacher(config(server, image={"longest_side": 32, "format": "jpeg"}), None)
            image = teacher.prepare(ImageRef(data=picture.getvalue()))
            await teacher.ask(WHY, image)
            await teacher.close()
        url = json.loads(server.bodies[0])["messages"][0]["content"][0]["image_url"]["url"]
        assert url == f"data:image/jpeg;base64,{base64.b64encode(image.data or b'').decode()}"
        with Image.open(io.BytesIO(image.data or b"")) as sent:
            assert (sent.format, sent.size) == ("JPEG", (32, 24))
        remote = ImageRef(uri="https://example.org/a.png")
        assert teacher.prepare(remote) is remote
        with pytest.raises(ImageError, match="no image at /no/such"):
            await teacher.ask(WHY, ImageRef(uri="/no/such/file.png"))

    asyncio.run(run())


def test_estimate_of_an_image_is_learned_from_what_images_took() -> None:
    prices = Prices(prompt=1.0, generated=1.0, source="", is_known=True)
    estimate = CallEstimate(prices, max_tokens=100)
    before = estimate.of(WHY, has_image=True)
    estimate.learn(WHY, 40_000, has_image=True)
    after = estimate.of(WHY, has_image=True)
    assert before.tokens < 40_000 <= after.tokens - 100
    assert estimate.of(WHY, has_image=False).tokens < before.tokens


def test_key_comes_from_a_file_or_the_environment_and_not_both(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key"
    file.write_text("sk-file\n")
    base: dict[str, Any] = {"base_url": "http://127.0.0.1:1/v1", "model": "m"}
    assert read_key(TeacherConfig(**base, api_key_file=str(file))) == Secret("sk-file")
    monkeypatch.setenv("SOME_KEY", "sk-env")
    assert read_key(TeacherConfig(**base, api_key_env="SOME_KEY")) == Secret("sk-env")
    assert read_key(TeacherConfig(**base)) is None
    with pytest.raises(ConfigError, match=r"teacher\.api_key_file"):
        read_key(TeacherConfig(**base, api_key_file=str(tmp_path / "none")))
    with pytest.raises(ValueError, match="give one"):
        TeacherConfig(**base, api_key_env="SOME_KEY", api_key_file=str(file))
