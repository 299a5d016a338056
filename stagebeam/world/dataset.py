"""Question records about freshly drawn scenes."""

from __future__ import annotations

import random

from reasoning.prompts import question_text
from reasoning.records import AnswerType, ImageRef, Question, question_id
from stagebeam.world.draw import draw_scene, encode_png
from stagebeam.world.questions import FAMILIES, Spec, solve, wording
from stagebeam.world.sampling import sample_question
from stagebeam.world.scene import Scene
from stagebeam.world.teacher import Truth

SOURCE = "stagebeam-scenes"


def make_question(scene: Scene, spec: Spec, split: str) -> Question:
    """One record; the picture carries the truth in its metadata, for the stand-in teacher alone."""
    answer = solve(scene, spec).answer
    blank = Question(id="", question=wording(spec), choices=spec.choices, hint=None)
    truth = Truth(scene=scene, questions={question_text(blank): spec})
    image = ImageRef(data=encode_png(draw_scene(scene), truth.to_json()))
    return Question(
        id=question_id(SOURCE, image, question_text(blank)),
        source=SOURCE,
        split=split,
        image=image,
        question=blank.question,
        choices=spec.choices,
        answer=answer,
        answer_type=_answer_type(spec, answer),
        meta={"family": spec.family},
    )


def _answer_type(spec: Spec, answer: str) -> AnswerType:
    if spec.choices:
        return AnswerType.CHOICE
    return AnswerType.NUMBER if answer.isdigit() else AnswerType.TEXT


def make_questions(count: int, *, seed: int, split: str) -> list[Question]:
    """``count`` questions, families in turn, one scene each.

    Scenes of different splits differ: each scene's seed derives from the split's name, and a
    scene's pixels derive from its seed.
    """
    rng = random.Random(f"{seed}/{split}")
    questions = []
    for index in range(count):
        scene, spec = sample_question(rng, FAMILIES[index % len(FAMILIES)])
        questions.append(make_question(scene, spec, split))
    return questions
