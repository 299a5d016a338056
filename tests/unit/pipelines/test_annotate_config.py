"""What belongs to a run's identity, what its shards count, and what may travel to a worker."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from annotation_cases import QUESTION
from pydantic import ValidationError

from actors.teacher import TeacherConfig
from cluster.secrets import Secret
from pipelines.annotate import run_annotation
from pipelines.annotate_config import AnnotateConfig
from pipelines.annotator import AnnotationMode
from pipelines.schemas import write_questions
from pipelines.shards import ShardJob
from pipelines.sources.parquet import shard_key
from pipelines.verification import VerifyConfig
from reasoning.errors import ConfigError, InputError, TeacherError

TEACHER = TeacherConfig(base_url="http://127.0.0.1:9/v1", model="m")


def config(tmp_path: Path, **changes: Any) -> AnnotateConfig:
    return AnnotateConfig(**{"input": tmp_path / "in", "output": tmp_path / "out", "teacher": TEACHER, **changes})


def test_how_a_run_is_carried_out_is_not_its_identity(tmp_path: Path) -> None:
    here = config(tmp_path)
    elsewhere = TEACHER.model_copy(update={"base_url": "http://b/v1", "max_in_flight": 1, "timeout_s": 1.0})
    for same in ({"teacher": elsewhere}, {"actors": 4}, {"shard_rows": 1}, {"output": tmp_path / "b"}, {"limit": 3}):
        assert config(tmp_path, **same).identity() == here.identity()
    other_model = TEACHER.model_copy(update={"model": "n"})
    for other in (
        {"teacher": other_model},
        {"mode": "four_prompts"},
        {"max_attempts": 1},
        {"verify": {"resolve": True}},
    ):
        assert config(tmp_path, **other).identity() != here.identity()


def test_unknown_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="max_atempts"):
        config(tmp_path, max_atempts=2)


def test_what_goes_to_a_worker_is_picklable(tmp_path: Path) -> None:
    job = ShardJob(
        questions=str(tmp_path / "in"),
        output=str(tmp_path),
        calls=str(tmp_path / "calls"),
        lease="l",
        config_hash="c",
        teacher=TEACHER,
        api_key=Secret("sk"),
        governor=None,
        mode=AnnotationMode.ONE_PROMPT,
        verify=VerifyConfig(),
        max_attempts=3,
        with_flaws=True,
    )
    assert pickle.loads(pickle.dumps(job)) == job
    assert "sk" not in repr(job).replace("max_", "")


def test_shard_is_known_by_its_rows_not_their_order() -> None:
    assert shard_key(["a", "b"]) == shard_key(["b", "a"])
    assert shard_key(["ab"]) != shard_key(["a", "b"])


def test_bad_input_ends_a_run_before_it_begins(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        run_annotation(config(tmp_path))
    assert not (tmp_path / "out").exists()
    write_questions(tmp_path / "in", [QUESTION])
    keyless = TEACHER.model_copy(update={"api_key_env": "NO_SUCH_VARIABLE"})
    with pytest.raises(ConfigError, match="NO_SUCH_VARIABLE"):
        run_annotation(config(tmp_path, teacher=keyless))
    with pytest.raises(TeacherError, match="no teacher answers at http://127"):
        run_annotation(config(tmp_path))
