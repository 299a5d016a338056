"""Data sets in their official layouts go through annotation: every usable row accepted, every other with its reason."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from actors.teacher import TeacherConfig
from pipelines.annotate import run_annotation
from pipelines.annotate_config import AnnotateConfig
from pipelines.annotations import ACCEPTED, REJECTED, read_annotated
from pipelines.schemas import question_from_row
from pipelines.sources.base import SourceSpec
from reasoning.grading import is_correct
from stagebeam.standin.faults import StandInConfig
from stagebeam.standin.process import start_standin
from tests.mini_trees import LAYOUTS, TEN

pytestmark = pytest.mark.usefixtures("ray_local")


def test_every_layout_is_annotated(tmp_path: Path) -> None:
    trees = []
    for name, make in LAYOUTS.items():
        (tmp_path / name).mkdir()
        trees.append(make(tmp_path / name))
    assert set(TEN) <= {tree.name for tree in trees}
    with start_standin(StandInConfig.faultless()) as standin:
        config = AnnotateConfig(
            sources=tuple(
                SourceSpec(path=tree.root, name=tree.name, image_root=tree.image_root, label=tree.name)
                for tree in trees
            ),
            output=str(tmp_path / "run"),
            teacher=TeacherConfig(base_url=standin.base_url, model=standin.model, backoff_s=0.05),
            shard_rows=16,
        )
        summary = run_annotation(config)
    accepted = list(read_annotated(tmp_path / "run", ACCEPTED))
    rejected = list(read_annotated(tmp_path / "run", REJECTED))
    assert summary.rows == sum(tree.questions + tree.faults for tree in trees)
    kept = Counter(row["source"] for row in accepted)
    for tree in trees:
        reasons = Counter(row["reason"] for row in rejected if row["source"] == tree.name)
        # A picture that is not there is found where it is read: AI2D's letters are painted in by the source.
        assert reasons["source_fault"] >= tree.faults
        assert reasons.total() <= tree.faults + tree.missing_images
        assert kept[tree.name] + reasons.total() == tree.questions + tree.faults
        assert kept[tree.name] > 0
        assert set(reasons) <= {"source_fault", "image_unusable"}, (tree.name, reasons)
    assert all(is_correct(question_from_row(row), row["conclusion"]) for row in accepted)
    # A later turn was asked with the earlier ones, and each layout's picture reached the teacher.
    assert any(row["history"] for row in accepted)
    assert all(row["detail"] for row in rejected)
