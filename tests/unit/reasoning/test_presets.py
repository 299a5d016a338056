"""Presets: what they settle, what lies over them, and what of the published faults they correct."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import TypeAdapter
from search_cases import search

from reasoning.errors import ConfigError
from reasoning.protocols import ContinuationRequest, Sampling
from reasoning.search.config import Pairing, PromptStyle, SearchConfig, SelectorKind, Strategy, UnreadableVerdict
from reasoning.search.presets import Preset, paper_search, preset_fields, with_preset
from reasoning.stages import STAGES, render_stage
from reasoning.testing import ScriptedEngine
from reasoning.trace import Verdict

SEARCH = TypeAdapter(SearchConfig)


def numbered(request: ContinuationRequest, index: int) -> str:
    assert request.stage is not None
    return render_stage(request.stage, f"{index}")


@pytest.mark.parametrize("preset", Preset)
def test_a_search_that_names_only_its_preset_is_that_search(preset: Preset) -> None:
    expected = {Preset.DEFAULT: SearchConfig(), Preset.PAPER: paper_search()}[preset]
    assert SEARCH.validate_python({"preset": preset.value}) == expected


def test_paper_is_the_published_search_with_its_faults_corrected() -> None:
    paper = paper_search(samples=10)
    assert (paper.strategy, paper.samples, paper.width) == (Strategy.STAGE_BEAM, 10, 1)
    assert (paper.sampling.temperature, paper.sampling.top_p) == (0.6, 0.9)
    assert (paper.selector, paper.pairing) == (SelectorKind.JUDGE_TEXT, Pairing.RANDOM_PAIRS)
    assert paper.check_reasoning
    assert paper.judge_both_orders
    assert paper.unreadable_verdict is UnreadableVerdict.NO_VOTE
    assert paper.repair_attempts == 1


def test_explicit_fields_lie_over_the_preset() -> None:
    found = SEARCH.validate_python({"preset": "paper", "samples": 10, "sampling": {"temperature": 1.0}, "seed": 3})
    assert found == replace(paper_search(10, seed=3), sampling=Sampling(temperature=1.0))


def test_a_preset_leaves_alone_what_belongs_to_the_model() -> None:
    settled = preset_fields(Preset.PAPER)
    assert not settled.keys() & {"prompt_style", "seed", "deadline_s", "token_budget", "repair_attempts"}
    assert "max_new_tokens" not in settled["sampling"]
    found = SEARCH.validate_python(
        {"preset": "paper", "prompt_style": "compact", "sampling": {"max_new_tokens": 9}},
    )
    assert (found.prompt_style, found.sampling) == (PromptStyle.COMPACT, Sampling(max_new_tokens=9))


def test_no_preset_and_a_made_search_pass_unchanged() -> None:
    assert with_preset({"preset": None, "samples": 2}) == {"samples": 2}
    made = SearchConfig(samples=3)
    assert SEARCH.validate_python(made) is made


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"SearchConfig\.preset is 'papre'; there are default, paper"):
        SEARCH.validate_python({"preset": "papre"})


def test_random_pairs_meet_one_after_another_and_the_best_still_wins() -> None:
    def taste(first: str, second: str) -> float:
        return float(int(first.split()[-1]) - int(second.split()[-1]))

    engine = ScriptedEngine(numbered, prefer=taste)
    found = search(engine, samples=5, pairing=Pairing.RANDOM_PAIRS)
    assert [c.text for c in found.trace.candidates if c.id in found.trace.chosen] == ["4"] * len(STAGES)
    for stage in STAGES:
        met = [one for one in found.trace.comparisons if one.stage is stage]
        assert len(met) == 4
        lost = {one.second if one.verdict is Verdict.FIRST else one.first for one in met}
        assert len(lost) == 4
    assert found.ledger.serial_steps == len(STAGES) * (1 + 4)
    again = search(ScriptedEngine(numbered, prefer=taste), samples=5, pairing=Pairing.RANDOM_PAIRS)
    assert again.trace == found.trace
    assert search(ScriptedEngine(numbered, prefer=taste), samples=5).ledger.serial_steps == len(STAGES) * (1 + 3)


@pytest.mark.parametrize(
    ("unreadable", "verdict"),
    [(UnreadableVerdict.NO_VOTE, Verdict.UNREADABLE), (UnreadableVerdict.RESPONSE_2, Verdict.SECOND)],
)
def test_an_unreadable_verdict_is_response_two_only_when_asked_for(
    unreadable: UnreadableVerdict, verdict: Verdict
) -> None:
    def write(request: ContinuationRequest, index: int) -> str:
        return "both are fine" if "Compare two responses" in request.prompt else numbered(request, index)

    found = search(
        ScriptedEngine(write),
        samples=2,
        selector=SelectorKind.JUDGE_TEXT,
        judge_both_orders=False,
        unreadable_verdict=unreadable,
    )
    assert [met.verdict for met in found.trace.comparisons] == [verdict] * len(STAGES)
    assert [met.unread for met in found.trace.comparisons] == [1] * len(STAGES)
    assert len(found.trace.notes) == (len(STAGES) if unreadable is UnreadableVerdict.NO_VOTE else 0)
