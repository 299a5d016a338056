"""Scoring on a real Ray Data job: answers, errors as rows, resume, and many questions at once."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.answers import committed_files, read_answers
from pipelines.evaluate import EvaluateConfig, ResultsFolder, run_evaluation
from pipelines.schemas import write_questions
from pipelines.score import ScoreProgress, run_scoring
from pipelines.score_config import ScoreConfig
from reasoning.errors import ConfigError, EngineError, ImageError, InputError, OutputMismatchError
from reasoning.protocols import ContinuationRequest, Engine, Sampling
from reasoning.records import AnswerType, ImageRef, Question
from reasoning.search.config import SearchConfig, SelectorKind, Strategy
from reasoning.stages import FourStages
from reasoning.testing import ScriptedEngine, reciting

pytestmark = pytest.mark.usefixtures("ray_local")

GREEDY = SearchConfig(strategy=Strategy.GREEDY)
VOTE = SearchConfig(strategy=Strategy.SELF_CONSISTENCY, samples=3)
BEAM = SearchConfig(strategy=Strategy.STAGE_BEAM, samples=2, selector=SelectorKind.JUDGE_LOGPROB)


def four_stages(conclusion: str) -> str:
    return FourStages(summary="Count.", caption="Cubes.", reasoning="1, 2.", conclusion=conclusion).render()


def scripted(
    before: Callable[[ContinuationRequest], None] | None = None, *, answers: tuple[str, ...] = ("2",)
) -> Callable[[Any], Engine]:
    """A builder of an engine that recites; closures only, since a worker cannot import this file."""
    texts = tuple(four_stages(text) for text in answers)

    def build(_config: Any) -> Engine:
        recite = reciting(*texts)

        def write(request: ContinuationRequest, index: int) -> Any:
            if before is not None:
                before(request)
            return recite(request, index)

        return ScriptedEngine(write, prefer=lambda first, second: 0.5)

    return build


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Ten questions, the even ones with the answer 2, and a folder that stands for a model."""
    questions = [
        Question(
            id=f"q{i}",
            question=f"How many cubes are in scene {i}?",
            answer="2" if i % 2 == 0 else "3",
            answer_type=AnswerType.NUMBER,
            meta={"family": "even" if i % 2 == 0 else "odd"},
        )
        for i in range(10)
    ]
    write_questions(tmp_path / "questions", questions, rows_per_file=6)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    return tmp_path


def config_for(folder: Path, **changes: Any) -> ScoreConfig:
    settings: dict[str, Any] = {
        "input": str(folder / "questions"),
        "output": str(folder / "scored"),
        "model": str(folder / "model"),
        "searches": {"greedy": GREEDY},
        "shard_questions": 4,
        "cpus_per_actor": 0.5,
    }
    return ScoreConfig(**(settings | changes))


def test_every_question_is_answered_by_every_search(folders: Path) -> None:
    seen: list[ScoreProgress] = []
    config = config_for(folders, searches={"greedy": GREEDY, "vote": VOTE, "beam_2": BEAM})
    summary = run_scoring(config, seen.append, build_engine=scripted(answers=("2", "3", "2")))
    assert (summary.questions, summary.answers, summary.resumed_answers) == (10, 30, 0)
    assert (seen[0].done, seen[-1].done, seen[-1].total) == (0, 30, 30)
    files = committed_files(folders / "scored")
    assert list(files) == ["greedy", "vote", "beam_2"]
    answers = list(read_answers(files["vote"]))
    assert [answer.question.id for answer in answers] == [f"q{i}" for i in range(10)]
    assert all(answer.is_correct is (i % 2 == 0) for i, answer in enumerate(answers))
    evaluation = run_evaluation(
        EvaluateConfig(
            results=(ResultsFolder(label="m", path=str(folders / "scored")),), output=str(folders / "evaluation")
        )
    )
    assert [search.accuracy.successes for search in evaluation.searches[:2]] == [5, 5]
    beam = evaluation.searches[2]
    assert beam.ledger.judge_tokens > 0
    assert beam.diagnostics is not None
    assert beam.diagnostics.oracle.successes == 10


def test_questions_of_a_shard_are_in_flight_together(folders: Path) -> None:
    recite = reciting(four_stages("2"))

    def build(_config: Any) -> Engine:
        import asyncio

        class Meeting(ScriptedEngine):
            """Answers nobody before four questions have come together."""

            waiting = 0
            is_full = asyncio.Event()

            async def generate(self, requests: Any) -> Any:
                self.waiting += 1
                if self.waiting >= 4:
                    self.is_full.set()
                await asyncio.wait_for(self.is_full.wait(), timeout=30)
                return await super().generate(requests)

        return Meeting(recite)

    summary = run_scoring(config_for(folders), build_engine=build)
    assert sum(summary.errors.values()) == 0


def test_a_question_that_fails_is_a_row_and_costs_no_other(folders: Path) -> None:
    def fail_at_three(request: ContinuationRequest) -> None:
        if "scene 3" in request.prompt:
            raise ImageError("no image: 3 bytes")

    summary = run_scoring(config_for(folders), build_engine=scripted(fail_at_three))
    assert (summary.answers, summary.errors["greedy"]) == (10, 1)
    answers = list(read_answers(committed_files(folders / "scored")["greedy"]))
    assert [(a.question.id, a.error_type, a.error) for a in answers if a.error_type] == [
        ("q3", "ImageError", "no image: 3 bytes")
    ]


def test_a_lost_engine_ends_the_run_and_the_next_run_goes_on(folders: Path) -> None:
    log = folders / "asked"
    log.mkdir()

    def lose_second_file(request: ContinuationRequest) -> None:
        number = int(request.prompt.split("scene ")[1].split("?")[0])
        if number >= 6:
            raise EngineError("the engine is gone")

    def note(request: ContinuationRequest) -> None:
        (log / request.prompt.split("scene ")[1].split("?")[0]).touch()

    with pytest.raises(EngineError, match="each of the 4 questions"):
        run_scoring(config_for(folders), build_engine=scripted(lose_second_file))
    committed = [a.question.id for a in read_answers(committed_files(folders / "scored")["greedy"])]
    summary = run_scoring(config_for(folders), build_engine=scripted(note))
    assert summary.answers == 10
    assert summary.resumed_answers == len(committed)
    assert {path.name for path in log.iterdir()} == {str(i) for i in range(10) if f"q{i}" not in committed}
    again = run_scoring(config_for(folders), build_engine=scripted(lose_second_file))
    assert again.resumed_answers == 10


def test_a_model_that_cannot_be_loaded_is_told_in_its_own_words(folders: Path) -> None:
    def build(_config: Any) -> Engine:
        raise EngineError("cannot load the model: no weights")

    with pytest.raises(EngineError, match=r"^cannot load the model: no weights$"):
        run_scoring(config_for(folders, actors=2), build_engine=build)


def test_the_folder_of_another_search_is_refused(folders: Path) -> None:
    run_scoring(config_for(folders), build_engine=scripted())
    with pytest.raises(OutputMismatchError, match=r"searches\.greedy"):
        run_scoring(config_for(folders, searches={"greedy": VOTE}), build_engine=scripted())


def test_limit_takes_the_first_questions(folders: Path) -> None:
    assert run_scoring(config_for(folders, limit=7), build_engine=scripted()).answers == 7


def test_input_that_cannot_be_used_is_refused_by_name(folders: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        run_scoring(config_for(folders, input=str(folders / "nowhere")))
    with pytest.raises(InputError, match="no model folder"):
        run_scoring(config_for(folders, model=str(folders / "nothing")))
    with pytest.raises(ConfigError, match=r"'\.\./up'"):
        config_for(folders, searches={"../up": GREEDY})


def test_searches_do_not_profit_from_one_another(tmp_path: Path) -> None:
    """With the real engine, which remembers pictures and prefixes: the same search twice costs the same twice."""
    from actors.engines.tiny import build_tiny_mllama

    build_tiny_mllama(tmp_path / "model")
    write_questions(
        tmp_path / "questions",
        [
            Question(id=f"q{i}", question=f"What is number {i}?", image=ImageRef(data=square(i)), answer="red")
            for i in range(6)
        ],
    )
    short = replace(GREEDY, sampling=Sampling(max_new_tokens=6))
    run_scoring(config_for(tmp_path, searches={"first": short, "second": short}, shard_questions=3))
    files = committed_files(tmp_path / "scored")
    first, second = ([a.ledger for a in read_answers(files[name])] for name in ("first", "second"))
    assert [ledger.image_encodes for ledger in first] == [1] * 6
    assert [replace(ledger, seconds=0.0) for ledger in first] == [replace(ledger, seconds=0.0) for ledger in second]


def square(shade: int) -> bytes:
    """A small picture, another for each shade."""
    buffer = io.BytesIO()
    Image.new("RGB", (48, 48), (40 * shade, 90, 255 - 40 * shade)).save(buffer, "PNG")
    return buffer.getvalue()
