"""The recipe of the base model, at the smallest sizes."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from transformers import AutoModelForImageTextToText

from stagebeam.base.batches import Collator, draw_batch, pixels
from stagebeam.base.card import write_card
from stagebeam.base.recipe import PHASES, SKILL_MIX, kept_tokenizer, rate, run_phase
from stagebeam.base.skills import SKILLS, practise
from stagebeam.world.draw import draw_scene

SIZES = {"vision": 128, "text": 64, "align": 64, "skills": 64, "polish": 64, "judge": 64}


def test_the_phases_run_resume_and_leave_a_loadable_model_with_its_card(tmp_path: Path) -> None:
    for phase in PHASES:
        run_phase(phase, tmp_path, seed=1, sizes=SIZES, device="cpu", checks=4)
    kept = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.pt")}
    for phase in PHASES:
        run_phase(phase, tmp_path, seed=1, sizes=SIZES, device="cpu", checks=4)
    assert kept == {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.pt")}
    logs = [(tmp_path / f"training-{phase}.jsonl").read_text() for phase in PHASES]
    (tmp_path / "training.jsonl").write_text("".join(logs))
    write_card(tmp_path)
    assert "stand-in" in (tmp_path / "README.md").read_text()
    assert AutoModelForImageTextToText.from_pretrained(tmp_path).config.model_type == "mllama"
    assert {json.loads(line)["phase"] for line in "".join(logs).splitlines()} >= {"start", "vision", "exact"}


def test_pixels_are_those_of_the_processor(tmp_path: Path) -> None:
    from stagebeam.base.architecture import build_processor

    tokenizer = kept_tokenizer(tmp_path, 1)
    row = practise(random.Random(0), "describe")
    assert row.scene is not None
    made = build_processor(tokenizer)(text="<|image|>x", images=[draw_scene(row.scene)], return_tensors="pt")
    assert pixels([row])["pixel_values"].equal(made["pixel_values"])


def test_loss_falls_on_the_response_and_its_end_alone(tmp_path: Path) -> None:
    tokenizer = kept_tokenizer(tmp_path, 1)
    row = practise(random.Random(0), "work_out")
    labels = Collator(tokenizer)([row])["labels"][0]
    assert tokenizer.decode(labels[labels >= 0]) == row.response + tokenizer.eos_token


def test_batches_have_pictures_in_all_rows_or_in_none() -> None:
    for batch in draw_batch(random.Random(0), SKILL_MIX, 16):
        assert len({row.scene is None for row in batch}) == 1


@pytest.mark.parametrize("skill", SKILLS)
def test_no_skill_shows_a_stage_tag_or_a_judges_prompt(skill: str) -> None:
    rng = random.Random(2)
    for _ in range(30):
        row = practise(rng, skill)
        assert "<SUMMARY>" not in row.prompt + row.response
        assert "Judge" not in row.prompt
        assert "choose response" not in row.response


def test_the_rate_warms_up_and_decays() -> None:
    assert rate(0, 1000, is_decaying=True) < 0.05
    assert rate(300, 1000, is_decaying=True) == 1.0
    assert rate(999, 1000, is_decaying=True) == pytest.approx(0.02)
    assert rate(999, 1000, is_decaying=False) == 1.0


@pytest.mark.parametrize("skill", ["match", "match_text", "match_all", "match_end", "rate", "rate_text", "check"])
def test_marks_lie_on_the_words_of_the_spots(tmp_path: Path, skill: str) -> None:
    tokenizer = kept_tokenizer(tmp_path, 1)
    rng = random.Random(4)
    rows = [practise(rng, skill) for _ in range(12)]
    batch = Collator(tokenizer)(rows)
    for row, ids, marks in zip(rows, batch["input_ids"], batch["marks"], strict=True):
        wrong = [row.prompt[spot.start : spot.end] for spot in row.spots if spot.is_wrong]
        # A token may reach beyond the spot, as "red;" does.
        marked = tokenizer.decode(ids[marks == 1])
        assert all(word.strip(";.") in marked for word in wrong)
        assert bool(marked) == bool(wrong)


def test_the_first_mistake_is_where_the_texts_part() -> None:
    rng = random.Random(5)
    for _ in range(50):
        row = practise(rng, "match_text")
        *_, one, two = row.prompt.split("\n")
        [wrong] = [spot for spot in row.spots if spot.is_wrong]
        flawed, right = (two, one) if row.response.endswith("1.") else (one, two)
        words, others = flawed[3:].split(), right[3:].split()
        index = next((i for i, word in enumerate(words) if i >= len(others) or word != others[i]), len(words) - 1)
        assert row.prompt[wrong.start : wrong.end] == words[index]


def test_the_verdict_weighs_most_and_the_prompt_nothing(tmp_path: Path) -> None:
    tokenizer = kept_tokenizer(tmp_path, 1)
    row = practise(random.Random(6), "match")
    batch = Collator(tokenizer)([row])
    heaviest = batch["input_ids"][0][batch["weights"][0].argmax()]
    assert tokenizer.decode([heaviest]).strip() == row.response[-2]
    assert batch["weights"][0][batch["labels"][0] < 0].eq(0).all()
