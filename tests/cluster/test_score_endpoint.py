"""Scoring by an endpoint: Ray actors that hold no model, one server that answers them all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from endpoint_server import MODEL, Peer, serving

from actors.engines.config import EngineKind, OpenAIEngineConfig
from pipelines.answers import committed_files, read_answers
from pipelines.schemas import write_questions
from pipelines.score import run_scoring
from pipelines.score_config import ScoreConfig
from reasoning.errors import EngineError, OutputMismatchError
from reasoning.records import AnswerType, Question
from reasoning.search.config import SearchConfig, SelectorKind
from reasoning.stages import FourStages
from reasoning.testing import ScriptedEngine, reciting

pytestmark = pytest.mark.usefixtures("ray_local")

ANSWERS = [FourStages(summary="Count.", caption="Cubes.", reasoning="1, 2.", conclusion=c).render() for c in ("2", "3")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    questions = [
        Question(id=f"q{i}", question=f"How many cubes in scene {i}?", answer="2", answer_type=AnswerType.NUMBER)
        for i in range(6)
    ]
    write_questions(tmp_path / "questions", questions, rows_per_file=3)
    return tmp_path


def config_for(folder: Path, base_url: str, **changes: Any) -> ScoreConfig:
    settings: dict[str, Any] = {
        "input": str(folder / "questions"),
        "output": str(folder / "scored"),
        "engine": EngineKind.OPENAI,
        "openai": OpenAIEngineConfig(base_url=base_url, model=MODEL, max_retries=0),
        "searches": {"beam": SearchConfig(samples=2, selector=SelectorKind.JUDGE_LOGPROB)},
        "shard_questions": 3,
        "actors": 2,
        "cpus_per_actor": 0.5,
    }
    return ScoreConfig(**(settings | changes))


def test_an_endpoint_answers_and_what_it_counts_is_in_the_ledgers(folder: Path) -> None:
    engine = ScriptedEngine(reciting(*ANSWERS), prefer=lambda a, b: float(b.count("3") - a.count("3")))
    with serving(Peer(engine=engine)) as peer:
        summary = run_scoring(config_for(folder, peer.url))
        other = OpenAIEngineConfig(base_url=peer.url, model="another")
        with pytest.raises(OutputMismatchError, match="model"):
            run_scoring(config_for(folder, peer.url, openai=other))
    assert (summary.answers, summary.correct, summary.errors) == (6, {"beam": 6}, {"beam": 0})
    answers = list(read_answers(committed_files(folder / "scored")["beam"]))
    counted = sum(answer.ledger.prompt_tokens + answer.ledger.judge_tokens for answer in answers)
    assert counted == peer.usage.prompt_tokens
    assert sum(answer.ledger.generated_tokens for answer in answers) == peer.usage.generated_tokens


def test_an_endpoint_that_is_gone_ends_the_run(folder: Path) -> None:
    with serving(Peer(engine=ScriptedEngine())) as peer:
        pass
    with pytest.raises(EngineError, match="gave no readable answer"):
        run_scoring(config_for(folder, peer.url))
