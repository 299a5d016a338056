"""Accuracy against compute: every strategy and selector on the embedded world, at equal budgets.

``python -m benchmarks.search_quality run`` answers fresh questions with every search of the grid and
writes a row for each answer; run again it goes on where it stopped. ``report`` makes the page.
``run --check N`` also runs the searches of N questions alone and compares answers and costs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.noisy_oracle import NoisyOracle
from reasoning.grading import is_correct
from reasoning.protocols import ChoiceRequest, ContinuationRequest, Engine, Sampling
from reasoning.records import Question
from reasoning.search.config import PromptStyle, Retrace, ScorerKind, SearchConfig, SelectorKind, Strategy
from reasoning.search.run import run_search

SPLIT = "quality"
"""No part of the quickstart sees these scenes."""
CHUNK = 16
ORACLES = (0.6, 0.7, 0.8, 1.0)
SELF, OWN = "self", "own"
"""Judges: the searched model itself; a copy that was trained further on the model's own answers."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One search of the grid."""

    method: str
    """Its curve."""
    size: int
    judge: str
    search: SearchConfig

    @property
    def name(self) -> str:
        return f"{self.method} {self.size}"


# A table in code, longer than a function may be: cut in parts it could not be read down.
def grid(judges: Sequence[str]) -> Iterator[Entry]:
    """Every search; the judge's name stands in the method's where one is asked."""
    base = SearchConfig(
        strategy=Strategy.GREEDY,
        samples=1,
        prompt_style=PromptStyle.COMPACT,
        sampling=Sampling(temperature=0.6, top_p=0.9, max_new_tokens=320),
    )
    whole = replace(base, strategy=Strategy.BEST_OF_N)
    beam = replace(base, strategy=Strategy.STAGE_BEAM)
    warm = replace(base.sampling, temperature=0.9)

    def entry(method: str, size: int, search: SearchConfig, judge: str = SELF, **settings: Any) -> Entry:
        return Entry(method=method, size=size, judge=judge, search=replace(search, **settings))

    def judged(kind: SelectorKind, scorer: ScorerKind = ScorerKind.RATING) -> dict[str, Any]:
        return {"selector": kind, "scorer": scorer}

    yield entry("greedy", 1, base)
    for n in (1, 2, 4, 8, 16):
        yield entry("vote", n, base, strategy=Strategy.SELF_CONSISTENCY, samples=n)
    for n in (2, 4, 8, 16):
        yield entry("best of N, likelihood", n, whole, samples=n, selector=SelectorKind.LIKELIHOOD)
        yield entry("probability", n, whole, samples=n, selector=SelectorKind.PROBABILITY)
    yield entry("probability, T 0.9", 4, whole, samples=4, selector=SelectorKind.PROBABILITY, sampling=warm)
    yield entry("vote, T 0.9", 4, base, strategy=Strategy.SELF_CONSISTENCY, samples=4, sampling=warm)
    for n in (4, 8):
        yield entry("stage beam, likelihood", n, beam, samples=n, selector=SelectorKind.LIKELIHOOD)
    for n in (2, 4, 8):
        yield entry("stage beam, probability", n, beam, samples=n, selector=SelectorKind.PROBABILITY)
    for judge in judges:
        label = f"{judge} judge"
        for n in (2, 3, 6, 12):
            yield entry(f"best of N, {label}", n, whole, judge, samples=n)
        for n in (2, 4, 8):
            for name, kind in (
                ("best of N", SelectorKind.SCORE),
                ("weighted vote", SelectorKind.WEIGHTED_VOTE),
                ("posterior", SelectorKind.POSTERIOR),
            ):
                yield entry(f"{name}, {label}, rating", n, whole, judge, samples=n, **judged(kind))
        for n in (4, 8):
            for name, kind in (("weighted vote", SelectorKind.WEIGHTED_VOTE), ("posterior", SelectorKind.POSTERIOR)):
                pairs = judged(kind, ScorerKind.ROUND_ROBIN)
                yield entry(f"{name}, {label}, all pairs", n, whole, judge, samples=n, **pairs)
        for n in (2, 4, 8):
            yield entry(f"stage beam, {label}", n, beam, judge, samples=n)
        if judge == SELF:
            written = {"selector": SelectorKind.JUDGE_TEXT}
            yield entry(f"best of N, {label}, in writing", 3, whole, judge, samples=3, **written)
            yield entry(f"stage beam, {label}, in writing", 4, beam, judge, samples=4, **written)
        yield entry(f"sentence beam, {label}", 2, beam, judge, samples=2, strategy=Strategy.SENTENCE_BEAM)
    # What differs in its tree alone is asked of one judge: each tree is drawn anew.
    judge, label = judges[-1], f"{judges[-1]} judge"
    yield entry(f"stage beam, {label}, rating", 4, beam, judge, samples=4, **judged(SelectorKind.SCORE))
    for n in (4, 8):
        yield entry(f"stage beam, {label}, posterior", n, beam, judge, samples=n, **judged(SelectorKind.POSTERIOR))
    yield entry(f"stage beam, width 2, {label}", 4, beam, judge, samples=4, width=2)
    yield entry(f"stage beam, 1-N-N-1, {label}", 4, beam, judge, samples=4, samples_by_stage=(1, 4, 4, 1))
    yield entry(f"stage beam, T 0.9, {label}", 4, beam, judge, samples=4, sampling=warm)
    yield entry(f"subtrees, {label}", 4, beam, judge, samples=4, strategy=Strategy.SUBTREES, subtrees=2)
    yield entry(f"sentence beam, {label}", 4, beam, judge, samples=4, strategy=Strategy.SENTENCE_BEAM)
    retrace = Retrace(captions=4, kept=2, rounds=3, finalists=2, cutoff=0.5)
    swires = {"strategy": Strategy.SWIRES, "scorer": ScorerKind.RATING, "retrace": retrace}
    yield entry(f"SWIRES, {label}, rating", 4, beam, judge, samples=4, **swires)
    for accuracy in ORACLES:
        scored = judged(SelectorKind.SCORE, ScorerKind.REWARD)
        label = f"oracle right for {100 * accuracy:.0f} % of pairs"
        yield entry(f"best of N, {label}", 4, whole, samples=4, **scored)
        yield entry(f"stage beam, {label}", 4, beam, samples=4, **scored)


@dataclass(frozen=True, kw_only=True)
class Job:
    """Questions [start, stop) with one seed."""

    start: int
    stop: int
    seed: int
    models: dict[str, str]
    check: int
    only: str = ""
    """Methods whose name holds this."""

    @property
    def key(self) -> str:
        return f"{self.start}-{self.stop}-{self.seed}" + ("-" + self.only.replace(" ", "_") if self.only else "")


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What a process keeps between jobs."""

    engines: dict[str, Engine]
    processor: Any


_LOADED: list[Loaded] = []


def _loaded(models: dict[str, str]) -> Loaded:
    if not _LOADED:
        from actors.chat import load_processor
        from actors.engines.transformers_engine import TransformersEngine, TransformersEngineConfig

        engines: dict[str, Engine] = {
            name: TransformersEngine(TransformersEngineConfig(model=model)) for name, model in models.items()
        }
        _LOADED.append(Loaded(engines=engines, processor=load_processor(models[SELF])))
    return _LOADED[0]


def work(job: Job) -> tuple[str, list[dict[str, Any]]]:
    """Answer a job's questions with every search, in this process."""
    return job.key, asyncio.run(_answer_all(job))


async def _answer_all(job: Job) -> list[dict[str, Any]]:
    from stagebeam.world.dataset import make_questions

    loaded = _loaded(job.models)
    questions = make_questions(job.stop, seed=0, split=SPLIT)[job.start : job.stop]
    entries = [entry for entry in grid(list(job.models)) if job.only in entry.method]
    rows = await asyncio.gather(
        *(
            _answer(loaded, question, entries, job.seed, is_checked=job.start + i < job.check)
            for i, question in enumerate(questions)
        )
    )
    return [row for found in rows for row in found]


async def _answer(
    loaded: Loaded, question: Question, entries: Sequence[Entry], seed: int, *, is_checked: bool
) -> list[dict[str, Any]]:
    from actors import chat
    from benchmarks.shared_draws import AsIfAlone, SharedDraws

    @cache
    def ids_of(prompt: str, prefix: str, has_image: bool) -> list[int]:
        return chat.encode(loaded.processor, prompt, prefix=prefix, has_image=has_image)

    def encode(request: ContinuationRequest | ChoiceRequest, text: str) -> list[int]:
        return ids_of(request.prompt, request.prefix + text, request.image is not None)

    draws = {name: SharedDraws(engine) for name, engine in loaded.engines.items()}
    rows = []
    for entry in entries:
        search = replace(entry.search, seed=seed)
        writer = AsIfAlone(draws[SELF], encode)
        judge: Engine = writer if entry.judge == SELF else AsIfAlone(draws[entry.judge], encode)
        row = await _row(question, entry, search, writer, judge)
        if is_checked:
            row["alone"] = await _alone(loaded, question, entry, search)
        rows.append(row)
    return rows


async def _row(question: Question, entry: Entry, search: SearchConfig, writer: Engine, judge: Engine) -> dict[str, Any]:
    accuracy = next((known for known in ORACLES if f" {100 * known:.0f} % of pairs" in entry.method), None)
    oracle = NoisyOracle(accuracy, search.seed) if accuracy is not None else None
    result = await run_search(question, search, generator=writer, judge=judge, rewarder=oracle, clock=time.monotonic)
    return {
        "question": question.id,
        "family": question.meta["family"],
        "seed": search.seed,
        "method": entry.method,
        "size": entry.size,
        "is_right": result.conclusion is not None and is_correct(question, result.conclusion),
        "computed_tokens": result.ledger.computed_tokens,
        "judge_tokens": result.ledger.judge_tokens,
        "generated_tokens": result.ledger.generated_tokens,
        "serial_steps": result.ledger.serial_steps,
        "image_encodes": result.ledger.image_encodes,
        "conclusion": result.conclusion,
    }


async def _alone(loaded: Loaded, question: Question, entry: Entry, search: SearchConfig) -> dict[str, Any]:
    """The same search by the engines themselves, with a picture key that they have not seen."""
    from pipelines.answering import for_search

    own = for_search(question, f"{entry.name}/{search.seed}/{time.monotonic()}")
    row = await _row(own, entry, search, loaded.engines[SELF], loaded.engines[entry.judge])
    return {"conclusion": row["conclusion"], "computed_tokens": row["computed_tokens"]}


def run(arguments: argparse.Namespace) -> None:
    """Answer what is not answered yet."""
    output = Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    models = {SELF: arguments.model} | ({OWN: arguments.judge} if arguments.judge else {})
    entries = [asdict(entry) for entry in grid(list(models)) if arguments.only in entry.method]
    if not entries:
        raise SystemExit(f"no method of the grid holds {arguments.only!r}")
    name = "settings" + ("-" + arguments.only.replace(" ", "_") if arguments.only else "")
    _keep_settings(output / f"{name}.json", {"models": models, "entries": entries})
    jobs = [
        Job(
            start=start,
            stop=min(start + CHUNK, arguments.questions),
            seed=seed,
            models=models,
            check=arguments.check,
            only=arguments.only,
        )
        for start in range(0, arguments.questions, CHUNK)
        for seed in range(arguments.seeds)
    ]
    done = {path.stem for path in output.glob("*-*-*.jsonl")}
    left = [job for job in jobs if job.key not in done]
    print(f"{len(jobs) - len(left)} of {len(jobs)} parts are there", flush=True)
    started = time.monotonic()
    with ProcessPoolExecutor(arguments.processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        for number, future in enumerate(as_completed([pool.submit(work, job) for job in left]), start=1):
            key, rows = future.result()
            part = output / f"{key}.tmp"
            part.write_text("".join(json.dumps(row) + "\n" for row in rows))
            part.rename(output / f"{key}.jsonl")
            each = (time.monotonic() - started) / number
            print(f"{number} of {len(left)} parts, {each * (len(left) - number) / 60:.0f} min left", flush=True)


def _keep_settings(path: Path, settings: dict[str, Any]) -> None:
    text = json.dumps(settings, indent=1, default=str)
    if path.exists() and path.read_text() != text:
        raise SystemExit(f"{path} is of another run: other models or another grid; take another --output")
    path.write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    runs = commands.add_parser("run", help="answer the questions")
    runs.add_argument("--model", default="runs/quickstart/training/four-stage/model", help="the model that is searched")
    runs.add_argument("--judge", help="a judge trained on the model's own answers")
    runs.add_argument("--questions", type=int, default=1000)
    runs.add_argument("--seeds", type=int, default=3)
    runs.add_argument("--processes", type=int, default=2)
    runs.add_argument(
        "--only", default="", metavar="TEXT", help="only methods whose name holds it, into the same folder"
    )
    runs.add_argument("--check", type=int, default=0, metavar="N", help="run the first N questions' searches alone too")
    runs.add_argument("--output", default="runs/search-quality")
    runs.set_defaults(do=run)
    reports = commands.add_parser("report", help="write the page")
    reports.add_argument("--output", default="runs/search-quality", help="what `run` wrote")
    reports.add_argument("--page", default="benchmarks/search_quality.md")
    reports.set_defaults(do=report)
    arguments = parser.parse_args()
    arguments.do(arguments)


def report(arguments: argparse.Namespace) -> None:
    """Tables and chart from the rows."""
    from benchmarks.search_quality_page import write_page

    write_page(Path(arguments.output), Path(arguments.page))


if __name__ == "__main__":
    main()
