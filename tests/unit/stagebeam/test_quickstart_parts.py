"""The quickstart's parts that need no Ray."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from cluster.storage import RunFolder
from pipelines.compare import Table
from pipelines.score_config import ScoreConfig
from reasoning.errors import ConfigError, InputError, OutputMismatchError
from reasoning.protocols import Sampling
from reasoning.search.config import PromptStyle, SearchConfig, Strategy
from reasoning.search.presets import paper_search
from reasoning.stages import Stage
from serve.config import ServeConfig
from stagebeam.console import print_table
from stagebeam.model_search import load_with_search, read_search, write_search
from stagebeam.quickstart.config import QuickstartConfig
from stagebeam.quickstart.ending import next_commands
from stagebeam.quickstart.evaluating import judge_pairs
from stagebeam.quickstart.loop import RUN_KIND, STEPS, remove_run
from stagebeam.quickstart.run import QuickstartRun, StepRecord
from stagebeam.quickstart.searching import score_config
from stagebeam.settings import load_config


@pytest.fixture
def run(tmp_path: Path) -> QuickstartRun:
    return QuickstartRun(config=QuickstartConfig(output=tmp_path / "run", test_questions=100))


def test_every_step_loads() -> None:
    assert [callable(step.load()) for step in STEPS] == [True] * 5


def test_record_of_a_finished_step_comes_back(run: QuickstartRun) -> None:
    assert run.record("search") is None
    record = StepRecord(lines=("a", "b"), facts={"n": 1}, seconds=2.5)
    run.keep("search", record)
    assert run.record("search") == record


def test_fresh_deletes_a_quickstart_and_nothing_else(run: QuickstartRun) -> None:
    remove_run(run.folder)
    with RunFolder(run.folder, kind=RUN_KIND, identity={}), pytest.raises(InputError, match="another process"):
        remove_run(run.folder)
    remove_run(run.folder)
    assert not run.folder.exists()
    with RunFolder(run.folder, kind="training", identity={}):
        pass
    with pytest.raises(OutputMismatchError, match="nothing but quickstart runs"):
        remove_run(run.folder)


def test_judge_is_measured_on_every_stage_with_the_right_text_before() -> None:
    pairs = judge_pairs(8, seed=0)
    assert {pair.stage for pair in pairs} == {*Stage, None}
    assert all(pair.better != pair.worse for pair in pairs)
    conclusion = next(pair for pair in pairs if pair.stage is Stage.CONCLUSION)
    assert list(conclusion.prior) == [Stage.SUMMARY, Stage.CAPTION, Stage.REASONING]
    assert judge_pairs(8, seed=0) == pairs


def test_models_that_know_no_stages_are_asked_for_the_answer_alone(run: QuickstartRun) -> None:
    assert set(score_config(run, "four-stage").searches) == {"greedy", "vote-4", "best-of-4", "judged-beam-4", "beam-4"}
    assert [s.strategy for s in score_config(run, "base").searches.values()] == [Strategy.DIRECT]


def test_demonstration_must_be_one_of_the_searches() -> None:
    with pytest.raises(ConfigError, match="'beam-9', not among the searches: greedy, vote-4"):
        QuickstartConfig(demonstration="beam-9")


def test_next_commands_name_the_model_unless_it_is_the_default(run: QuickstartRun) -> None:
    records = {"serve": StepRecord(lines=(), facts={"example_question": "What's there?\nA. red"})}
    ask, serve, _ = next_commands(run, records)
    assert f"--model {run.model('four-stage')}" in ask
    assert "'What'\"'\"'s there?\nA. red'" in ask
    assert f"--set model={run.model('four-stage')}" in serve
    default = QuickstartRun(config=QuickstartConfig())
    assert "--model" not in next_commands(default, records)[0]


def test_search_beside_the_model_lies_under_the_settings(tmp_path: Path) -> None:
    write_search(tmp_path, SearchConfig(samples=3, seed=7))
    config = load_with_search(ServeConfig, None, [f"model={tmp_path}", "search.samples=2"])
    assert config.search == SearchConfig(samples=2, seed=7)
    assert read_search(tmp_path / "none") == {}


def test_a_preset_lies_between_the_models_search_and_the_settings(tmp_path: Path) -> None:
    own = SearchConfig(
        samples=3, seed=7, prompt_style=PromptStyle.COMPACT, sampling=Sampling(temperature=0.9, max_new_tokens=96)
    )
    write_search(tmp_path, own)
    file = tmp_path / "serve.yaml"
    file.write_text(f"model: {tmp_path}\nsearch:\n  samples: 2\n", encoding="utf-8")
    found = load_with_search(ServeConfig, file, ["search.preset=paper"]).search
    paper = replace(paper_search(2, seed=7), prompt_style=PromptStyle.COMPACT, sampling=Sampling(max_new_tokens=96))
    assert found == paper
    with pytest.raises(ConfigError, match=r"preset is 'papre'; there are default, paper"):
        load_with_search(ServeConfig, file, ["search.preset=papre"])


def test_every_search_of_a_run_may_have_a_preset(tmp_path: Path) -> None:
    given = ["input=in", "output=out", "model=m", "searches.a.preset=paper", "searches.a.samples=8"]
    assert load_config(ScoreConfig, None, given).searches == {"a": paper_search(8)}


def test_wide_table_leaves_columns_out_and_says_which() -> None:
    table = Table(columns=("model", "detail", "other"), rows=(("a" * 20, "b" * 20, "c" * 20),), numeric=(False,) * 3)
    text = io.StringIO()
    print_table(Console(file=text, width=50), "T", table, droppable=("detail", "other"))
    assert "c" * 20 in text.getvalue()
    assert "b" not in text.getvalue()
    assert "(left out here: detail)" in text.getvalue()
