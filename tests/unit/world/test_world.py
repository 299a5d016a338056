"""The embedded world: scenes, questions, answers, flaws, and where the truth may be read."""

from __future__ import annotations

import io
import random

import pytest
from PIL import Image

from reasoning.grading import is_correct
from reasoning.prompts import question_text
from stagebeam.world.dataset import make_questions
from stagebeam.world.draw import TRUTH_KEY, draw_scene, encode_png
from stagebeam.world.questions import FAMILIES, Predicate, Spec, solve, wording
from stagebeam.world.scene import Scene, Thing
from stagebeam.world.teacher import flawed_stages, four_stages, read_truth


def _thing(row: int, column: int, size: str, color: str, shape: str) -> Thing:
    return Thing(row=row, column=column, size=size, color=color, shape=shape)


SCENE = Scene(
    things=(
        _thing(0, 0, "big", "red", "circle"),
        _thing(1, 1, "small", "blue", "star"),
        _thing(2, 2, "small", "red", "square"),
    ),
    seed=3,
)


@pytest.mark.parametrize(
    ("spec", "answer"),
    [
        (Spec(family="count", first=Predicate(color="red")), "2"),
        (Spec(family="exist", first=Predicate(color="blue", shape="square")), "no"),
        (Spec(family="query", first=Predicate(shape="star"), asks="color"), "blue"),
        (Spec(family="compare", first=Predicate(size="small"), second=Predicate(shape="star")), "yes"),
        (Spec(family="spatial", first=Predicate(shape="star"), second=Predicate(shape="circle"), asks="below"), "yes"),
        (Spec(family="remove", first=Predicate(color="red")), "1"),
        (Spec(family="add", first=Predicate(color="red"), number=2), "4"),
        (Spec(family="choice", asks="count", first=Predicate(color="red"), choices=("3", "2", "0", "1")), "B"),
    ],
)
def test_every_family_is_answered_by_hand_counted_truth(spec: Spec, answer: str) -> None:
    solution = solve(SCENE, spec)
    assert solution.answer == answer
    assert solution.reasoning.endswith(f"So {answer}.")


def test_a_question_that_cannot_be_asked_is_refused() -> None:
    with pytest.raises(ValueError, match="2 objects"):
        solve(SCENE, Spec(family="query", first=Predicate(color="red"), asks="shape"))


def test_the_same_seed_gives_the_same_questions_and_pixels() -> None:
    one, two = (make_questions(16, seed=5, split="test") for _ in range(2))
    assert one == two


def test_train_and_test_share_no_scene() -> None:
    train = {q.image.key for q in make_questions(200, seed=5, split="train") if q.image}
    test = {q.image.key for q in make_questions(200, seed=5, split="test") if q.image}
    assert len(train) == 200
    assert not train & test


def test_every_family_comes_up_and_its_answers_are_correct_by_rule() -> None:
    questions = make_questions(80, seed=1, split="train")
    assert {q.meta["family"] for q in questions} == set(FAMILIES)
    for question in questions:
        assert question.image is not None
        assert question.image.data is not None
        truth = read_truth(question.image.data)
        assert truth is not None
        assert is_correct(question, four_stages(truth, question_text(question)).conclusion)


def test_no_answer_is_much_more_frequent_than_its_family_allows() -> None:
    questions = make_questions(1600, seed=2, split="train")
    for family in FAMILIES:
        answers = [q.answer for q in questions if q.meta["family"] == family]
        most = max(answers.count(a) for a in set(answers)) / len(answers)
        assert most < 0.62, (family, most)


def test_a_flaw_changes_every_stage_and_the_conclusion_is_wrong() -> None:
    for index, question in enumerate(make_questions(80, seed=9, split="train")):
        assert question.image is not None
        assert question.image.data is not None
        truth = read_truth(question.image.data)
        assert truth is not None
        text = question_text(question)
        right, flawed = four_stages(truth, text), flawed_stages(truth, text, seed=index).stages
        assert all(a != b for a, b in zip(right.as_mapping().values(), flawed.as_mapping().values(), strict=True))
        assert not is_correct(question, flawed.conclusion)


def test_truth_survives_the_png_and_pixels_do_not_depend_on_it() -> None:
    picture = draw_scene(SCENE)
    with_truth, without = encode_png(picture, '{"a": 1}'), encode_png(picture, None)
    with Image.open(io.BytesIO(with_truth)) as image:
        assert image.info[TRUTH_KEY] == '{"a": 1}'
        assert image.tobytes() == Image.open(io.BytesIO(without)).tobytes()
    assert read_truth(without) is None


def test_drawing_shows_each_object_in_its_cell() -> None:
    image = draw_scene(SCENE)
    empty = random.Random(0)
    assert image.size == (72, 72)
    red, green, blue = image.getpixel((12, 12))
    assert red > 150
    assert max(green, blue) < 130
    middle_top = [sum(image.getpixel((36 + empty.randint(-5, 5), 12 + empty.randint(-5, 5)))) for _ in range(20)]
    assert min(middle_top) > 450


def test_wording_names_what_is_asked() -> None:
    assert wording(Spec(family="count", first=Predicate(color="red"))) == "How many red objects are there?"
