"""The teacher client against a real HTTP server that says what each test scripts."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from actors.teacher import CallFault, Message, Teacher, TeacherConfig, TeacherReply, check_teacher
from actors.teacher_faults import retry_after_s
from cluster.secrets import Secret
from reasoning.errors import TeacherError
from reasoning.records import ImageRef

Step = tuple[int, dict[str, str], str]


def completion(text: str | None = "hello", **message: Any) -> str:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text, **message}}
    usage = {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}
    return json.dumps({"id": "1", "object": "chat.completion", "choices": [choice], "usage": usage})


OK: Step = (200, {}, completion())


class Script:
    """The steps of a server, one a request, the last one for ever; and the requests it got."""

    def __init__(self, steps: list[Step]) -> None:
        self.steps = steps
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.url = ""
        self._lock = threading.Lock()

    def next(self) -> Step:
        with self._lock:
            return self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]


@contextmanager
def serving(*steps: Step) -> Iterator[Script]:
    script = Script(list(steps))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            script.bodies.append(json.loads(body))
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            script.headers.append({name.lower(): value for name, value in self.headers.items()})
            status, headers, text = script.next()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    script.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield script
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(script: Script, *, image: ImageRef | None = None, calls: int = 1, **settings: Any) -> Any:
    async def run() -> Any:
        config = TeacherConfig(base_url=script.url, model="m", backoff_s=0.001, **settings)
        teacher = Teacher(config, Secret("sk-hush"))
        try:
            replies = [await teacher.ask([Message(role="user", text="Why?")], image) for _ in range(calls)]
        finally:
            await teacher.close()
        return replies[0] if calls == 1 else replies

    return asyncio.run(run())


def test_reply_with_usage_and_price() -> None:
    with serving(OK) as script:
        reply = ask(script, prompt_dollars_per_million=2.0, generated_dollars_per_million=10.0, temperature=0.3)
    assert isinstance(reply, TeacherReply)
    assert (reply.text, reply.finish_reason, reply.retries) == ("hello", "stop", ())
    assert (reply.usage.prompt_tokens, reply.usage.generated_tokens) == (1000, 500)
    assert reply.usage.dollars == pytest.approx(0.007)
    assert script.bodies[0]["temperature"] == 0.3
    assert script.headers[0]["authorization"] == "Bearer sk-hush"


def test_image_goes_along_as_it_is() -> None:
    with serving(OK) as script:
        ask(script, image=ImageRef(data=b"\x89PNG", media_type="image/png"))
    parts = script.bodies[0]["messages"][0]["content"]
    assert parts[0] == {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}}
    assert parts[1] == {"type": "text", "text": "Why?"}


def test_image_behind_http_is_named_not_fetched() -> None:
    with serving(OK) as script:
        ask(script, image=ImageRef(uri="https://example.org/a.png"))
    assert script.bodies[0]["messages"][0]["content"][0]["image_url"]["url"] == "https://example.org/a.png"


def test_what_passes_is_retried_and_counted() -> None:
    busy: Step = (429, {"Retry-After": "0"}, "{}")
    page: Step = (200, {"Content-Type": "text/html"}, "<html>gateway</html>")
    broken: Step = (200, {}, "{not json")
    hollow: Step = (200, {}, "{}")
    with serving(busy, (503, {}, "down"), page, broken, hollow, OK) as script:
        reply = ask(script)
    assert isinstance(reply, TeacherReply)
    assert reply.retries == ("429", "503", "garbled", "garbled", "garbled")


def test_timeout_is_retried() -> None:
    release = threading.Event()

    class Slow(Script):
        def next(self) -> Step:
            first = len(self.bodies) == 1
            if first:
                release.wait(10)
            return OK

    with serving(OK) as script:
        script.__class__ = Slow
        try:
            reply = ask(script, timeout_s=2.0)
        finally:
            release.set()
    assert isinstance(reply, TeacherReply)
    assert reply.retries == ("timeout",)


def test_retries_run_out_into_a_value() -> None:
    with serving((500, {}, json.dumps({"error": {"message": "boom"}}))) as script:
        fault = ask(script, max_retries=2)
    assert isinstance(fault, CallFault)
    assert fault.retries == ("500", "500")
    assert "500" in fault.message


def test_refused_request_is_not_repeated_and_ends_nothing() -> None:
    with serving((400, {}, json.dumps({"error": {"message": "image too large"}})), OK) as script:
        fault, reply = ask(script, calls=2)
    assert isinstance(fault, CallFault)
    assert "image too large" in fault.message
    assert fault.retries == ()
    assert isinstance(reply, TeacherReply)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_refused_key_or_unknown_model_ends_the_run(status: int) -> None:
    body = json.dumps({"error": {"message": "no such thing: sk-hush"}})
    with serving((status, {}, body)) as script, pytest.raises(TeacherError) as caught:
        ask(script)
    assert "sk-hush" not in str(caught.value)


def test_spent_quota_ends_the_run() -> None:
    body = json.dumps({"error": {"message": "quota", "code": "insufficient_quota"}})
    with serving((429, {}, body)) as script, pytest.raises(TeacherError, match="quota"):
        ask(script)


def test_lost_server_ends_the_run_after_some_calls() -> None:
    with serving((503, {}, "")) as script, pytest.raises(TeacherError, match="3 calls in a row"):
        ask(script, max_retries=1, give_up_after=3, calls=5)


def test_too_long_a_pause_is_not_waited_for() -> None:
    with serving((429, {"Retry-After": "86400"}, "{}")) as script:
        fault = ask(script)
    assert isinstance(fault, CallFault)
    assert "86400" in fault.message


def test_refusal_field_is_kept() -> None:
    with serving((200, {}, completion(None, refusal="No."))) as script:
        reply = ask(script)
    assert (reply.text, reply.refusal) == ("", "No.")


def test_no_more_calls_are_open_than_allowed() -> None:
    open_now, most, gate = 0, 0, threading.Lock()
    both = threading.Barrier(2)

    class Counting(Script):
        def next(self) -> Step:
            nonlocal open_now, most
            with gate:
                open_now += 1
                most = max(most, open_now)
            both.wait(10)
            with gate:
                open_now -= 1
            return OK

    async def run(url: str) -> None:
        teacher = Teacher(TeacherConfig(base_url=url, model="m", max_in_flight=2), None)
        await asyncio.gather(*(teacher.ask([Message(role="user", text=f"{i}?")]) for i in range(6)))
        await teacher.close()

    with serving(OK) as script:
        script.__class__ = Counting
        asyncio.run(run(script.url))
    assert most == 2


def test_check_passes_any_server_that_answers() -> None:
    with serving((404, {}, "")) as script:
        check_teacher(TeacherConfig(base_url=script.url, model="m"), None)


def test_check_names_a_refused_key_and_a_wrong_address() -> None:
    with serving((401, {}, "{}")) as script, pytest.raises(TeacherError, match="refused the key"):
        check_teacher(TeacherConfig(base_url=script.url, model="m"), Secret("sk-hush"))
    with pytest.raises(TeacherError, match="no teacher answers at http://127"):
        check_teacher(TeacherConfig(base_url=script.url, model="m"), None)


def test_retry_after_in_every_form() -> None:
    now = 1_445_412_480.0 - 30  # Wed, 21 Oct 2015 07:28:00 GMT, less half a minute
    assert retry_after_s({"retry-after": "2"}, now) == 2
    assert retry_after_s({"retry-after-ms": "1500", "retry-after": "9"}, now) == 1.5
    assert retry_after_s({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, now) == pytest.approx(30)
    assert retry_after_s({"retry-after": "Wed, 21 Oct 2015 07:27:00 GMT"}, now) == 0
    assert retry_after_s({"retry-after": "soon"}, now) is None
    assert retry_after_s({}, now) is None
