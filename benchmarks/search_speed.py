"""How fast the search is: against the published algorithm, over N, and against a bare decode loop.

``python -m benchmarks.search_speed`` measures with the quickstart's model; ``--random tiny`` or
``--random 11b`` with random weights and candidates of a fixed length. It prints the page's figures.
Published and own searches take turns in one process, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any, Literal

import torch

from actors.chat import encode, load_processor
from actors.engines.config import TransformersEngineConfig
from actors.engines.transformers_engine import TransformersEngine
from benchmarks.bare_loops import library_loop, step_loop
from benchmarks.fixed_budget import FixedBudget
from benchmarks.published import Judge, PublishedSearch
from benchmarks.search_speed_page import IN_FLIGHT, WAYS, page
from pipelines.answering import for_search
from reasoning.ledger import Ledger
from reasoning.prompts import question_text
from reasoning.protocols import ContinuationRequest, Engine, Sampling
from reasoning.records import Question
from reasoning.search.config import PromptStyle, SearchConfig, SelectorKind
from reasoning.search.result import SearchResult
from reasoning.search.run import run_search
from reasoning.testing import ScriptedEngine, reciting
from stagebeam.world.dataset import make_questions

CURVE = (1, 2, 3, 4, 8)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is measured with."""

    model: str
    device: str
    dtype: Literal["float32", "bfloat16", "float16"]
    budget: int | None
    judge_budget: int | None
    questions: int
    many: int
    rows: int


class Bench:
    """Both implementations on one model."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        config = TransformersEngineConfig(model=setting.model, device=setting.device, dtype=setting.dtype)
        self.engine = TransformersEngine(config)
        self.processor = load_processor(setting.model)
        self.model = _load(setting)
        self.sampling = Sampling(temperature=0.6, top_p=0.9, max_new_tokens=320)
        self._tries = 0

    def published(
        self, samples: int, *, sampling: Sampling | None = None, judge: Judge | None = None
    ) -> PublishedSearch:
        return PublishedSearch(
            self.model,
            self.processor,
            samples=samples,
            sampling=sampling or self.sampling,
            style=PromptStyle.COMPACT,
            budget=self.setting.budget,
            judge_budget=self.setting.judge_budget,
            judge=judge,
        )

    def search(self, samples: int, way: str) -> SearchConfig:
        """A stage beam of width 1, by one of ``WAYS``."""
        config = SearchConfig(samples=samples, prompt_style=PromptStyle.COMPACT, sampling=self.sampling)
        match way:
            case "published selector":
                written = replace(config, selector=SelectorKind.JUDGE_TEXT, judge_both_orders=False)
                return replace(written, check_reasoning=True)
            case "log-probability verdicts":
                return replace(config, selector=SelectorKind.JUDGE_LOGPROB)
            case _:
                return config

    async def answer(self, question: Question, search: SearchConfig, *, judge: Engine | None = None) -> SearchResult:
        """A search of its own: under an image key that the engine has not seen."""
        self._tries += 1
        engine: Engine = self.engine
        if self.setting.budget is not None:
            engine = FixedBudget(engine, self.setting.budget, self.setting.judge_budget or self.setting.budget)
        own = for_search(question, f"try {self._tries}")
        return await run_search(own, search, generator=engine, judge=judge or engine, clock=time.perf_counter)

    def timed(self, question: Question, search: SearchConfig) -> tuple[float, SearchResult]:
        started = time.perf_counter()
        result = asyncio.run(self.answer(question, search))
        return time.perf_counter() - started, result


def _load(setting: Setting) -> Any:
    from transformers import AutoModelForImageTextToText

    model: Any = AutoModelForImageTextToText.from_pretrained(setting.model, dtype=getattr(torch, setting.dtype))
    return model.to(setting.device).eval()


@contextmanager
def vision_passes() -> Iterator[list[int]]:
    """Counts the images that go through any vision tower of this process."""
    seen: list[int] = []

    def note(module: torch.nn.Module, inputs: Any, kwargs: Any, output: Any) -> None:
        if type(module).__name__.endswith("VisionModel"):
            seen.append(len(kwargs["pixel_values"]))

    hook = torch.nn.modules.module.register_module_forward_hook(note, with_kwargs=True)
    try:
        yield seen
    finally:
        hook.remove()


def one_question(bench: Bench, questions: Sequence[Question]) -> dict[str, Any]:
    """N=4, one question at a time; the three take turns."""
    published = bench.published(4)
    ways = {way: bench.search(4, way) for way in WAYS}
    seconds: dict[str, list[float]] = {name: [] for name in ("published", *ways)}
    ledgers: dict[str, list[Ledger]] = {name: [] for name in ways}
    counts = []
    for question in questions:
        answer = published.answer(question)
        counts.append(answer.counts)
        seconds["published"].append(answer.counts.seconds)
        for name, search in ways.items():
            spent, result = bench.timed(question, search)
            seconds[name].append(spent)
            ledgers[name].append(result.ledger)
    return {
        "published": {
            "seconds": median(seconds["published"]),
            "image_encodes": fmean(one.image_encodes for one in counts),
            "calls": fmean(one.calls for one in counts),
            "prompt_tokens": fmean(one.prompt_tokens for one in counts),
            "generated": fmean(one.candidate_tokens + one.judge_tokens for one in counts),
        },
        **{
            name: {
                "seconds": median(seconds[name]),
                "ratio": median(p / o for p, o in zip(seconds["published"], seconds[name], strict=True)),
                "image_encodes": fmean(one.image_encodes for one in ledgers[name]),
                "serial_steps": fmean(one.serial_steps for one in ledgers[name]),
                "computed_tokens": fmean(one.computed_tokens for one in ledgers[name]),
            }
            for name in ways
        },
    }


def in_flight(bench: Bench, questions: Sequence[Question], published_seconds: float) -> dict[str, Any]:
    """Questions a second with 32 at once, against the published search's one after another."""

    async def everything(search: SearchConfig) -> list[SearchResult]:
        gate = asyncio.Semaphore(IN_FLIGHT)

        async def one(question: Question) -> SearchResult:
            async with gate:
                return await bench.answer(question, search)

        return list(await asyncio.gather(*(one(question) for question in questions)))

    rates = {}
    for name in WAYS:
        started = time.perf_counter()
        asyncio.run(everything(bench.search(4, name)))
        rate = len(questions) / (time.perf_counter() - started)
        rates[name] = {"questions_per_second": rate, "ratio": rate * published_seconds}
    return rates


def curve(bench: Bench, questions: Sequence[Question]) -> dict[int, dict[str, float]]:
    """Seconds a question over N, relative to N=1; sizes take turns."""
    times: dict[tuple[str, int], list[float]] = {}
    for question in questions:
        for n in CURVE:
            for name in WAYS:
                spent, _ = bench.timed(question, bench.search(n, name))
                times.setdefault((name, n), []).append(spent)
    return {
        n: {name: median(b / a for a, b in zip(times[name, 1], times[name, n], strict=True)) for name in WAYS}
        for n in CURVE
    }


def identical(bench: Bench, questions: Sequence[Question]) -> dict[str, int]:
    """Greedy candidates and a scripted judge: both must write the same answers, to the letter."""
    greedy = replace(bench.sampling, temperature=0.0)
    published = bench.published(4, sampling=greedy, judge=lambda a, b: 1 if len(a) >= len(b) else 2)
    judge = ScriptedEngine(reciting("unused"), prefer=lambda a, b: float(len(a) - len(b)))
    same = encodes = 0
    for question in questions:
        search = replace(bench.search(4, "log-probability verdicts"), sampling=greedy)
        with vision_passes() as seen:
            ours = asyncio.run(bench.answer(question, search, judge=judge))
        encodes += sum(seen)
        same += ours.text == published.answer(question).text
    return {"questions": len(questions), "same": same, "image_encodes": encodes}


def decode_limit(bench: Bench, questions: Sequence[Question], tokens: int) -> dict[str, Any]:
    """Tokens a second of the engine, against loops that do nothing but decode the same rows.

    ``library``: the model with the library's own growing cache. ``step``: the engine's own forward
    pass. Both take the most probable token and look at nothing else. What prompts take is left out.
    """
    each = max(1, bench.setting.rows // len(questions))
    asked = [for_search(question, "decode") for question in questions]
    # Long enough for none to end early: the rows of all three loops stay the same.
    sampling = replace(bench.sampling, max_new_tokens=tokens)
    requests = [
        ContinuationRequest(
            prompt=question_text(one), image=one.image, prefix="", stops=(), seeds=tuple(range(each)), sampling=sampling
        )
        for one in asked
    ]
    short = [replace(one, sampling=replace(sampling, max_new_tokens=1)) for one in requests]
    asyncio.run(bench.engine.generate(short))
    seconds, made, lengths = [], [], []
    for asked_for in (short, requests):
        started = time.perf_counter()
        replies = asyncio.run(bench.engine.generate(asked_for))
        seconds.append(time.perf_counter() - started)
        lengths = [one.tokens for reply in replies for one in reply.continuations]
        made.append(sum(lengths))
    # The first token of each row comes with its prompt: what it takes is not the loop's.
    rate = (made[1] - made[0]) / (seconds[1] - seconds[0])
    library = library_loop(bench.model, bench.processor, asked, each, tokens)
    prompt = round(fmean(len(encode(bench.processor, question_text(one), has_image=True)) for one in asked))
    step = step_loop(bench.model, each * len(questions), prompt, tokens)
    return {
        "rows": each * len(questions),
        "tokens": tokens,
        "mean_length": fmean(lengths),
        "engine": rate,
        "library": library,
        "step": step,
        "share": rate / max(library, step),
    }


def measure(setting: Setting) -> dict[str, Any]:
    """All figures; says what it is at."""
    questions = make_questions(setting.questions + setting.many, seed=0, split="speed")
    few, many = questions[: setting.questions], questions[setting.questions :]
    bench = Bench(setting)
    try:
        _say("warming up")
        bench.published(2).answer(few[0])
        for way in WAYS:
            bench.timed(few[0], bench.search(2, way))
        _say(f"one question at a time, N=4, {len(few)} questions")
        single = one_question(bench, few)
        _say(f"{IN_FLIGHT} in flight, {len(many)} questions")
        many_at_once = in_flight(bench, many, single["published"]["seconds"])
        _say("latency over N")
        latency = curve(bench, few)
        _say("a bare decode loop")
        limit = [decode_limit(bench, few[:8], 64) for _ in range(7)]
        same = None
        if setting.budget is None:
            _say("greedy candidates, scripted judge")
            same = identical(bench, few)
    finally:
        bench.engine.close()
    return {
        "setting": {name: value for name, value in vars(setting).items() if name != "model"},
        "parameters": sum(p.numel() for p in bench.model.parameters()),
        "machine": machine(setting.device),
        "one question": single,
        "in flight": many_at_once,
        "curve": latency,
        "decode": sorted(limit, key=lambda one: one["share"])[len(limit) // 2],
        "identical": same,
    }


def machine(device: str) -> str:
    """What it ran on, in words."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    name = names[0].partition(":")[2].strip() if names else platform.processor()
    return f"{name}, {torch.get_num_threads()} torch thread"


def _say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", default="runs/quickstart/training/four-stage/model", help="what `make quickstart` left"
    )
    parser.add_argument("--random", choices=("tiny", "11b"), help="random weights instead, of this architecture")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--budget", type=int, default=64, help="tokens a candidate, with --random")
    parser.add_argument("--judge-budget", type=int, default=24, help="tokens a written verdict, with --random")
    parser.add_argument("--questions", type=int, default=12, help="one at a time")
    parser.add_argument("--many", type=int, default=96, help="for 32 in flight")
    parser.add_argument("--rows", type=int, default=64, help="of the decode loop")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        model = given.model if given.random is None else random_model(given.random, Path(folder))
        if not Path(model, "config.json").is_file():
            raise SystemExit(f"there is no model in {model}; run `make quickstart`, or name one with --model")
        found = measure(
            Setting(
                model=str(model),
                device=given.device,
                dtype=given.dtype,
                budget=given.budget if given.random else None,
                judge_budget=given.judge_budget if given.random else None,
                questions=given.questions,
                many=given.many,
                rows=given.rows,
            )
        )
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))
    print("\n" + page(found))


def random_model(kind: str, folder: Path) -> Path:
    """A folder with random weights: the tests' tiny model, or one with the layers of Llama-3.2-11B-Vision."""
    from actors.engines.tiny import build_tiny_mllama

    if kind == "tiny":
        build_tiny_mllama(folder)
    else:
        from benchmarks.eleven_b import build_11b

        build_11b(folder)
    return folder


if __name__ == "__main__":
    main()
