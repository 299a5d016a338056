"""Annotation runs that are taken up again on purpose: more rows, a replay, a higher budget, another place."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from actors.governor import LimitsConfig
from actors.teacher import TeacherConfig
from pipelines.annotate import run_annotation
from pipelines.annotate_config import AnnotateConfig
from pipelines.annotations import ACCEPTED, REJECTED, read_annotated
from pipelines.schemas import write_questions
from reasoning.errors import BudgetReachedError
from reasoning.records import Question, RejectReason
from stagebeam.standin.faults import StandInConfig
from stagebeam.standin.process import StandIn, start_standin
from stagebeam.world.dataset import make_questions

pytestmark = pytest.mark.usefixtures("ray_local")

ROWS = 24


@pytest.fixture
def questions(tmp_path: Path) -> list[Question]:
    made = make_questions(ROWS, seed=5, split="train")
    write_questions(tmp_path / "questions", made)
    return made


def config_for(tmp_path: Path, standin: StandIn, **changes: Any) -> AnnotateConfig:
    settings: dict[str, Any] = {
        "input": tmp_path / "questions",
        "output": tmp_path / "run",
        "teacher": TeacherConfig(
            base_url=standin.base_url,
            model=standin.model,
            backoff_s=0.05,
            prompt_dollars_per_million=1000.0,
            generated_dollars_per_million=1000.0,
        ),
        "shard_rows": 8,
    }
    return AnnotateConfig(**{**settings, **changes})


def ids(output: str | Path) -> Counter[str]:
    return Counter(row["id"] for part in (ACCEPTED, REJECTED) for row in read_annotated(output, part, columns=["id"]))


def test_more_rows_and_a_higher_limit_are_added_and_nothing_is_done_again(
    tmp_path: Path, questions: list[Question]
) -> None:
    with start_standin(StandInConfig.faultless()) as standin:
        run_annotation(config_for(tmp_path, standin, limit=11))
        assert standin.stats()["calls"] == {"annotation": 11}
        # Another size of shard cuts through what is committed.
        run_annotation(config_for(tmp_path, standin, limit=20, shard_rows=5))
        more = make_questions(ROWS + 6, seed=5, split="train")
        write_questions(tmp_path / "questions", more)
        summary = run_annotation(config_for(tmp_path, standin))
        assert standin.stats()["calls"] == {"annotation": ROWS + 6}
    assert (summary.rows, summary.resumed_rows, summary.vanished) == (ROWS + 6, 20, 0)
    assert ids(tmp_path / "run") == Counter(q.id for q in more)


def test_rows_that_left_the_input_stay_and_are_counted(tmp_path: Path, questions: list[Question]) -> None:
    with start_standin(StandInConfig.faultless()) as standin:
        run_annotation(config_for(tmp_path, standin, limit=8))
        write_questions(tmp_path / "questions", questions[4:])
        summary = run_annotation(config_for(tmp_path, standin))
    assert (summary.rows, summary.vanished) == (ROWS, 4)
    assert ids(tmp_path / "run") == Counter(q.id for q in questions)


def test_replay_does_one_kind_of_reject_over_and_leaves_the_rest(tmp_path: Path, questions: list[Question]) -> None:
    rates = {"refusal": 0.3, "missing_tag": 0.3, "wrong_answer": 0.0, "truncated": 0.0, "leak": 0.0}
    faults = StandInConfig(**rates, stubborn=1.0, rate_limits=0, server_errors=0, seed=2)  # type: ignore[arg-type]
    with start_standin(faults) as standin:
        first = run_annotation(config_for(tmp_path, standin))
    before = {row["id"]: row for part in (ACCEPTED, REJECTED) for row in read_annotated(tmp_path / "run", part)}
    assert min(first.rejected["refusal"], first.rejected["bad_format"]) > 0
    with start_standin(StandInConfig.faultless()) as standin:
        summary = run_annotation(config_for(tmp_path, standin), replay=[RejectReason.REFUSAL])
        assert standin.stats()["calls"] == {"annotation": first.rejected["refusal"]}
        assert run_annotation(config_for(tmp_path, standin)).accepted == summary.accepted
    assert summary.rejected == {"bad_format": first.rejected["bad_format"]}
    assert summary.accepted == first.accepted + first.rejected["refusal"]
    after = {row["id"]: row for part in (ACCEPTED, REJECTED) for row in read_annotated(tmp_path / "run", part)}
    for identity, row in before.items():
        assert (after[identity]["generation"], after[identity] == row) == (
            (1, False) if row["reason"] == "refusal" else (0, True)
        )
    assert ids(tmp_path / "run") == Counter(q.id for q in questions)


def test_budget_ends_the_run_cleanly_and_a_higher_one_goes_on(tmp_path: Path, questions: list[Question]) -> None:
    slow = StandInConfig(**{**StandInConfig.faultless().model_dump(), "slow": 1.0, "slow_s": 0.1})
    with start_standin(slow) as standin:
        poor = config_for(tmp_path, standin, limits=LimitsConfig(budget_dollars=12.0))
        with pytest.raises(BudgetReachedError, match="12"):
            run_annotation(poor)
        paid = standin.stats()["calls"]["annotation"]
        assert 0 < paid < ROWS
        summary = run_annotation(config_for(tmp_path, standin))
        assert standin.stats()["calls"] == {"annotation": ROWS}
    assert summary.paid_calls == ROWS - paid
    assert ids(tmp_path / "run") == Counter(q.id for q in questions)


def test_a_shared_cache_pays_once_for_two_runs(tmp_path: Path, questions: list[Question]) -> None:
    with start_standin(StandInConfig.faultless()) as standin:
        for name in ("a", "b"):
            config = config_for(tmp_path, standin, output=tmp_path / name, cache=tmp_path / "calls", limit=8)
            summary = run_annotation(config)
        assert standin.stats()["calls"] == {"annotation": 8}
    assert (summary.paid_calls, summary.calls, summary.accepted) == (0, 8, 8)
