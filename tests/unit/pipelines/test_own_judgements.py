"""Judgements made of a model's own right and wrong answers."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_up import answer, best_of, candidate, question, write_results

from pipelines.judgements import JudgementForm
from pipelines.own_judgements import OwnJudgementConfig, export_own_judgements, own_pairs
from pipelines.schemas import read_rows, write_questions
from reasoning.errors import InputError, OutputMismatchError
from reasoning.prompts import judge_prompt, rating_prompt
from reasoning.search.config import PromptStyle
from reasoning.stages import FourStages, Stage
from reasoning.trace import Trace

ASKED = question(1)


def stages(caption: str, reasoning: str, conclusion: str) -> FourStages:
    return FourStages(summary="Count.", caption=caption, reasoning=reasoning, conclusion=conclusion)


def pool(*texts: str) -> Trace:
    candidates = tuple(candidate(f"S1.{number}", text) for number, text in enumerate(texts, start=1))
    return Trace(question_id="q1", strategy="self_consistency", candidates=candidates, comparisons=(), chosen=())


def test_each_pair_is_asked_whole_and_at_the_stage_in_which_the_two_part() -> None:
    right, wrong = stages("Three.", "1, 2, 3.", "3"), stages("Three.", "1, 2.", "2")
    whole, reasoning = own_pairs(ASKED, "own", pool(right.render(), wrong.render()), most=4)
    assert (whole.stage, whole.better, whole.worse) == (None, right.render(), wrong.render())
    assert (reasoning.stage, reasoning.better, reasoning.worse) == (Stage.REASONING, "1, 2, 3.", "1, 2.")
    assert reasoning.prior == {Stage.SUMMARY: "Count.", Stage.CAPTION: "Three."}


def test_where_captions_part_the_reasonings_behind_them_are_not_compared() -> None:
    right, wrong = stages("Three.", "1, 2, 3.", "3"), stages("Two.", "1, 2.", "2")
    assert [pair.stage for pair in own_pairs(ASKED, "own", pool(right.render(), wrong.render()), most=4)] == [
        None,
        Stage.CAPTION,
    ]


def test_texts_that_say_the_same_and_unusable_ones_count_once_and_not_at_all() -> None:
    right, wrong = stages("Three.", "1, 2, 3.", "3").render(), stages("Two.", "1, 2.", "2").render()
    pairs = own_pairs(ASKED, "own", pool(right, right, "no tags", wrong, wrong), most=9)
    assert len([pair for pair in pairs if pair.stage is None]) == 1
    assert own_pairs(ASKED, "own", pool(right, right), most=9) == []


def test_every_text_comes_up_about_equally_often() -> None:
    right = [stages("Three.", f"way {k}", "3") for k in range(2)]
    wrong = [stages("Three.", f"slip {k}", "2") for k in range(2)]
    pairs = own_pairs(ASKED, "own", pool(*(s.render() for s in right + wrong)), most=4)
    met = {(pair.better, pair.worse) for pair in pairs if pair.stage is None}
    assert met == {(a.render(), b.render()) for a in right for b in wrong}


def test_rows_are_worded_as_the_search_asks_and_the_better_text_stands_first_in_half(tmp_path: Path) -> None:
    asked = [question(number) for number in range(4)]
    answers = [answer(q, search="own", trace=best_of(["3", "2"], 0, number=i)) for i, q in enumerate(asked)]
    write_results(tmp_path / "scores", answers)
    write_questions(tmp_path / "questions", asked)
    summary = export_own_judgements(tmp_path / "scores", tmp_path / "questions", tmp_path / "rows")
    assert summary.questions == 4
    assert summary.rows == {"answer": 8, "conclusion": 8}
    rows = [row for path in sorted((tmp_path / "rows").glob("*.parquet")) for row in read_rows(path)]
    assert len({row["id"] for row in rows}) == len(rows) == 16
    whole = [row for row in rows if "/answer/choice/" in row["id"]]
    assert sorted(row["response"] for row in whole) == ["I choose response 1."] * 2 + ["I choose response 2."] * 2
    right = FourStages(summary="Count.", caption="Cubes.", reasoning="One, two.", conclusion="3").render()
    wrong = right.replace("> 3 <", "> 2 <")
    first = next(row for row in whole if row["response"].endswith("1."))
    compact = PromptStyle.COMPACT
    assert first["prompt"] == judge_prompt(compact, asked[0], None, {}, right, wrong, with_reason=False)
    rated = {row["prompt"]: row["response"] for row in rows if "/answer/rating/" in row["id"]}
    assert rated == {
        rating_prompt(compact, asked[0], None, {}, right): "yes",
        rating_prompt(compact, asked[0], None, {}, wrong): "no",
    }


def test_the_same_export_again_leaves_the_rows_and_another_is_refused(tmp_path: Path) -> None:
    asked = [question(0)]
    write_results(tmp_path / "scores", [answer(asked[0], search="own", trace=best_of(["3", "2"], 0, number=0))])
    write_questions(tmp_path / "questions", asked)
    where = (tmp_path / "scores", tmp_path / "questions", tmp_path / "rows")
    assert export_own_judgements(*where) == export_own_judgements(*where)
    with pytest.raises(OutputMismatchError):
        export_own_judgements(*where, OwnJudgementConfig(forms=(JudgementForm.CHOICE,)))


def test_a_run_in_which_nothing_can_be_compared_says_how_to_get_pairs(tmp_path: Path) -> None:
    write_results(tmp_path / "scores", [answer(ASKED, search="own", trace=best_of(["3", "3"], 0))])
    write_questions(tmp_path / "questions", [ASKED])
    with pytest.raises(InputError, match="several samples"):
        export_own_judgements(tmp_path / "scores", tmp_path / "questions", tmp_path / "rows")
