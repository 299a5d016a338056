"""A teacher that fails in every way, and a row that kills its worker: no run ends of it, each fault has its code."""

from __future__ import annotations

import base64
import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest

from actors.governor import LimitsConfig
from actors.teacher import TeacherConfig
from cluster.storage import RunFolder
from pipelines.annotate import run_annotation
from pipelines.annotate_config import AnnotateConfig
from pipelines.annotations import ACCEPTED, REJECTED, RUN_KIND, read_annotated
from pipelines.schemas import write_questions
from pipelines.shard_attempts import CAREFUL_AFTER, GIVEN_UP_AFTER, ShardAttempts
from pipelines.sources.parquet import shard_key
from reasoning.stages import FourStages
from stagebeam.standin.faults import StandInConfig
from stagebeam.standin.process import start_standin
from stagebeam.world.dataset import make_questions

pytestmark = pytest.mark.usefixtures("ray_local")


def test_every_fault_shows_under_its_reason_and_ends_no_run(tmp_path: Path) -> None:
    made = make_questions(130, seed=7, split="train")
    write_questions(tmp_path / "questions", made)
    rates = {
        "rate_limited": 0.06,
        "server_error": 0.06,
        "hang": 0.03,
        "cut_body": 0.06,
        "empty_choices": 0.06,
        "invalid_json": 0.06,
        "slow_drip": 0.03,
        "garbage_type": 0.04,
        "wrong_tags": 0.04,
        "refusal": 0.05,
        "missing_tag": 0.05,
        "wrong_answer": 0.05,
        "truncated": 0.05,
        "leak": 0.05,
        "content_filter": 0.05,
    }
    faults = StandInConfig(seed=3, stubborn=0.6, rate_limits=0, server_errors=0, retry_after_s=0, **rates)  # type: ignore[arg-type]
    with start_standin(faults) as standin:
        teacher = TeacherConfig(
            base_url=standin.base_url, model=standin.model, timeout_s=1.0, max_retries=2, backoff_s=0.01
        )
        summary = run_annotation(
            AnnotateConfig(
                input=str(tmp_path / "questions"),
                output=str(tmp_path / "run"),
                teacher=teacher,
                limits=LimitsConfig(stop_error_rate=1.0),
            )
        )
        met = set(standin.stats()["faults"])
    assert met >= set(rates)
    # What another answer is called depends on whether the rule was sure of it.
    wrong = {"wrong_answer", "judged_invalid"} & set(summary.rejected)
    assert wrong
    assert set(summary.rejected) - wrong == {
        "rate_limited",
        "server_error",
        "timeout",
        "garbled_reply",
        "refusal",
        "bad_format",
        "length",
        "leak",
        "content_filter",
    }
    assert summary.accepted > 65
    found = Counter(row["id"] for part in (ACCEPTED, REJECTED) for row in read_annotated(tmp_path / "run", part))
    assert found == Counter(q.id for q in made)


class _Poison(BaseHTTPRequestHandler):
    """Answers rightly, but kills the worker that asks about one question: as a decoder would that dies of a picture."""

    poison = ""
    deaths = 0

    def do_GET(self) -> None:
        self._answer({"object": "list", "data": []})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.poison in json.dumps(asked):
            type(self).deaths += 1
            _kill_annotation_worker()
            return
        stages = FourStages(summary="Look.", caption="Shapes.", reasoning="It says so.", conclusion="yes")
        message = {"role": "assistant", "content": stages.render()}
        self._answer({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": None})

    def _answer(self, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _kill_annotation_worker() -> None:
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "AnnotateShards" in " ".join(child.cmdline()):
                child.kill()


@pytest.fixture
def poisonous() -> Iterator[type[_Poison]]:
    handler = type("Poisonous", (_Poison,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    handler.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    yield handler
    server.shutdown()
    server.server_close()


def test_a_row_that_kills_its_worker_is_given_up_and_the_others_are_done(
    tmp_path: Path, poisonous: type[_Poison]
) -> None:
    by_picture = {q.image: q for q in make_questions(90, seed=7, split="train") if q.answer == "yes"}
    made = list(by_picture.values())[:6]
    assert len(made) == 6
    write_questions(tmp_path / "questions", made)
    picture = made[2].image
    assert picture is not None
    assert picture.data is not None
    poisonous.poison = base64.b64encode(picture.data).decode()
    teacher = TeacherConfig(base_url=poisonous.url, model="m", max_in_flight=2)  # type: ignore[attr-defined]
    config = AnnotateConfig(input=str(tmp_path / "questions"), output=str(tmp_path / "run"), teacher=teacher)
    # Earlier attempts at the shard died of it, and nobody knows of which row.
    with RunFolder(config.output, kind=RUN_KIND, identity=config.identity()) as run:
        for _ in range(CAREFUL_AFTER):
            ShardAttempts(run.store, shard_key([q.id for q in made])).begin()
    summary = run_annotation(config)
    assert (summary.accepted, summary.rejected) == (5, {"row_error": 1})
    (given_up,) = read_annotated(tmp_path / "run", REJECTED)
    assert given_up["id"] == made[2].id
    assert "worker died 2 times" in given_up["detail"]
    assert poisonous.deaths == GIVEN_UP_AFTER
    assert not list((tmp_path / "run" / "attempts").rglob("try-*"))
