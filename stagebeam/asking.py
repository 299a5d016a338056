"""``stagebeam ask``: one question about one picture, by a running service or by a model loaded here."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from rich.console import Console

from actors.engines.config import Dtype, EngineChoice, EngineKind, check_search, engine_config
from actors.images import load_image
from actors.rewards.config import RewardConfig
from reasoning.errors import ConfigError, EngineError, InputError
from reasoning.ledger import Ledger
from reasoning.prompts import question_text
from reasoning.records import AnswerType, ImageRef, Question, question_id
from reasoning.search.config import SearchConfig
from reasoning.search.parts import needs_rewarder
from reasoning.search.result import SearchResult
from reasoning.stages import STAGES, FourStages, Stage
from reasoning.trace import Trace
from stagebeam.console import output_console
from stagebeam.model_search import DEFAULT_MODEL, load_with_search


class AskConfig(EngineChoice):
    """Who answers, and how."""

    url: str | None = None
    """A running service; it answers with its own search."""
    model: Path = DEFAULT_MODEL
    """Otherwise: the folder of the model to load."""
    search: SearchConfig = Field(default_factory=SearchConfig)
    """How the loaded model searches; the search kept beside the model lies under this."""
    judge_model: str | None = None
    """A model of its own that judges; None: the one that answers."""
    reward: RewardConfig | None = None
    """A reward model, for a search that scores by one."""
    calibration: Path | None = None
    """A file of ``stagebeam calibrate``: the cutoff of a retracing search."""
    device: str = "cpu"
    """Where the loaded model runs."""
    dtype: Dtype = "float32"
    """Number format of its weights."""
    timeout_s: float = Field(default=600, gt=0)
    """How long to wait for a service."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_search(self.search, self.openai, name="AskConfig.search")
        if self.url is None and needs_rewarder(self.search) and self.reward is None:
            raise ConfigError(
                "AskConfig.search scores by a reward model and none is configured; set reward.kind and reward.model "
                "(or reward.url)"
            )
        return self


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer, from wherever it came."""

    conclusion: str | None
    fault: str | None
    stages: FourStages | None
    trace: Trace | None
    ledger: Ledger


def run_ask(
    file: Path | None,
    overrides: Sequence[str],
    image: Path,
    question: str,
    choices: Sequence[str],
    *,
    stages: bool,
    trace: Path | None,
    url: str | None,
    model: Path | None,
) -> None:
    """Print the conclusion, on request the four stages, and write the search tree's page.

    Raises InputError for a question or picture that cannot be used and EngineError when no answer
    came.
    """
    if url is not None and model is not None:
        raise InputError("--url and --model exclude each other: either a service answers or a model loaded here")
    # As JSON, which is YAML too, so that a path like 1.5 or a: b stays a text.
    given = {"url": url, "model": str(model) if model is not None else None}
    options = [f"{name}={json.dumps(value)}" for name, value in given.items() if value is not None]
    asked = make_question(image, question, choices)
    config = load_with_search(AskConfig, file, [*overrides, *options])
    reply = _ask_service(config, asked) if config.url is not None else _ask_model(config, asked)
    if trace is not None and reply.trace is not None:
        from pipelines.trace_page import write_trace_page

        write_trace_page(trace, asked, reply.trace, conclusion=reply.conclusion, ledger=reply.ledger)
    _print(reply, output_console(), with_stages=stages, trace=trace)


def make_question(image: Path, question: str, choices: Sequence[str]) -> Question:
    """The record; raises InputError for an empty question and for a file that is no usable picture."""
    text = question.strip()
    if not text:
        raise InputError("the question is empty; say what to ask about the picture")
    if any(not choice.strip() for choice in choices):
        raise InputError("a --choice is empty; give each option's text")
    load_image(ImageRef(uri=str(image.absolute())))
    ref = ImageRef(data=image.read_bytes())
    return Question(
        id=question_id("ask", ref, text),
        source="ask",
        image=ref,
        question=text,
        choices=tuple(choice.strip() for choice in choices),
        answer_type=AnswerType.CHOICE if choices else AnswerType.FREE,
    )


def _ask_service(config: AskConfig, question: Question) -> Reply:
    from serve.client import ask

    assert config.url is not None
    assert question.image is not None
    answer = ask(
        config.url,
        question.image.data,
        question_text(question),
        timeout_s=config.timeout_s,
        include_stages=True,
        include_trace=True,
    )
    return Reply(
        conclusion=answer.conclusion,
        fault=answer.fault,
        stages=answer.stages,
        trace=answer.trace,
        ledger=answer.ledger,
    )


def _ask_model(config: AskConfig, question: Question) -> Reply:
    if config.engine is not EngineKind.OPENAI and not (config.model / "config.json").is_file():
        raise InputError(
            f"no model in {config.model}: give --model FOLDER or --url URL, or make one with `stagebeam quickstart`"
        )
    result = asyncio.run(_search(config, question))
    return Reply(
        conclusion=result.conclusion,
        fault=result.fault,
        stages=result.stages,
        trace=result.trace,
        ledger=result.ledger,
    )


async def _search(config: AskConfig, question: Question) -> SearchResult:
    from actors.engines.build import open_engine
    from actors.rewards.build import open_rewarder
    from actors.rewards.calibration import calibrated, read_calibration
    from reasoning.search import run_search

    settings = engine_config(
        config.engine,
        model=str(config.model),
        device=config.device,
        dtype=config.dtype,
        transformers=config.transformers,
        vllm=config.vllm,
        openai=config.openai,
    )
    search = config.search
    if config.calibration is not None:
        file = config.calibration
        search = calibrated({"search": search}, read_calibration(file), source=file)["search"]
    async with AsyncExitStack() as opened:
        engine = judge = await opened.enter_async_context(open_engine(settings))
        if config.judge_model is not None:
            own = settings.model_copy(update={"model": config.judge_model})
            judge = await opened.enter_async_context(open_engine(own))
        rewarder = await opened.enter_async_context(open_rewarder(config.reward))
        return await run_search(
            question, search, generator=engine, judge=judge, rewarder=rewarder, clock=time.monotonic
        )


def _print(reply: Reply, console: Console, *, with_stages: bool, trace: Path | None) -> None:
    if reply.conclusion is None:
        where = f"; the tree is in {trace}" if trace is not None else "; --trace FILE.html shows what was written"
        raise EngineError(f"the model gave no usable answer: {reply.fault}{where}")
    if with_stages and reply.stages is not None:
        for stage in STAGES[:-1]:
            console.print(f"{stage.value.capitalize()}: {reply.stages[stage]}", markup=False)
        console.print(f"{Stage.CONCLUSION.value.capitalize()}: {reply.conclusion}", style="bold", markup=False)
    else:
        console.print(reply.conclusion, markup=False)
    if trace is not None:
        console.print(f"Search tree: {trace}", markup=False)
