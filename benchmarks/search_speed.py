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

from actors.chat import encode, image_facts, load_processor
from actors.engines.config import TransformersEngineConfig
from actors.engines.families import build_family
from actors.engines.families.base import Step
from actors.engines.kv import KvRows
from actors.engines.transformers_engine import TransformersEngine
from actors.images import load_image
from benchmarks.fixed_budget import FixedBudget
from benchmarks.published import Judge, PublishedSearch
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
PUBLISHED_CURVE = {1: 1.0, 2: 5.3, 3: 10.1, 4: 14.2}
"""Time a question by N, from LlamaV-o1's measurements on MM-Vet with one A100."""
IN_FLIGHT = 32
WAYS = {
    "published selector": "verdicts in writing, one order, reasonings checked: the published search's work",
    "log-probability verdicts": "both orders, one forward pass each",
    "default": "the likeliest, no judge",
}


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
    library = _library_loop(bench, asked, each, tokens)
    prompt = round(fmean(len(encode(bench.processor, question_text(one), has_image=True)) for one in asked))
    step = _step_loop(bench, each * len(questions), prompt, tokens)
    return {
        "rows": each * len(questions),
        "tokens": tokens,
        "mean_length": fmean(lengths),
        "engine": rate,
        "library": library,
        "step": step,
        "share": rate / max(library, step),
    }


def _step_loop(bench: Bench, rows: int, prompt: int, steps: int) -> float:
    """Rows x steps a second of the engine's forward pass alone, over buffers of zeros."""
    family = build_family(bench.model)
    device = family.kv_shape.device
    kv, images = KvRows(family.kv_shape, rows, prompt + steps), family.new_image_slots(rows)
    token = torch.zeros(rows, 1, dtype=torch.long, device=device)
    last = torch.zeros(rows, dtype=torch.long, device=device)
    started = 0.0
    with torch.inference_mode():
        for column in range(prompt, prompt + steps):
            step = Step(
                ids=token, positions=torch.full((rows, 1), column, device=device), last=last, columns=column + 1
            )
            token = family.forward(step, kv, images).argmax(-1, keepdim=True)
            # The first step is a warm-up.
            started = started or time.perf_counter()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return rows * (steps - 1) / (time.perf_counter() - started)


def _library_loop(bench: Bench, questions: Sequence[Question], each: int, steps: int) -> float:
    """Rows x steps a second of the model's own forward pass in one static batch."""
    from transformers import DynamicCache

    device = bench.model.device
    rows = [question for question in questions for _ in range(each)]
    ids = [encode(bench.processor, question_text(one), has_image=True) for one in rows]
    width = max(map(len, ids))
    pad = bench.processor.tokenizer.pad_token_id
    batch = torch.tensor([[pad] * (width - len(row)) + row for row in ids], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids], device=device)
    facts = [image_facts(bench.processor, load_image(one.image)) for one in rows if one.image is not None]
    images = {name: torch.cat([one.tensors[name] for one in facts]).to(device) for name in facts[0].tensors}
    images["pixel_values"] = images["pixel_values"].to(bench.model.dtype)
    tiles = torch.tensor([one.tiles for one in facts], device=device)
    seen = tiles[:, None, None, :].expand(-1, width, 1, -1)
    cache = DynamicCache(config=bench.model.config)
    with torch.inference_mode():
        made = bench.model(
            input_ids=batch,
            attention_mask=mask,
            cross_attention_mask=seen,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            **images,
        )
        token = made.logits[:, -1].argmax(-1, keepdim=True)
        started = time.perf_counter()
        for _ in range(steps - 1):
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
            made = bench.model(
                input_ids=token,
                attention_mask=mask,
                cross_attention_mask=seen[:, -1:],
                past_key_values=cache,
                use_cache=True,
            )
            token = made.logits[:, -1].argmax(-1, keepdim=True)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return len(rows) * (steps - 1) / (time.perf_counter() - started)


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


def page(found: dict[str, Any]) -> str:
    """The figures in Markdown."""
    single, flight, decode = found["one question"], found["in flight"], found["decode"]
    published = single["published"]
    lines = [
        f"{found['parameters'] / 1e6:,.1f} M parameters, {found['setting']['dtype']}, {found['machine']}.",
        "",
        "| N=4, one question at a time | seconds | faster | image encodes | serial steps |",
        "|---|---|---|---|---|",
        f"| published, {published['calls']:.1f} `generate` calls | {published['seconds']:.3f} | 1 "
        f"| {published['image_encodes']:.1f} | {published['calls']:.1f} |",
    ]
    for name, said in WAYS.items():
        own = single[name]
        lines.append(
            f"| stagebeam, {name}: {said} | {own['seconds']:.3f} | {own['ratio']:.1f}× | {own['image_encodes']:.1f} "
            f"| {own['serial_steps']:.1f} |"
        )
    lines += [
        "",
        f"With {IN_FLIGHT} questions in flight: "
        + "; ".join(
            f"{name}, {one['questions_per_second']:.2f} questions a second, {one['ratio']:.1f}× the published"
            for name, one in flight.items()
        )
        + ".",
        "",
        "| N | " + " | ".join(str(n) for n in found["curve"]) + " |",
        "|---|" + "---|" * len(found["curve"]),
        "| published elsewhere | " + " | ".join(str(PUBLISHED_CURVE.get(int(n), "")) for n in found["curve"]) + " |",
    ]
    for name in WAYS:
        lines.append(
            f"| stagebeam, {name} | " + " | ".join(f"{one[name]:.2f}" for one in found["curve"].values()) + " |"
        )
    lines += [
        "",
        f"Decoding {decode['rows']} rows for {decode['tokens']} tokens, sampled, stops looked for: "
        f"{decode['engine']:,.0f} tokens a second. Bare loops of the same rows that take the most probable token: the "
        f"library's {decode['library']:,.0f}, the engine's own step {decode['step']:,.0f}. "
        f"That is {100 * decode['share']:.0f} % of the faster.",
    ]
    if found["identical"] is not None:
        same = found["identical"]
        lines += [
            "",
            f"Greedy candidates and a scripted judge: {same['same']} of {same['questions']} answers identical to the "
            f"letter, {same['image_encodes'] / same['questions']:.0f} image encode a question (counted at the vision "
            "tower).",
        ]
    return "\n".join(lines)


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
