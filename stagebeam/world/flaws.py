"""Plausible mistakes, one in each stage: what a judge is taught to tell from the right text."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, replace

from stagebeam.world.questions import LETTERS, Predicate, Solution, Spec, solve
from stagebeam.world.scene import COLORS, SHAPES, SIZES, Scene, describe

POOLS = {"size": SIZES, "color": COLORS, "shape": SHAPES}


@dataclass(frozen=True, kw_only=True)
class Flawed:
    """A stage's text with one mistake, and in a few words what is right instead."""

    text: str
    note: str


def _other(rng: random.Random, pool: tuple[str, ...], than: str) -> str:
    return rng.choice([value for value in pool if value != than])


def flawed_caption(scene: Scene, rng: random.Random) -> Flawed:
    """One object with a wrong attribute, or left out, or at another place."""
    things = list(scene.things)
    index = rng.randrange(len(things))
    thing = things[index]
    kind = rng.choice(("size", "color", "color", "shape", "shape", "place", "missing"))
    note = f"{thing.place} is {thing.size} {thing.color} {thing.shape}"
    if kind == "missing" and len(things) > 2:
        things.pop(index)
    elif kind == "place":
        taken = {(t.row, t.column) for t in things}
        row, column = rng.choice([(r, c) for r in range(3) for c in range(3) if (r, c) not in taken])
        things[index] = replace(thing, row=row, column=column)
    else:
        name = kind if kind in POOLS else "color"
        things[index] = thing.changed(name, _other(rng, POOLS[name], getattr(thing, name)))
    return Flawed(text=describe(sorted(things, key=lambda t: (t.row, t.column))), note=note)


def flawed_summary(spec: Spec, solution: Solution, rng: random.Random) -> Flawed:
    """The plan of another question: a word of the asked attributes exchanged."""
    words = [w for w in spec.first.words.split() if f" {w}" in solution.summary]
    word = rng.choice(words)
    pool = next(values for values in POOLS.values() if word in values)
    return Flawed(
        text=re.sub(rf"\b{word}", _other(rng, pool, word), solution.summary, count=1),
        note=f"the question asks for {word}",
    )


def flawed_answer(solution: Solution, spec: Spec, rng: random.Random) -> Flawed:
    """Another answer of the same kind."""
    answer = solution.answer
    if spec.choices:
        wrong = _other(rng, tuple(LETTERS[: len(spec.choices)]), answer)
    elif answer in ("yes", "no"):
        wrong = "no" if answer == "yes" else "yes"
    elif answer.isdigit():
        wrong = str(rng.choice([n for n in (int(answer) - 1, int(answer) + 1, int(answer) + 2) if n >= 0]))
    else:
        wrong = _other(rng, next(values for values in POOLS.values() if answer in values), answer)
    return Flawed(text=wrong, note=f"the reasoning says {answer}")


def flawed_reasoning(scene: Scene, spec: Spec, solution: Solution, rng: random.Random) -> Flawed:
    """An object misread or misjudged, with everything after it following from the mistake; or a wrong last step."""
    if rng.random() < 0.25:
        wrong = flawed_answer(solution, spec, rng).text
        head, _, _ = solution.reasoning.rpartition("So ")
        return Flawed(text=f"{head}So {wrong}.", note=f"it adds up to {solution.answer}")
    for _ in range(20):
        index = rng.randrange(len(scene.things))
        thing = scene.things[index]
        name = rng.choice([n for n in POOLS if _asks(spec.first, n) or (spec.second and _asks(spec.second, n))])
        changed = thing.changed(name, _other(rng, POOLS[name], getattr(thing, name)))
        things = (*scene.things[:index], changed, *scene.things[index + 1 :])
        try:
            other = solve(replace(scene, things=things), spec)
        except ValueError:
            continue
        if other.reasoning != solution.reasoning:
            return Flawed(text=other.reasoning, note=f"{thing.place} is {getattr(thing, name)}")
    wrong = flawed_answer(solution, spec, rng).text
    head, _, _ = solution.reasoning.rpartition("So ")
    return Flawed(text=f"{head}So {wrong}.", note=f"it adds up to {solution.answer}")


def _asks(predicate: Predicate, name: str) -> bool:
    return getattr(predicate, name) is not None
