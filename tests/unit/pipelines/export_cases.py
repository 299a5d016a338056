"""A made-up annotation run for exports: real pictures, one conversation of three turns, odd texts."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

from annotation_cases import GOOD, accepted_row, annotation_run
from PIL import Image

from reasoning.records import ImageRef, Question, Turn
from reasoning.stages import FourStages


def picture(colour: tuple[int, int, int], form: str = "PNG") -> bytes:
    """A small picture, the same bytes every time."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), colour).save(buffer, form)
    return buffer.getvalue()


RED, GREEN, BLUE = picture((255, 0, 0)), picture((0, 255, 0), "JPEG"), picture((0, 0, 255))


def stages(name: str) -> FourStages:
    return replace(GOOD, caption=f"A picture for {name}.", conclusion=f"it is {name}")


def conversation(name: str, turns: int, image: ImageRef) -> list[Question]:
    """The turns of one conversation as a source gives them: each with those before it as history."""
    history = [Turn(question=f"{name} turn {number}?", answer=f"short {number}") for number in range(turns)]
    return [
        Question(
            id=f"{name}-{number}",
            conversation_id=name,
            source="talk",
            turn=number,
            image=image,
            question=history[number].question,
            history=tuple(history[:number]),
        )
        for number in range(turns)
    ]


def questions(folder: Path) -> list[Question]:
    """Seven questions: alone, with choices, without picture, a picture by its path, and three turns."""
    by_path = folder / "pictures" / "größe 1.png"
    by_path.parent.mkdir(parents=True)
    by_path.write_bytes(BLUE)
    red = ImageRef(data=RED)
    return [
        Question(id="plain", source="talk", image=red, question="What colour is it? <image> is no token here."),
        Question(id="choice", source="quiz", image=red, question="Which?", choices=("rot", "grün"), hint="look"),
        Question(id="text", source="quiz", question="2 + 2?"),
        Question(id="path", source="quiz", image=ImageRef(uri=str(by_path)), question="Was ist »das«?"),
        # The bytes are a JPEG, whatever the row says.
        *conversation("c", 3, ImageRef(data=GREEN, media_type="image/png")),
    ]


def rows(folder: Path) -> list[dict[str, Any]]:
    return [accepted_row(question, stages(question.id)) for question in questions(folder)]


def made_up_run(folder: Path, *, shards: int = 1) -> Path:
    """The run, its rows dealt out to so many shards."""
    made = rows(folder)
    return annotation_run(folder / "run", *[made[number::shards] for number in range(shards)])
