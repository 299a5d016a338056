"""An annotation run whose questions and output lie in an object store: a real S3 server, started here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from actors.teacher import TeacherConfig
from cluster.stores import open_store
from pipelines.annotate import run_annotation
from pipelines.annotate_config import AnnotateConfig
from pipelines.annotations import ACCEPTED, REJECTED, read_annotated
from pipelines.schemas import write_questions
from reasoning.errors import OutputMismatchError
from stagebeam.standin.faults import StandInConfig
from stagebeam.standin.process import start_standin
from stagebeam.world.dataset import make_questions

pytestmark = pytest.mark.usefixtures("ray_local")


@pytest.fixture
def bucket() -> Iterator[str]:
    """The options of a URI into an empty bucket; its key is in the environment of this process and of Ray's."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        region_name="us-east-1",
    )
    client.create_bucket(Bucket="vqa")
    yield f"endpoint_override={host}:{port}&scheme=http&region=us-east-1"
    server.stop()


def test_a_run_in_an_object_store(tmp_path: Path, bucket: str) -> None:
    questions = make_questions(24, seed=3, split="train")
    uploads = open_store(f"s3://vqa/questions?{bucket}")
    for file in write_questions(tmp_path / "questions", questions, rows_per_file=10):
        uploads.write(file.name, file.read_bytes())
    output = f"s3://vqa/run?{bucket}"
    with start_standin(StandInConfig.faultless()) as standin:
        config = AnnotateConfig(
            input=f"s3://vqa/questions?{bucket}",
            output=output,
            teacher=TeacherConfig(base_url=standin.base_url, model=standin.model),
            shard_rows=8,
        )
        first = run_annotation(config.model_copy(update={"limit": 10}))
        assert (first.rows, first.accepted) == (10, 10)
        # A commit that never came: its calls are in the cache, so it costs nothing.
        store = open_store(output)
        store.remove(store.names("commits")[0])
        summary = run_annotation(config)
        assert standin.stats()["calls"] == {"annotation": 24}
        with pytest.raises(OutputMismatchError, match="max_attempts"):
            run_annotation(config.model_copy(update={"max_attempts": 1}))
    assert (summary.rows, summary.accepted) == (24, 24)
    found = [row["id"] for part in (ACCEPTED, REJECTED) for row in read_annotated(output, part, columns=["id"])]
    assert Counter(found) == Counter(q.id for q in questions)
