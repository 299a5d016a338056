"""What the base model practises: looking, describing, checking, matching and working out.

Each skill has a wording of its own, since two formats under one instruction make a small model
mix them up. None of them shows the four stages or the judge's role.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from reasoning.prompts import question_text, side_by_side
from reasoning.records import Question
from stagebeam.world.flaws import Flawed, flawed_answer, flawed_caption, flawed_reasoning, flawed_summary
from stagebeam.world.questions import FAMILIES, Solution, Spec, solve, wording
from stagebeam.world.sampling import sample_question
from stagebeam.world.scene import COLORS, SHAPES, SIZES, Scene


@dataclass(frozen=True)
class Spot:
    """Characters ``start`` to ``end`` of a prompt, and whether they are a mistake."""

    start: int
    end: int
    is_wrong: bool


@dataclass(frozen=True, kw_only=True)
class Practice:
    """One exercise; ``scene`` is set when a picture goes with it."""

    skill: str
    prompt: str
    response: str
    scene: Scene | None = None
    spots: tuple[Spot, ...] = ()
    """Places in the prompt of which it is known whether they are right."""


def asked(spec: Spec) -> str:
    return question_text(Question(id="", question=wording(spec), choices=spec.choices))


CUE_VERBS = ("Compare", "Check", "Pick", "Weigh", "Prefer", "Select", "Match", "Decide on")
CUE_NOUNS = ("a text", "the description", "the steps", "one", "the better", "the plan", "the end", "all")
LEADS = ("Number", "Take", "It is", "I take", "Best is", "Answer", "The right one is")


def cue(usual: str, rng: random.Random) -> str:
    """What is asked for, often in other words than ``usual``: a skill must not hang on its wording."""
    return usual if rng.random() < 0.3 else f"{rng.choice(CUE_VERBS)} {rng.choice(CUE_NOUNS)}"


def verdict(word: str, rng: random.Random) -> str:
    """``word`` by itself or behind some others."""
    return f"{word}." if rng.random() < 0.4 else f"{rng.choice(LEADS)} {word}."


def matching(
    skill: str, ask: str, right: str, flaw: Flawed, rng: random.Random, *, why: bool, scene: Scene | None = None
) -> Practice:
    """Which of two texts is right? They stand in random order at the end of the prompt, side by side."""
    texts, number = ((right, flaw.text), 1) if rng.random() < 0.5 else ((flaw.text, right), 2)
    *common, one, two = side_by_side(*texts)
    head = "\n".join([ask, *common, ""])
    rests = (one.removeprefix("1: "), two.removeprefix("2: "))
    starts = (len(head) + len("1: "), len(head) + len(f"{one}\n2: "))
    good, bad = number - 1, 2 - number
    return Practice(
        skill=skill,
        prompt=f"{head}{one}\n{two}",
        response=f"{flaw.note}, so {number}." if why else verdict(f"{number}", rng),
        scene=scene,
        spots=(
            Spot(starts[good], starts[good] + len(rests[good]), is_wrong=False),
            *_first_mistake(rests[bad], rests[good], starts[bad]),
        ),
    )


def _first_mistake(flawed: str, right: str, start: int) -> tuple[Spot, ...]:
    """The words of ``flawed``, which begins at ``start``, up to the first that differs from ``right``; and that one."""
    words = list(re.finditer(r"\S+", flawed))
    others = right.split()
    index = next((i for i, w in enumerate(words) if i >= len(others) or w[0] != others[i]), len(words) - 1)
    wrong = words[index]
    return Spot(start, start + wrong.start(), is_wrong=False), Spot(
        start + wrong.start(), start + wrong.end(), is_wrong=True
    )


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
    prompt, verdicts, spots = "True? ", [], []
    for thing in scene.things:
        said = thing
        if rng.random() < 0.4:
            name, pool = rng.choice((("size", SIZES), ("color", COLORS), ("shape", SHAPES)))
            said = thing.changed(name, rng.choice([v for v in pool if v != getattr(thing, name)]))
        for word, truth in zip(said.phrase.split(), thing.phrase.split(), strict=True):
            spots.append(Spot(len(prompt), len(prompt) + len(word), is_wrong=word != truth))
            prompt += f"{word} "
        prompt = f"{prompt[:-1]}; "
        verdicts.append(f"{thing.place} {'yes' if said == thing else 'no'}")
    return Practice(
        skill="check",
        prompt=f"{prompt[:-2]}.",
        response=f"{'; '.join(verdicts)}.",
        scene=scene,
        spots=tuple(spots),
    )


def rating(
    skill: str, ask: str, right: str, flaw: Flawed, rng: random.Random, *, scene: Scene | None = None
) -> Practice:
    """Is this text right? It stands at the end of the prompt."""
    is_right = rng.random() < 0.5
    text, start = right if is_right else flaw.text, len(ask) + 1
    return Practice(
        skill=skill,
        prompt=f"{ask}\n{text}",
        response="yes." if is_right else "no.",
        scene=scene,
        spots=(Spot(start, start + len(right), is_wrong=False),) if is_right else _first_mistake(text, right, start),
    )


def rate(scene: Scene, spec: Spec, solution: Solution, rng: random.Random) -> Practice:
    """Does a description, with or without what was worked out from it, fit the picture?"""
    if rng.random() < 0.6:
        ask = _after_question(spec, cue("Does it fit?", rng), rng)
        return rating("rate", ask, scene.caption, flawed_caption(scene, rng), rng, scene=scene)
    right, flaw = _with_everything(scene, spec, solution, rng)
    return rating("rate", f"{asked(spec)}\n{cue('Is it right?', rng)}", right, flaw, rng, scene=scene)


def rate_text(scene: Scene, spec: Spec, solution: Solution, rng: random.Random) -> Practice:
    """Does what was worked out follow from the description?"""
    ask = _with_given(spec, scene.caption, cue("Does it follow?", rng), rng)
    return rating("rate_text", ask, solution.reasoning, flawed_reasoning(scene, spec, solution, rng), rng)


def match_caption(scene: Scene, spec: Spec, solution: Solution, rng: random.Random) -> Practice:
    """Which of two descriptions fits the picture, at once."""
    ask = _after_question(spec, cue("Which fits?", rng), rng)
    return matching("match", ask, scene.caption, flawed_caption(scene, rng), rng, why=False, scene=scene)


def match_caption_why(scene: Scene, spec: Spec, solution: Solution, rng: random.Random) -> Practice:
    """The same, naming first what is in the picture where they differ."""
    flaw = flawed_caption(scene, rng)
    return matching("match_why", "Which fits, and why?", scene.caption, flaw, rng, why=True, scene=scene)


def match_text(scene: Scene, spec: Spec, solution: Solution, rng: random.Random) -> Practice:
    """Which of two ways to work it out follows from the description."""
    flaw = flawed_reasoning(scene, spec, solution, rng)
    ask = _with_given(spec, scene.caption, cue("Which follows?", rng), rng)
    return matching("match_text", ask, solution.reasoning, flaw, rng, why=False)


def match_end(scene: Scene, spec: Spec, solution: Solution, rng: random.Random) -> Practice:
    """Which of two plans or last words belongs to the question."""
    usual = cue("Which follows?", rng)
    if rng.random() < 0.5:
        ask, right, flaw = f"Plan: {asked(spec)}\n{usual}", solution.summary, flawed_summary(spec, solution, rng)
    else:
        given = rng.choice(("", f"{scene.caption} ")) + solution.reasoning
        ask, right = _with_given(spec, given, usual, rng), solution.answer
        flaw = flawed_answer(solution, spec, rng)
    return matching("match_end", ask, right, flaw, rng, why=False)


def match_all(scene: Scene, spec: Spec, solution: Solution, rng: random.Random) -> Practice:
    """Which of two descriptions with what was worked out from them is right of the picture."""
    right, flaw = _with_everything(scene, spec, solution, rng)
    ask = f"{asked(spec)}\n{cue('Which is right?', rng)}"
    return matching("match_all", ask, right, flaw, rng, why=False, scene=scene)


def _after_question(spec: Spec, ask: str, rng: random.Random) -> str:
    """``ask``, often behind a question that has no bearing on it."""
    return f"{asked(spec)}\n{ask}" if rng.random() < 0.6 else ask


def _with_given(spec: Spec, given: str, ask: str, rng: random.Random) -> str:
    """What is given, the question and ``ask``; the question stands before or behind what is given."""
    if rng.random() < 0.5:
        return f"{asked(spec)}\nGiven: {given}\n{ask}"
    return f"Given: {given}\nWork out: {asked(spec)}\n{ask}"


def _with_everything(scene: Scene, spec: Spec, solution: Solution, rng: random.Random) -> tuple[str, Flawed]:
    """Description, working out and answer in a row; and the same with a mistake in one of the first two."""
    right = f"{scene.caption} {solution.reasoning} {solution.answer}"
    if rng.random() < 0.5:
        flaw = flawed_caption(scene, rng)
        return right, replace(flaw, text=f"{flaw.text} {solution.reasoning} {solution.answer}")
    flaw = flawed_reasoning(scene, spec, solution, rng)
    *_, end = flaw.text.removesuffix(".").rpartition("So ")
    return right, replace(flaw, text=f"{scene.caption} {flaw.text} {end}")


def answer(scene: Scene, spec: Spec, solution: Solution, rng: random.Random) -> Practice:
    """The answer at once, from the picture."""
    return Practice(skill="answer", prompt=asked(spec), response=solution.answer, scene=scene)


SKILLS: dict[str, Callable[[Scene, Spec, Solution, random.Random], Practice]] = {
    "work_out": work_out,
    "plan": plan,
    "describe": describe,
    "look_up": look_up,
    "check": check,
    "rate": rate,
    "rate_text": rate_text,
    "match": match_caption,
    "match_why": match_caption_why,
    "match_text": match_text,
    "match_end": match_end,
    "match_all": match_all,
    "answer": answer,
}
TEXT_SKILLS = ("work_out", "plan", "rate_text", "match_text", "match_end")
VERDICT_SKILLS = ("rate", "rate_text", "match", "match_text", "match_end", "match_all")
"""Those whose response is a verdict in changing words."""
HARD_FAMILIES = ("query", "spatial", "choice")
"""Drawn twice as often: with even shares they were learned last."""


def practise(rng: random.Random, skill: str) -> Practice:
    """A fresh exercise of ``skill``."""
    scene, spec = sample_question(rng, rng.choice(FAMILIES + HARD_FAMILIES))
    return SKILLS[skill](scene, spec, solve(scene, spec), rng)
