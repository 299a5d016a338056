"""Judgements: both places in balance, the right hints, reasons from the notes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from annotation_cases import FLAWED, GOOD, QUESTION

from pipelines.judgements import FlawedAnswer, JudgementConfig, JudgementForm, judgement_rows, parse_flawed
from reasoning.parsing import FaultKind, ParseFault
from reasoning.prompts import side_by_side
from reasoning.records import RowKind, TrainingRow
from reasoning.search.config import PromptStyle
from reasoning.stages import Stage
from reasoning.testing import judged_texts
from reasoning.trace import Verdict
from reasoning.verdicts import parse_verdict

NOTES = (
    "<NOTES> summary: cubes are asked for; caption: they are cubes; reasoning: there are two; "
    "conclusion: it says two. </NOTES>"
)


def flawed(reply: str = f"{FLAWED.render()}\n\n{NOTES}") -> FlawedAnswer:
    found = parse_flawed(reply)
    assert isinstance(found, FlawedAnswer)
    return found


def rows_of(index: int = 0, **settings: object) -> dict[str, TrainingRow]:
    config = JudgementConfig(**settings)  # type: ignore[arg-type]
    rows = judgement_rows(QUESTION, GOOD, flawed(), config, index=index)
    return {row.id.removeprefix("q/judge/").rpartition("/")[0]: row for row in rows}


def test_notes_are_read_leniently() -> None:
    assert flawed().notes == {
        Stage.SUMMARY: "cubes are asked for",
        Stage.CAPTION: "they are cubes",
        Stage.REASONING: "there are two",
        Stage.CONCLUSION: "it says two",
    }
    assert flawed(FLAWED.render()).notes == {}
    loose = flawed(f"{FLAWED.render()}\n<notes>\nCaption: two; not three\nconclusion: I choose response 2")
    assert loose.notes == {Stage.CAPTION: "two; not three"}


def test_unreadable_flawed_reply_is_a_fault() -> None:
    found = parse_flawed(f"Here you are. {NOTES}")
    assert isinstance(found, ParseFault)
    assert found.kind is FaultKind.MISSING


def test_every_stage_and_the_whole_in_both_forms() -> None:
    names = {"summary", "caption", "reasoning", "conclusion", "answer"}
    assert set(rows_of()) == {f"{name}/{form}" for name in names for form in ("choice", "why")}
    assert all(row.kind is RowKind.JUDGEMENT for row in rows_of().values())


def test_verdict_names_the_right_text() -> None:
    for index in range(4):
        for name, row in rows_of(index).items():
            stage = name.split("/")[0]
            if stage == "answer":
                continue
            better, worse = GOOD[Stage(stage.upper())], FLAWED[Stage(stage.upper())]
            expected = (better, worse) if parse_verdict(row.response) is Verdict.FIRST else (worse, better)
            assert row.prompt.endswith("\n".join(side_by_side(*expected)))


def test_places_are_balanced_for_each_stage_and_form() -> None:
    counts: Counter[tuple[str, str]] = Counter()
    for index in range(12):
        counts.update((name, row.response[-2]) for name, row in rows_of(index).items())
    assert set(counts.values()) == {6}
    assert all(
        rows_of()[f"{s}/choice"].response[-2] != rows_of()[f"{s}/why"].response[-2] for s in ("caption", "answer")
    )


def test_both_orders_doubles_the_rows() -> None:
    once = judgement_rows(QUESTION, GOOD, flawed(), JudgementConfig(), index=0)
    twice = judgement_rows(QUESTION, GOOD, flawed(), JudgementConfig(both_orders=True), index=0)
    assert len(twice) == 2 * len(once)
    assert len({row.id for row in twice}) == len(twice)


def test_hints_are_the_right_earlier_stages() -> None:
    rows = rows_of()
    assert "Hint" not in rows["caption/choice"].prompt
    assert f"Hint: {GOOD.caption}\nJudge reasoning\n" in rows["reasoning/choice"].prompt
    assert f"Hint: {GOOD.caption} {GOOD.reasoning}\nJudge conclusion, say why\n" in rows["conclusion/why"].prompt


def test_reason_comes_from_the_notes_else_a_plain_one() -> None:
    assert rows_of()["caption/why"].response.startswith("Since they are cubes, I choose response ")
    rows = judgement_rows(QUESTION, GOOD, flawed(FLAWED.render()), JudgementConfig(), index=0)
    plain = next(row for row in rows if "/summary/why/" in row.id)
    assert plain.response in (
        "Since response 1 holds a mistake, I choose response 2.",
        "Since response 2 holds a mistake, I choose response 1.",
    )


def test_whole_answers_differ_in_one_stage() -> None:
    stages = {0: Stage.CAPTION, 1: Stage.REASONING, 2: Stage.CONCLUSION}
    for index, stage in stages.items():
        worse = replace(GOOD, **{stage.value.lower(): FLAWED[stage]}).render()
        prompt = rows_of(index)["answer/choice"].prompt
        shown = [" ".join(text.split()) for text in judged_texts(prompt)]
        assert " ".join(worse.split()) in shown
        assert " ".join(GOOD.render().split()) in shown


def test_stage_that_is_no_worse_gives_no_row() -> None:
    same = replace(FLAWED, caption=f" {GOOD.caption} ", conclusion="two")
    rows = judgement_rows(QUESTION, GOOD, flawed(same.render()), JudgementConfig(whole_answers=False), index=0)
    assert {row.id.split("/")[2] for row in rows} == {"summary", "reasoning"}


@pytest.mark.parametrize("style", list(PromptStyle))
def test_style_and_forms_are_as_configured(style: PromptStyle) -> None:
    rows = rows_of(prompt_style=style, forms=(JudgementForm.CHOICE,), whole_answers=False)
    assert set(rows) == {f"{s.value.lower()}/choice" for s in Stage}
    assert rows["caption/choice"].prompt.startswith("Compare two") is (style is PromptStyle.STANDARD)


def test_stages_and_whole_answers_can_be_thinned_out_with_places_still_in_balance() -> None:
    settings = {"stages": (Stage.CAPTION,), "whole_answer_every": 2, "forms": (JudgementForm.CHOICE,)}
    assert set(rows_of(0, **settings)) == {"caption/choice", "answer/choice"}
    assert set(rows_of(1, **settings)) == {"caption/choice"}
    places = Counter(
        row.response[-2] for index in range(24) for name, row in rows_of(index, **settings).items() if "answer" in name
    )
    assert places == {"1": 6, "2": 6}


def test_ratings_show_one_text_and_say_whether_it_is_right() -> None:
    said: Counter[tuple[str, str]] = Counter()
    for index in range(12):
        for name, row in rows_of(index, forms=(JudgementForm.RATING,)).items():
            stage = name.split("/")[0]
            if stage != "answer":
                text = GOOD[Stage(stage.upper())] if row.response == "yes" else FLAWED[Stage(stage.upper())]
                assert row.prompt.endswith(f"\nRate {stage}\n{text}")
            said[stage, row.response] += 1
    assert set(said.values()) == {6}
