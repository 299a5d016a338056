"""What the search benchmarks rest on: both implementations do the same work, shared draws change nothing."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from actors.chat import encode, load_processor
from actors.engines.config import TransformersEngineConfig
from actors.engines.taught import QUESTION, build_taught_mllama
from actors.engines.transformers_engine import TransformersEngine
from benchmarks.noisy_oracle import NoisyOracle, is_right
from benchmarks.published import PublishedSearch
from benchmarks.search_quality_page import compare, points_of, within
from benchmarks.search_speed import vision_passes
from benchmarks.shared_draws import AsIfAlone, SharedDraws
from pipelines.answering import for_search
from reasoning.protocols import ChoiceRequest, ContinuationRequest, Engine, RewardRequest, Sampling
from reasoning.records import ImageRef, Question
from reasoning.search.config import PromptStyle, SearchConfig, SelectorKind, Strategy
from reasoning.search.result import SearchResult
from reasoning.search.run import run_search
from reasoning.stages import STAGES
from reasoning.testing import ScriptedEngine, reciting
from stagebeam.world.dataset import make_questions
from stagebeam.world.scene import describe
from stagebeam.world.teacher import Truth

SAMPLING = Sampling(temperature=0.9, top_p=0.95, max_new_tokens=48)
LONGER = ScriptedEngine(reciting("unused"), prefer=lambda a, b: float(len(a) - len(b)))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("taught")
    build_taught_mllama(folder)
    return folder


@pytest.fixture(scope="module")
def engine(model: Path) -> Iterator[TransformersEngine]:
    with TransformersEngine(TransformersEngineConfig(model=str(model))) as built:
        yield built


def question(color: str) -> Question:
    data = io.BytesIO()
    Image.new("RGB", (32, 32), color).save(data, "PNG")
    return Question(id=color, question=QUESTION, image=ImageRef(data=data.getvalue()))


def search(asked: Question, config: SearchConfig, generator: Engine, judge: Engine | None = None) -> SearchResult:
    return asyncio.run(
        run_search(asked, config, generator=generator, judge=judge or generator, clock=time.perf_counter)
    )


def test_the_published_search_and_ours_write_the_same_under_a_scripted_judge_and_greedy_sampling(
    model: Path, engine: TransformersEngine
) -> None:
    from transformers import AutoModelForImageTextToText

    greedy = replace(SAMPLING, temperature=0.0)
    published = PublishedSearch(
        AutoModelForImageTextToText.from_pretrained(model).eval(),
        load_processor(model),
        samples=3,
        sampling=greedy,
        style=PromptStyle.COMPACT,
        judge=lambda a, b: 1 if len(a) >= len(b) else 2,
    )
    for color in ("red", "white"):
        theirs = published.answer(question(color))
        with vision_passes() as seen:
            ours = search(question(color), SearchConfig(samples=3, sampling=greedy), engine, LONGER)
        assert ours.fault is None
        assert ours.text == theirs.text
        assert (sum(seen), ours.ledger.image_encodes) == (1, 1)
        assert theirs.counts.image_encodes == theirs.counts.calls == 3 * len(STAGES)


@pytest.mark.parametrize(
    "settings",
    [
        {"strategy": Strategy.GREEDY, "samples": 1},
        {"strategy": Strategy.SELF_CONSISTENCY, "samples": 4},
        {"strategy": Strategy.BEST_OF_N, "samples": 4, "selector": SelectorKind.PROBABILITY},
        {"strategy": Strategy.STAGE_BEAM, "samples": 4, "selector": SelectorKind.LIKELIHOOD},
        {"strategy": Strategy.STAGE_BEAM, "samples": 4},
    ],
    ids=lambda settings: f"{settings['strategy']}-{settings.get('selector', 'judge')}",
)
def test_a_search_on_shared_draws_answers_and_costs_as_one_by_itself(
    engine: TransformersEngine, model: Path, settings: dict[str, object]
) -> None:
    processor = load_processor(model)

    def ids_of(request: ContinuationRequest | ChoiceRequest, text: str) -> list[int]:
        prefix = request.prefix + text
        return encode(processor, request.prompt, prefix=prefix, has_image=request.image is not None)

    asked = question("blue")
    config = SearchConfig(prompt_style=PromptStyle.COMPACT, sampling=SAMPLING, **settings)  # type: ignore[arg-type]
    draws = SharedDraws(engine)
    # Another search first: what it drew must not look like this one's work, nor its costs be missing here.
    search(asked, replace(config, strategy=Strategy.SELF_CONSISTENCY, samples=8), AsIfAlone(draws, ids_of))
    shared = search(asked, config, AsIfAlone(draws, ids_of))
    alone = search(for_search(asked, str(settings)), config, engine)
    assert shared.text == alone.text
    assert shared.ledger.generated_tokens == alone.ledger.generated_tokens
    assert shared.ledger.prompt_tokens == alone.ledger.prompt_tokens
    assert shared.ledger.image_encodes == alone.ledger.image_encodes == 1
    assert (shared.ledger.judge_tokens > 0) == (alone.ledger.judge_tokens > 0)
    if config.selector is not SelectorKind.JUDGE_LOGPROB:
        # Judge prompts of one batch that share fewer than 16 new tokens the engine runs side by side.
        assert shared.ledger.computed_tokens == alone.ledger.computed_tokens


def test_an_oracle_knows_the_scene_and_errs_as_often_as_it_is_told() -> None:
    [asked] = make_questions(1, seed=0, split="oracle")
    assert asked.image is not None
    assert asked.image.data is not None
    info = Image.open(io.BytesIO(asked.image.data)).info
    truth = Truth.from_json(next(v for v in info.values() if isinstance(v, str) and v.startswith("{")))
    caption = describe(sorted(truth.scene.things, key=lambda thing: (thing.row, thing.column)))
    assert is_right(asked, STAGES[1], caption)
    assert not is_right(asked, STAGES[1], caption + " more")
    assert is_right(asked, STAGES[2], f"Looking. So {asked.answer}.")
    assert is_right(asked, STAGES[3], str(asked.answer))

    def wins(accuracy: float) -> float:
        oracle = NoisyOracle(accuracy, seed=0)
        texts = [(str(asked.answer) + " " * k, "neither" + " " * k) for k in range(1500)]
        requests = [
            RewardRequest(question=asked, stage=STAGES[3], prior={}, text=text) for pair in texts for text in pair
        ]
        scores = [reply.score for reply in asyncio.run(oracle.reward(requests))]
        return sum(a > b for a, b in zip(scores[::2], scores[1::2], strict=True)) / len(texts)

    assert wins(1.0) == 1
    # 1,500 pairs: three standard errors are 3.5 points.
    assert abs(wins(0.7) - 0.7) < 0.035


def row(name: str, method: str, size: int, *, is_right: bool, tokens: int, seed: int = 0) -> dict[str, object]:
    return {
        "question": name, "method": method, "size": size, "is_right": is_right, "computed_tokens": tokens,
        "judge_tokens": 0, "serial_steps": 1, "seed": seed,
    }  # fmt: skip


def test_budgets_take_the_largest_size_they_pay_and_differences_are_paired_by_question() -> None:
    rows = [row(f"q{i}", "greedy", 1, is_right=i < 5, tokens=100) for i in range(10)]
    for size in (2, 4):
        for seed in (0, 1):
            rows += [
                row(f"q{i}", "vote", size, is_right=i < 6 or seed == 0, tokens=100 * size, seed=seed) for i in range(10)
            ]
    points = points_of(rows)
    [greedy] = [point for point in points if point.method == "greedy"]
    two = within(points, "vote", 2)
    assert two is not None
    assert (two.size, two.cost, two.accuracy) == (2, 2.0, pytest.approx(0.8))
    assert within(points, "vote", 1) is None
    largest = within(points, "vote", 16)
    assert largest is not None
    assert largest.size == 4
    mean, half, p = compare(greedy, two)
    # Differences: 0 five times, 1 once, 0.5 four times.
    assert mean == pytest.approx(0.3)
    assert half == pytest.approx(1.96 * 0.3496 / 10**0.5, rel=1e-3)
    assert p == pytest.approx(0.0067, abs=2e-4)
