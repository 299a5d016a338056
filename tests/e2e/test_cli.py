"""The commands one after another, as a user runs them, on a random tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.schemas import read_questions, write_questions
from reasoning.prompts import question_text
from stagebeam.world.dataset import make_questions
from tests.e2e.conftest import Command, wait_for

SHORT = "{max_new_tokens: 24}"
SEARCHES = (
    f"searches={{greedy: {{strategy: greedy, sampling: {SHORT}}}, "
    f"vote: {{strategy: self_consistency, samples: 2, sampling: {SHORT}}}}}"
)


def settings(**values: object) -> list[str]:
    """``--set`` arguments; values as JSON, which is YAML."""
    return [part for key, value in values.items() for part in ("--set", f"{key}={json.dumps(value, default=str)}")]


@pytest.mark.timeout(400)
def test_annotate_train_score_evaluate_ask(stagebeam: Command, tiny_model: Path, tmp_path: Path) -> None:
    questions, annotations, training, scores = (
        tmp_path / name for name in ("questions", "notes", "training", "scores")
    )
    write_questions(questions, make_questions(24, seed=1, split="train"))

    done = stagebeam("annotate", "--stand-in", *settings(input=questions, output=annotations, with_judgements=True))
    assert done.returncode == 0, done.stderr
    assert "24 questions" in done.stdout
    assert done.stderr == ""

    rows = annotations / "rows" / "four-stage"
    done = stagebeam(
        "train", *settings(model=tiny_model, data=[rows], output=training, max_steps=3, batch_size_per_worker=2)
    )
    assert done.returncode == 0, done.stderr
    assert "3 steps" in done.stdout

    model = training / "model"
    pairs = tmp_path / "pairs"
    score = ("score", *settings(input=questions, output=scores, model=model, limit=6), "--set", SEARCHES)
    done = stagebeam(*score, "--export-preferences", pairs)
    assert done.returncode == 0, done.stderr
    assert "12 answers to 6 questions" in done.stdout
    assert (pairs / "preferences.jsonl").is_file()

    results = [{"label": "tiny", "path": str(scores)}]
    report = tmp_path / "evaluation"
    done = stagebeam("evaluate", *settings(results=results, output=report, train_questions=questions))
    assert done.returncode == 0, done.stderr
    assert "constant answers" in done.stdout
    assert "greedy" in (report / "report.html").read_text()

    again = stagebeam("score", *settings(input=questions, output=scores, model=model, limit=5), "--set", SEARCHES)
    assert again.returncode == 3
    assert "belongs to a run with questions" in again.stderr
    assert stagebeam.left_over() == []


def test_ask_says_what_it_can_of_a_model_that_knows_nothing(
    stagebeam: Command, tiny_model: Path, tmp_path: Path
) -> None:
    write_questions(tmp_path / "q", make_questions(1, seed=1, split="train"))
    (question,) = read_questions(tmp_path / "q")
    assert question.image is not None
    picture = tmp_path / "a: picture.png"
    picture.write_bytes(question.image.data or b"")
    text = question_text(question)
    direct = ("--set", f"search={{strategy: direct, sampling: {SHORT}}}")

    done = stagebeam("ask", picture, text, "--model", tiny_model, *direct, "--trace", tmp_path / "tree.html")
    assert done.returncode == 0, done.stderr
    assert f"Search tree: {tmp_path / 'tree.html'}" in done.stdout
    assert "data:image/png;base64," in (tmp_path / "tree.html").read_text()

    staged = ("--set", f"search={{strategy: greedy, sampling: {SHORT}}}")
    done = stagebeam("ask", picture, text, "--model", tiny_model, *staged)
    assert done.returncode == 6
    assert done.stderr.startswith("stagebeam: the model gave no usable answer: ")


def test_served_model_is_asked_and_stops_on_request(stagebeam: Command, tiny_model: Path, tmp_path: Path) -> None:
    from stagebeam.quickstart.serving import free_port

    (question,) = make_questions(1, seed=1, split="train")
    assert question.image is not None
    picture = tmp_path / "picture.png"
    picture.write_bytes(question.image.data or b"")
    port = free_port()
    serving = settings(model=tiny_model, port=port, topology="shared")
    search = ("--set", f"search={{strategy: direct, sampling: {SHORT}}}")
    log = tmp_path / "serve.log"
    with stagebeam.started("serve", *serving, *search, log=log) as process:
        wait_for(log, "until Ctrl-C", process)
        done = stagebeam("ask", picture, question_text(question), "--url", f"http://127.0.0.1:{port}/v1")
        assert done.returncode == 0, done.stderr
        taken = stagebeam("serve", *serving)
        assert taken.returncode == 4
        assert taken.stderr.startswith(f"stagebeam: Port {port} on 127.0.0.1 is in use")
        process.terminate()
        assert process.wait(timeout=60) == 0, log.read_text()
    assert "The service is down." in log.read_text()
    assert stagebeam.left_over() == []
