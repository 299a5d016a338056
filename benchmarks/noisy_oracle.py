"""A judge that knows the truth of the embedded world and is wrong as often as it is told to be.

It says how good a judge must be before a search pays. Of a right and a wrong candidate it prefers
the right one with probability ``accuracy``: both scores carry Gaussian noise, drawn from a hash of
what is scored, so that the same text is scored alike each time.
"""

from __future__ import annotations

import hashlib
import io
import math
import random
from collections.abc import Sequence
from statistics import NormalDist

from PIL import Image

from reasoning.grading import is_correct
from reasoning.ledger import Usage
from reasoning.parsing import parse_stages
from reasoning.protocols import RewardReply, RewardRequest
from reasoning.records import Question
from reasoning.stages import FourStages, Stage
from stagebeam.world.questions import solve
from stagebeam.world.scene import describe
from stagebeam.world.teacher import Truth


class NoisyOracle:
    """A reward model for questions of the embedded world; its calls cost nothing."""

    def __init__(self, accuracy: float, seed: int) -> None:
        """``accuracy`` in (0.5, 1]."""
        self._spread = 0.0 if accuracy == 1 else 1 / (math.sqrt(2) * NormalDist().inv_cdf(accuracy))
        self._seed = seed

    async def reward(self, requests: Sequence[RewardRequest]) -> list[RewardReply]:
        return [RewardReply(score=self._score(request), usage=Usage()) for request in requests]

    def _score(self, request: RewardRequest) -> float:
        parts = (str(self._seed), request.question.id, str(request.stage), *request.prior.values(), request.text)
        noise = random.Random(hashlib.sha256("\x1f".join(parts).encode()).digest()).gauss(0, 1)
        return float(is_right(request.question, request.stage, request.text)) + self._spread * noise


def is_right(question: Question, stage: Stage | None, text: str) -> bool:
    """Whether a stage's text, or with None a whole answer, is what the scene says."""
    match stage:
        case None:
            stages = parse_stages(text)
            return isinstance(stages, FourStages) and is_correct(question, stages.conclusion)
        case Stage.CONCLUSION:
            return is_correct(question, text)
        case Stage.REASONING:
            # Every reasoning of the world ends in "So ANSWER."
            return is_correct(question, text.rpartition("So ")[2].strip(" ."))
        case _:
            return " ".join(text.split()) == _truth(question)[stage]


def _truth(question: Question) -> dict[Stage, str]:
    assert question.image is not None
    assert question.image.data is not None
    found = Image.open(io.BytesIO(question.image.data)).info
    truth = Truth.from_json(next(v for v in found.values() if isinstance(v, str) and v.startswith("{")))
    [spec] = truth.questions.values()
    things = sorted(truth.scene.things, key=lambda thing: (thing.row, thing.column))
    return {Stage.SUMMARY: solve(truth.scene, spec).summary, Stage.CAPTION: describe(things)}
