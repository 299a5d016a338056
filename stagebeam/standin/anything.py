"""What the stand-in writes about pictures that are none of the embedded scenes.

It knows of them what can be measured, size and mean colour, and what stands in our own prompt: the
question, its options, the standard answer. So it concludes what it was told to, and says that its
text is a stand-in's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from PIL import Image

from actors.image_files import MAX_PIXELS, opened
from reasoning.errors import ImageError
from reasoning.prompts import ANSWER_HEADING, QUESTION_HEADING
from reasoning.stages import FourStages

UNSURE = "unsure"
"""What is concluded where nobody said what to conclude."""

_OPTION = re.compile(r"^([A-Z])\. (.*)$", re.MULTILINE)
_FLAWS = FourStages(
    summary="the plan goes after something else",
    caption="the picture is not empty",
    reasoning="the last step follows from nothing",
    conclusion="another answer is right",
)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What of one of our prompts is read."""

    question: str
    """With its options and its hint, as the model is asked it."""
    answer: str | None
    """The standard answer, where the prompt holds one."""

    @property
    def options(self) -> list[str]:
        """The options' texts, in order."""
        found = _OPTION.findall(self.question)
        return [text for place, (letter, text) in enumerate(found) if ord(letter) - ord("A") == place]


def read_asked(prompt: str) -> Asked:
    """The question of a prompt of ours and its standard answer; of another prompt all of it."""
    question = section(prompt, QUESTION_HEADING)
    return Asked(question=question if question is not None else prompt, answer=section(prompt, ANSWER_HEADING))


def section(prompt: str, heading: str) -> str | None:
    """What stands below a heading from the question on, up to the next heading; None where there is none."""
    # What was said earlier in the conversation may look like a heading of ours; it comes before the question.
    _, found, behind = prompt.rpartition(f"\n\n{QUESTION_HEADING}\n")
    _, found, behind = (found + behind).partition(f"\n\n{heading}\n")
    return behind.partition("\n\n### ")[0].strip() if found else None


def plain_stages(asked: Asked, image: bytes | None) -> FourStages:
    """Four stages in the right form that end at the standard answer."""
    words, options = len(asked.question.split()), len(asked.options)
    kind = f" and picks one of {options} options" if options else ""
    return FourStages(
        summary=f"This is stand-in text. The question has {words} words{kind}. "
        "I will set down what can be measured in the picture and go on from there.",
        caption=f"This is stand-in text. {describe(image)}",
        reasoning="This is stand-in text and no real reasoning. Size and colour were measured, the question was read, "
        "and the conclusion is set down.",
        conclusion=asked.answer or UNSURE,
    )


def flawed_plain_stages(asked: Asked, right: FourStages) -> tuple[FourStages, FourStages]:
    """The four stages with something wrong in each, and what is wrong."""
    flawed = FourStages(
        summary=f"{right.summary} First I will count what nobody asked about.",
        caption=f"{right.caption} It is empty.",
        reasoning=f"{right.reasoning} The opposite follows.",
        conclusion=other_answer(asked),
    )
    return flawed, _FLAWS


def other_answer(asked: Asked) -> str:
    """An answer that is not the standard one, of the same kind."""
    answer = (asked.answer or UNSURE).strip()
    if asked.options:
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
        is_letter = len(answer.strip("(). ")) == 1 and answer.strip("(). ").upper() in letters
        for letter, text in zip(letters, asked.options, strict=False):
            if is_letter and letter != answer.strip("(). ").upper():
                return letter
            if not is_letter and text.strip().casefold() != answer.casefold():
                return text
    if answer.casefold() in ("yes", "no"):
        return "no" if answer.casefold() == "yes" else "yes"
    try:
        return f"{float(answer) + 1:g}"
    except ValueError:
        return "something else altogether"


def describe(image: bytes | None) -> str:
    """A sentence with the picture's size and mean colour."""
    if image is None:
        return "There is no picture with this question."
    try:
        with opened(image, "picture", MAX_PIXELS) as found:
            width, height = found.size
            found.draft("RGB", (64, 64))
            red, green, blue = found.convert("RGB").resize((1, 1), Image.Resampling.BOX).tobytes()
    except ImageError:
        return "The file holds no picture that can be read."
    tone = "bright" if red + green + blue > 384 else "dark"
    colour = f"a mean colour of {red}, {green}, {blue}"
    return f"The picture is {width} by {height} pixels and {tone} on the whole, with {colour}."
