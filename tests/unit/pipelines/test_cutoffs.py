"""Cutoffs from scored trees: what is fitted, what it would have done, what speaks against it."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from annotation_cases import QUESTION

from actors.rewards.calibration import Calibration, calibrated, differences, read_calibration, write_calibration
from pipelines.answers import Answer
from pipelines.calibrate import CalibrateConfig, effects_table, stages_table
from pipelines.cutoffs import Finished, ScoredTree, cautions, drawing_search, effect, fit, scored_tree
from reasoning.calibration import CutoffMethod
from reasoning.errors import ConfigError, InputError
from reasoning.ledger import Ledger
from reasoning.protocols import StopReason
from reasoning.search.config import Retrace, ScorerKind, SearchConfig, Strategy
from reasoning.stages import Stage
from reasoning.trace import Candidate, Trace

SEARCH = SearchConfig(scorer=ScorerKind.RATING, retrace=Retrace(finalists=2))


def tree(*ends: tuple[float, float | None, bool | None]) -> ScoredTree:
    reasonings = tuple(Finished(score=score, answer_score=end, is_right=is_right) for score, end, is_right in ends)
    return ScoredTree(scores={"REASONING": tuple(one.score for one in reasonings)}, reasonings=reasonings)


TREES = (
    tree((0.9, 0.2, False), (0.8, 0.7, True), (0.1, 0.9, False)),
    tree((0.5, None, True), (0.4, None, None)),
    tree((0.7, 0.1, False)),
    ScoredTree(scores={}, reasonings=()),
)


def fitted(**changes: Any) -> Calibration:
    settings: dict[str, Any] = {
        "share": 0.6,
        "method": CutoffMethod.QUANTILE,
        "splits": {"val": 4},
        "made_with": {"model": "m"},
        "described": {},
    }
    return fit(TREES, SEARCH, **(settings | changes))


def test_the_effect_of_a_cutoff_is_that_of_the_search_after_one_round() -> None:
    found = effect(TREES, SEARCH.retrace, 0.5, 0.45)
    assert (found.retraced, found.questions) == (3, 4), "one question's second best reasoning lies above"
    # Of its two best reasonings the better answer is right, though the third's answer scores highest.
    assert (found.right_stopped, found.graded_stopped) == (1, 1)
    assert (found.right_retraced, found.graded_retraced) == (1, 2)


def test_a_fit_tells_where_the_cutoff_lies_and_how_well_scores_tell_right_from_wrong() -> None:
    found = fitted()
    assert found.cutoff == pytest.approx(0.7)
    assert [one.cutoff for one in found.effects if one.share == found.share] == [found.cutoff]
    assert found.right_above_wrong == pytest.approx(0.5)
    assert (found.expected.count, found.expected.scorer) == (6, ScorerKind.RATING)
    assert found.stages["REASONING"].quantiles["0.5"] == pytest.approx(0.6)
    assert stages_table(found).rows[0][:2] == ("reasoning", "6")
    [marked] = [row for row in effects_table(found).rows if row[0].startswith("→")]
    assert marked[:3] == ("→ 60%", "0.7", "75%")
    with pytest.raises(InputError, match="no reasoning got a score"):
        fit(TREES[-1:], SEARCH, share=0.6, method=CutoffMethod.NORMAL, splits={}, made_with={}, described={})


def test_a_tree_reads_scores_and_grades_from_the_trace() -> None:
    def candidate(name: str, parent: str | None, stage: Stage, text: str, score: float | None) -> Candidate:
        return Candidate(
            id=name,
            parent=parent,
            stage=stage,
            text=text,
            stop=StopReason.TAG,
            tokens=1,
            logprob=0.0,
            seed=1,
            score=score,
        )

    right = QUESTION.answer or ""
    trace = Trace(
        question_id=QUESTION.id,
        strategy="swires",
        candidates=(
            candidate("S2.1", None, Stage.CAPTION, "c", 0.3),
            candidate("S3.1", "S2.1", Stage.REASONING, "r", 0.6),
            candidate("S3.2", "S2.1", Stage.REASONING, "s", 0.4),
            candidate("S3.3", "S2.1", Stage.REASONING, "unscored", None),
            candidate("S3.4", "S2.1", Stage.REASONING, "r", 0.6),
            candidate("S4.1", "S3.1", Stage.CONCLUSION, right, 0.8),
        ),
    )
    answer = Answer(
        question=QUESTION, search="x", strategy="swires", conclusion=None, is_correct=None, fault=None,
        trace=trace.to_json(), ledger=Ledger(), error=None, error_type=None,
    )  # fmt: skip
    found = scored_tree(answer)
    assert found.scores == {"CAPTION": (0.3,), "REASONING": (0.6, 0.4, 0.6), "answer": (0.8,)}
    assert found.reasonings == (
        Finished(score=0.6, answer_score=0.8, is_right=True),
        Finished(score=0.4, answer_score=None, is_right=None),
        Finished(score=0.6, answer_score=None, is_right=None, is_double=True),
    )
    assert scored_tree(replace(answer, trace=None)).reasonings == ()


def test_evaluation_sets_and_scorers_that_say_nothing_are_warned_of() -> None:
    texts = " ".join(cautions(fitted(splits={"test": 3, "train": 1}), ["MM-Vet", "clevr"]))
    assert "fitted on split 'test', benchmark 'MM-Vet'" in texts
    assert "only 6 reasonings" in texts
    assert "no better than chance" in texts
    assert len(cautions(fitted(splits={"train": 4}), ["clevr"])) == 2


def test_drawing_takes_one_round_in_which_all_is_scored_and_concluded() -> None:
    search = replace(SEARCH, deadline_s=3.0, token_budget=5, retrace=Retrace(captions=6, rounds=5, cutoff=0.9))
    drawn = drawing_search(search)
    assert (drawn.strategy, drawn.judge_fallback) == (Strategy.SWIRES, False)
    assert (drawn.deadline_s, drawn.token_budget) == (None, None)
    assert (drawn.retrace.rounds, drawn.retrace.finalists, drawn.retrace.captions) == (1, 6, 6)


def test_the_file_comes_back_and_is_taken_by_searches_with_its_scorer(tmp_path: Path) -> None:
    file = tmp_path / "calibration.json"
    write_calibration(file, fitted())
    assert read_calibration(file) == fitted()
    searches = {"a": SEARCH, "b": replace(SEARCH, scorer=ScorerKind.LIKELIHOOD)}
    found = calibrated(searches, fitted(), source=file)
    assert found["a"].retrace.cutoff == fitted().cutoff
    assert asdict(found["b"]) == asdict(searches["b"])
    with pytest.raises(ConfigError, match="scores by 'rating', and no search scores by it"):
        calibrated({"b": searches["b"]}, fitted(), source=file)
    file.write_text('{"cutoff": "high"}')
    with pytest.raises(InputError, match="no file of `stagebeam calibrate`"):
        read_calibration(file)
    with pytest.raises(InputError, match="cannot be read"):
        read_calibration(tmp_path / "none.json")
    assert differences({"model": "a", "dtype": "f"}, {"model": "b", "dtype": "f", "reward": None}) == ["model"]


def test_a_reward_model_that_is_wanted_and_not_configured_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"CalibrateConfig\.search\.scorer is 'reward'"):
        CalibrateConfig(input="q", output="o", model="m", search=SearchConfig(scorer=ScorerKind.REWARD))
