"""Step 3: serve the four-stage model with Ray Serve and ask it a question through the openai client."""

from __future__ import annotations

import socket
import time

from pipelines.schemas import read_questions
from reasoning.errors import EngineError
from reasoning.prompts import question_text
from serve.client import ask
from serve.config import PoolConfig, ServeConfig
from serve.launch import ServeProgress, run_serving
from stagebeam.console import Update, duration
from stagebeam.quickstart.run import QuickstartRun, StepRecord

QUESTIONS = 3


def work(run: QuickstartRun, update: Update) -> StepRecord:
    """Starts the service, asks a few held-out questions, ends the service."""
    config = ServeConfig(
        model=run.model("four-stage"),
        port=free_port(),
        topology=run.config.topology,
        pool=PoolConfig(num_cpus=0.1),
        search=run.config.searches[run.config.demonstration],
    )
    started = time.monotonic()

    def on_progress(news: ServeProgress) -> None:
        update(news.ready, news.total, "deployments are up")

    update(0, 0, f"starting, topology {config.topology.value}")
    with run_serving(config, on_progress) as url:
        lines = [f"{url} was up after {duration(time.monotonic() - started)}, topology {config.topology.value}"]
        for number, question in enumerate(read_questions(run.test_questions)):
            if number == QUESTIONS:
                break
            update(number, QUESTIONS, "asking through the openai client")
            if question.image is None or question.image.data is None:
                raise EngineError(f"question {question.id} of the scene world carries no picture")
            text = question_text(question)
            answer = ask(url, question.image.data, text)
            said = answer.conclusion if answer.conclusion is not None else f"(no answer: {answer.fault})"
            lines.append(
                f"“{' / '.join(text.splitlines())}” → {said} "
                f"(right: {question.answer}; {answer.ledger.computed_tokens:,} tokens, {answer.ledger.seconds:.1f} s)"
            )
            if number == 0:
                run.example_image.write_bytes(question.image.data)
                example = text
    return StepRecord(lines=tuple(lines), facts={"example_question": example})


def free_port() -> int:
    """A port of this machine that nothing listens on now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
