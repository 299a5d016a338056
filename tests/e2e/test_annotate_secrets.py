"""The teacher's key reaches the teacher and nothing else: no log, no file, no page of Ray's dashboard."""

from __future__ import annotations

import http.server
import os
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.teacher import TeacherConfig
from pipelines.annotate_config import AnnotateConfig
from pipelines.schemas import write_questions
from stagebeam.standin.faults import StandInConfig
from stagebeam.standin.process import StandIn, start_standin
from stagebeam.world.dataset import make_questions

KEY = "sk-very-secret-9f3b62c1d7"


class _Guard(http.server.BaseHTTPRequestHandler):
    """Lets requests with the key through to a stand-in; the first of them is turned away, quoting the key."""

    behind = ""
    seen = 0

    def do_GET(self) -> None:
        self._pass_on(None)

    def do_POST(self) -> None:
        self._pass_on(self.rfile.read(int(self.headers["Content-Length"])))

    def _pass_on(self, body: bytes | None) -> None:
        if self.headers.get("Authorization") != f"Bearer {KEY}":
            self._answer(401, b'{"error": {"message": "wrong key"}}')
            return
        if body is not None:
            type(self).seen += 1
            if self.seen <= 2:
                # Careless servers quote what they were sent.
                self._answer(500, f'{{"error": {{"message": "cannot serve {KEY} now"}}}}'.encode())
                return
        request = urllib.request.Request(self.behind + self.path, body, {"Content-Type": "application/json"})
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as reply:
            self._answer(200, reply.read())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def guarded() -> Iterator[tuple[str, StandIn]]:
    with start_standin(StandInConfig.faultless()) as standin:
        handler = type("Guard", (_Guard,), {"behind": standin.base_url.removesuffix("/v1"), "seen": 0})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", standin
        server.shutdown()
        server.server_close()


def holding(folder: Path, text: str) -> list[str]:
    """The files below ``folder`` with ``text`` in their name or content."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in files if text in path.name or text.encode() in path.read_bytes()]


def test_the_key_is_nowhere_after_a_run(tmp_path: Path, guarded: tuple[str, StandIn]) -> None:
    url, standin = guarded
    write_questions(tmp_path / "questions", make_questions(6, seed=4, split="train"))
    config = AnnotateConfig(
        input=str(tmp_path / "questions"),
        output=str(tmp_path / "run"),
        teacher=TeacherConfig(base_url=url, model=standin.model, api_key_env="TEACHER_KEY", backoff_s=0.05),
        shard_rows=3,
    )
    (tmp_path / "ray").mkdir()
    script = Path(__file__).with_name("annotate_with_dashboard.py")
    done = subprocess.run(
        [sys.executable, str(script), config.model_dump_json(), str(tmp_path / "ray")],
        env={**os.environ, "TEACHER_KEY": KEY, "OMP_NUM_THREADS": "1", "TMPDIR": "/tmp"},
        capture_output=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert standin.stats()["calls"] == {"annotation": 6}
    # Enough of the dashboard answered, and the search does find what is there.
    answered = re.search(rb"(\d+) pages answered", done.stdout)
    assert answered is not None
    assert int(answered[1]) >= 8
    assert holding(tmp_path / "ray", "AnnotateShards")
    assert holding(tmp_path / "run", "annotate")
    assert holding(tmp_path, KEY) == []
    assert KEY.encode() not in done.stdout + done.stderr
