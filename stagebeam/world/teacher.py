"""The truth of a picture and what a perfect teacher would write about it.

Only the stand-in teacher and the tests read the truth; a model never sees it, since
``actors.images.load_image`` hands on pixels alone.
"""

from __future__ import annotations

import io
import json
import random
from dataclasses import dataclass

from PIL import Image

from reasoning.stages import FourStages
from stagebeam.world.draw import TRUTH_KEY
from stagebeam.world.flaws import Flawed, flawed_answer, flawed_caption, flawed_reasoning, flawed_summary
from stagebeam.world.questions import Spec, solve
from stagebeam.world.scene import Scene


@dataclass(frozen=True, kw_only=True)
class Truth:
    """A scene and the questions asked about it, by their text as a model is asked them."""

    scene: Scene
    questions: dict[str, Spec]

    def to_json(self) -> str:
        specs = {text: spec.as_dict() for text, spec in self.questions.items()}
        return json.dumps({"scene": self.scene.as_dict(), "questions": specs}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Truth:
        raw = json.loads(text)
        return cls(
            scene=Scene.from_dict(raw["scene"]),
            questions={text: Spec.from_dict(spec) for text, spec in raw["questions"].items()},
        )


def read_truth(png: bytes) -> Truth | None:
    """The truth in a PNG's text chunk; None for a picture that is not of this world."""
    with Image.open(io.BytesIO(png)) as image:
        text = image.info.get(TRUTH_KEY)
    return Truth.from_json(text) if isinstance(text, str) else None


def four_stages(truth: Truth, question_text: str) -> FourStages:
    """The right four stages; raises KeyError when this question was not asked of the picture."""
    solution = solve(truth.scene, truth.questions[question_text])
    return FourStages(
        summary=solution.summary,
        caption=truth.scene.caption,
        reasoning=solution.reasoning,
        conclusion=solution.answer,
    )


@dataclass(frozen=True, kw_only=True)
class FlawedStages:
    """Four stages with one mistake in each, and what is right instead."""

    stages: FourStages
    notes: FourStages


def flawed_stages(truth: Truth, question_text: str, seed: int) -> FlawedStages:
    """Each stage has one mistake of its own; each is meant to be held against the right earlier stages."""
    spec = truth.questions[question_text]
    solution = solve(truth.scene, spec)
    rng = random.Random(f"{seed}/{question_text}")
    found: dict[str, Flawed] = {
        "summary": flawed_summary(spec, solution, rng),
        "caption": flawed_caption(truth.scene, rng),
        "reasoning": flawed_reasoning(truth.scene, spec, solution, rng),
        "conclusion": flawed_answer(solution, spec, rng),
    }
    return FlawedStages(
        stages=FourStages(**{name: flaw.text for name, flaw in found.items()}),
        notes=FourStages(**{name: flaw.note for name, flaw in found.items()}),
    )
