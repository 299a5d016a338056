"""How near annotation comes to what a teacher could answer, and what it takes.

``python -m benchmarks.annotate_throughput`` asks a loopback teacher that answers after a second: a
run of ``stagebeam annotate``'s own code, a plain loop over the openai package and Ray Data's HTTP
processor, one after another. ``--memory`` runs 10,000 and 100,000 rows against one that answers at
once, and compares the memory. It prints the page's figures.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from actors.governor import LimitsConfig
from actors.images import ImagePolicy, Reencode
from actors.teacher import TeacherConfig
from benchmarks.annotate_rows import REPLY, questions
from benchmarks.loopback_teacher import LoopbackTeacher, Seen
from pipelines.annotate import run_annotation
from pipelines.annotate_config import AnnotateConfig
from pipelines.schemas import write_questions
from reasoning.prompts import annotation_prompt

ROUNDS = 25
"""Calls of a run, for each that may be open."""
_SAMPLE_S = 0.1
_ACTOR = "ray::MapWorker"


@dataclass(kw_only=True)
class Watched:
    """What the processes of a run took."""

    actor_cpu: list[tuple[float, float]] = field(default_factory=list)
    """The time, and the CPU seconds that the actor had taken by then."""
    actor_rss: int = 0
    driver_rss: int = 0
    workers_rss: int = 0
    """The most that all of Ray's workers held at a time."""

    def actor_cpu_s(self, start: float, end: float) -> float:
        """What the actor took between two times: without its start."""
        inside = [spent for at, spent in self.actor_cpu if start <= at <= end]
        return inside[-1] - inside[0] if inside else 0.0

    def sizes(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in ("actor_rss", "driver_rss", "workers_rss")}


@contextmanager
def watching() -> Iterator[Watched]:
    """Samples this process and Ray's workers below it until the end of the ``with``."""
    seen, ended, me = Watched(), threading.Event(), psutil.Process()

    def sample() -> None:
        workers = 0
        for process in me.children(recursive=True):
            try:
                title, rss, times = " ".join(process.cmdline()), process.memory_info().rss, process.cpu_times()
            except psutil.Error:
                continue  # It has just ended.
            workers += rss if "ray::" in title else 0
            if _ACTOR in title:
                seen.actor_rss = max(seen.actor_rss, rss)
                seen.actor_cpu.append((time.monotonic(), times.user + times.system))
        seen.workers_rss = max(seen.workers_rss, workers)
        seen.driver_rss = max(seen.driver_rss, me.memory_info().rss)

    def keep_sampling() -> None:
        while not ended.wait(_SAMPLE_S):
            sample()

    thread = threading.Thread(target=keep_sampling, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def own_run(folder: Path, base_url: str, rows: int, in_flight: int) -> Watched:
    """``rows`` rows through ``run_annotation`` with one actor; pictures are encoded anew, replies verified."""
    config = AnnotateConfig(
        input=str(folder / "questions"),
        output=str(folder / "run"),
        teacher=TeacherConfig(
            base_url=base_url,
            model="loopback",
            max_in_flight=in_flight,
            image=ImagePolicy(reencode=Reencode.ALWAYS),
        ),
        limits=LimitsConfig(start_in_flight=in_flight, max_in_flight=in_flight),
    )
    with watching() as seen:
        summary = run_annotation(config)
    if summary.accepted != rows:
        raise SystemExit(f"{summary.accepted} of {rows} rows were accepted: {summary.rejected}")
    return seen


async def plain_loop(base_url: str, rows: int, in_flight: int) -> float:
    """The same prompts and pictures, as they are, by the package's default client; CPU seconds."""
    import openai

    left = iter(list(questions(rows)))
    async with openai.AsyncOpenAI(base_url=base_url, api_key="none") as client:

        async def ask_on() -> None:
            for question in left:
                await client.chat.completions.create(**_payload(question))

        started = time.process_time()
        await asyncio.gather(*(ask_on() for _ in range(in_flight)))
        return time.process_time() - started


def http_processor(base_url: str, rows: int, actors: int) -> None:
    """The same by ``ray.data.llm``, on a Ray of its own."""
    import ray
    from ray.data.llm import HttpRequestProcessorConfig, build_processor

    from cluster.connect import prepare_environment, ray_session

    prepare_environment()
    with ray_session(None, num_cpus=actors + 2):
        ray.data.DataContext.get_current().enable_progress_bars = False
        config = HttpRequestProcessorConfig(url=f"{base_url}/chat/completions", batch_size=8, concurrency=actors)
        processor = build_processor(
            config,
            preprocess=lambda row: {"payload": json.loads(row["payload"])},
            postprocess=lambda row: {"text": row["http_response"]["choices"][0]["message"]["content"]},
        )
        given = [{"payload": json.dumps(_payload(question))} for question in questions(rows)]
        texts = processor(ray.data.from_items(given, override_num_blocks=actors)).take_all()
    if len(texts) != rows:
        raise SystemExit(f"ray.data.llm answered {len(texts)} of {rows} rows")


def _payload(question: Any) -> dict[str, Any]:
    url = f"data:{question.image.media_type};base64,{base64.b64encode(question.image.data).decode()}"
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": annotation_prompt(question)}]
    return {"model": "loopback", "max_tokens": 2048, "messages": [{"role": "user", "content": content}]}


def throughput(in_flight: int, rounds: int) -> dict[str, Any]:
    """Our run and the plain loop at ``in_flight``, on one teacher."""
    rows = in_flight * rounds
    with tempfile.TemporaryDirectory() as name, LoopbackTeacher(REPLY) as teacher:
        folder = Path(name)
        write_questions(folder / "questions", questions(rows))
        teacher.seen()
        watched = own_run(folder, teacher.base_url, rows, in_flight)
        ours = teacher.seen()
        plain_cpu_s = asyncio.run(plain_loop(teacher.base_url, rows, in_flight))
        plain = teacher.seen()
    return {
        "in_flight": in_flight,
        "rows": rows,
        "ours": _figures(ours, in_flight)
        | {"cpu_ms": 1000 * watched.actor_cpu_s(ours.first, ours.last) / rows}
        | watched.sizes(),
        "plain": _figures(plain, in_flight) | {"cpu_ms": 1000 * plain_cpu_s / rows},
    }


def _figures(seen: Seen, in_flight: int) -> dict[str, Any]:
    return {
        "share": seen.rate / in_flight,
        "rate": seen.rate,
        "most_in_flight": seen.most_in_flight,
        "calls": seen.calls,
        "server_cpu_ms": 1000 * seen.cpu_s / max(1, seen.calls),
    }


def processor(actors: int = 4, rows: int = 64) -> dict[str, Any]:
    """Ray Data's processor; few rows, since it has as many calls open as actors."""
    with LoopbackTeacher(REPLY) as teacher:
        http_processor(teacher.base_url, rows, actors)
        seen = teacher.seen()
    return {"actors": actors, "rows": rows, "rate": seen.rate, "most_in_flight": seen.most_in_flight}


def memory(rows: int) -> dict[str, Any]:
    """One run against a teacher that answers at once, in this process."""
    with tempfile.TemporaryDirectory() as name, LoopbackTeacher(REPLY, latency_s=0.0) as teacher:
        folder = Path(name)
        # By a process of its own: what writing them takes is not the run's.
        code = "import sys; from benchmarks.annotate_throughput import write; write(sys.argv[1], int(sys.argv[2]))"
        subprocess.run([sys.executable, "-c", code, str(folder / "questions"), str(rows)], check=True)
        started = time.monotonic()
        watched = own_run(folder, teacher.base_url, rows, 64)
    return {"rows": rows, "seconds": time.monotonic() - started, **watched.sizes()}


def write(folder: str, rows: int) -> None:
    """Small pictures: it is the number of rows that counts."""
    write_questions(Path(folder), questions(rows, sides=(64,)))


def _memory_apart(rows: int) -> dict[str, Any]:
    """In a process of its own, so that each starts from nothing."""
    command = [sys.executable, "-m", "benchmarks.annotate_throughput", "--memory-run", str(rows)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def page(found: dict[str, Any]) -> str:
    """The figures as the page has them."""
    lines = [f"{found['date']}, {found['machine']}, load {found['load']:.1f} at the start.", ""]
    if found["throughput"]:
        lines += ["| calls open | way | calls a second | of the limit | CPU ms a call | RSS MB |"]
        lines += ["|---|---|---|---|---|---|"]
        for one in found["throughput"]:
            for name, label in (("ours", "stagebeam, an annotation actor"), ("plain", "openai, a plain loop")):
                way = one[name]
                rss = f"{way['actor_rss'] / 1e6:.0f}" if "actor_rss" in way else ""
                figures = f"{way['rate']:.1f} | {way['share']:.1%} | {way['cpu_ms']:.2f} | {rss}"
                lines.append(f"| {one['in_flight']} | {label} | {figures} |")
        http = found["processor"]
        label = f"ray.data.llm, HTTP processor, {http['actors']} actors"
        shares = f"{http['rate'] / 64:.1%} of 64, {http['rate'] / 256:.1%} of 256"
        lines.append(f"| {http['most_in_flight']} | {label} | {http['rate']:.1f} | {shares} | | |")
    for one in found["memory"]:
        lines.append(
            f"{one['rows']:,} rows in {one['seconds']:.0f} s: actor {one['actor_rss'] / 1e6:.0f} MB, driver "
            f"{one['driver_rss'] / 1e6:.0f} MB, all workers {one['workers_rss'] / 1e6:.0f} MB."
        )
    if len(found["memory"]) == 2:
        few, many = (one["driver_rss"] + one["workers_rss"] for one in found["memory"])
        lines.append(f"Driver and workers: {many / few:.3f} times as much for ten times the rows.")
    return "\n".join(lines)


def machine() -> str:
    """What it ran on, in words."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    name = names[0].partition(":")[2].strip() if names else platform.processor()
    return f"{name}, {os.cpu_count()} CPUs"


def _say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--in-flight", type=int, nargs="*", default=[64, 256], help="calls open at a time")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="calls of a run for each that may be open")
    parser.add_argument("--memory", action="store_true", help="the memory part instead")
    parser.add_argument("--rows", type=int, nargs=2, default=[10_000, 100_000], help="of the memory part")
    parser.add_argument("--memory-run", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    given = parser.parse_args()
    if given.memory_run:
        print(json.dumps(memory(given.memory_run)))
        return
    found: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "load": os.getloadavg()[0],
        "throughput": [],
        "processor": None,
        "memory": [],
    }
    if given.memory:
        for rows in given.rows:
            _say(f"{rows:,} rows")
            found["memory"].append(_memory_apart(rows))
    else:
        for in_flight in given.in_flight:
            _say(f"{in_flight} calls open")
            found["throughput"].append(throughput(in_flight, given.rounds))
        _say("ray.data.llm")
        found["processor"] = processor()
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))
    print(page(found))


if __name__ == "__main__":
    main()
