"""What the base model practises: looking, describing, checking, matching and working out.

Each skill has a wording of its own, since two formats under one instruction make a small model
mix them up. None of them shows the four stages or the judge's role.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from reasoning.prompts import question_text
from reasoning.records import Question
from stagebeam.world.flaws import flawed_answer, flawed_caption, flawed_reasoning, flawed_summary
from stagebeam.world.questions import Solution, Spec, solve, wording
from stagebeam.world.sampling import sample_question
from stagebeam.world.scene import COLORS, SHAPES, SIZES, Scene


@dataclass(frozen=True, kw_only=True)
class Practice:
    """One exercise; ``scene`` is set when a picture goes with it."""

    skill: str
    prompt: str
    response: str
    scene: Scene | None = None


def asked(spec: Spec) -> str:
    return question_text(Question(id="", question=wording(spec), choices=spec.choices))


def _two(right: str, wrong: str, rng: random.Random) -> tuple[str, str]:
    """The two texts as options 1 and 2 in random order, and the right one's number."""
    if rng.random() < 0.5:
        return f"1: {right}\n2: {wrong}", "1"
    return f"1: {wrong}\n2: {right}", "2"


def work_out(scene: Scene, spec: Spec, solution: Solution, rng: random.Random) -> Practice:
    """From a description in words to the answer, step by step."""
    prompt = f"Given: {scene.caption}\nWork out: {asked(spec)}"
    return Practice(skill="work_out", prompt=prompt, response=solution.reasoning)


def plan(scene: Scene, spec: Spec, solution: Solution, rng: random.Random) -> Practice:
    return Practice(skill="plan", prompt=f"Plan: {asked(spec)}", response=solution.summary)


def describe(scene: Scene, spec: Spec, solution: Solution, rng: random.Random) -> Practice:
    return Practice(skill="describe", prompt="Describe.", response=scene.caption, scene=scene)


def look_up(scene: Scene, spec: Spec, solution: Solution, rng: random.Random) -> Practice:
    """What is at one place; may be nothing."""
    cell = rng.randrange(9)
    thing = next((t for t in scene.things if t.row * 3 + t.column == cell), None)
    if thing is None or rng.random() < 0.6:
        thing = rng.choice(scene.things)
    return Practice(
        skill="look_up",
        prompt=f"What is {thing.place}?",
        response=f"{thing.size} {thing.color} {thing.shape}.",
        scene=scene,
    )


def check(scene: Scene, spec: Spec, solution: Solution, rng: random.Random) -> Practice:
    """Which of several statements about the picture are true? A verdict for each."""
    statements, verdicts = [], []
    for thing in scene.things:
        said = thing
        if rng.random() < 0.4:
            name, pool = rng.choice((("size", SIZES), ("color", COLORS), ("shape", SHAPES)))
            said = thing.changed(name, rng.choice([v for v in pool if v != getattr(thing, name)]))
        statements.append(said.phrase)
        verdicts.append(f"{thing.place} {'yes' if said == thing else 'no'}")
    return Practice(
        skill="check", prompt=f"True? {'; '.join(statements)}.", response=f"{'; '.join(verdicts)}.", scene=scene
    )


def match_caption(scene: Scene, spec: Spec, solution: Solution, rng: random.Random) -> Practice:
    """Which of two descriptions fits the picture, at once."""
    flaw = flawed_caption(scene, rng)
    options, number = _two(scene.caption, flaw.text, rng)
    return Practice(skill="match", prompt=f"Which fits?\n{options}", response=f"{number}.", scene=scene)


def match_caption_why(scene: Scene, spec: Spec, solution: Solution, rng: random.Random) -> Practice:
    """The same, naming first what is in the picture where they differ."""
    flaw = flawed_caption(scene, rng)
    options, number = _two(scene.caption, flaw.text, rng)
    return Practice(
        skill="match_why", prompt=f"Which fits, and why?\n{options}", response=f"{flaw.note}, so {number}.", scene=scene
    )


def match_text(scene: Scene, spec: Spec, solution: Solution, rng: random.Random) -> Practice:
    """Which of two ways to work it out follows from the description."""
    flaw = flawed_reasoning(scene, spec, solution, rng)
    options, number = _two(solution.reasoning, flaw.text, rng)
    if rng.random() < 0.5:
        ask, response = "Which follows?", f"{number}."
    else:
        ask, response = "Which follows, and why?", f"{flaw.note}, so {number}."
    prompt = f"Given: {scene.caption}\nWork out: {asked(spec)}\n{ask}\n{options}"
    return Practice(skill="match_text", prompt=prompt, response=response)


def match_end(scene: Scene, spec: Spec, solution: Solution, rng: random.Random) -> Practice:
    """Which of two plans or last words belongs to the question."""
    if rng.random() < 0.5:
        flaw = flawed_summary(spec, solution, rng)
        options, number = _two(solution.summary, flaw.text, rng)
        prompt = f"Plan: {asked(spec)}\nWhich follows?\n{options}"
    else:
        flaw = flawed_answer(solution, spec, rng)
        options, number = _two(solution.answer, flaw.text, rng)
        prompt = f"Work out: {asked(spec)}\n{solution.reasoning}\nWhich follows?\n{options}"
    return Practice(skill="match_end", prompt=prompt, response=f"{number}.")


def answer(scene: Scene, spec: Spec, solution: Solution, rng: random.Random) -> Practice:
    """The answer at once, from the picture."""
    return Practice(skill="answer", prompt=asked(spec), response=solution.answer, scene=scene)


SKILLS: dict[str, Callable[[Scene, Spec, Solution, random.Random], Practice]] = {
    "work_out": work_out,
    "plan": plan,
    "describe": describe,
    "look_up": look_up,
    "check": check,
    "match": match_caption,
    "match_why": match_caption_why,
    "match_text": match_text,
    "match_end": match_end,
    "answer": answer,
}
TEXT_SKILLS = ("work_out", "plan", "match_text", "match_end")


def practise(rng: random.Random, skill: str) -> Practice:
    """A fresh exercise of ``skill``."""
    scene, spec = sample_question(rng)
    return SKILLS[skill](scene, spec, solve(scene, spec), rng)
