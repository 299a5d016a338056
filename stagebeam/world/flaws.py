"""Plausible mistakes, one in each stage: what a judge is taught to tell from the right text."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, replace

from stagebeam.world.questions import LETTERS, Predicate, Solution, Spec, solve
from stagebeam.world.scene import COLORS, SHAPES, SIZES, Scene, Thing, describe

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
    """An object misread, misjudged or left out, with everything after it following; or a wrong last step."""
    makers = rng.choices((_misread, _misjudged, _left_out, None), (0.35, 0.3, 0.15, 0.2), k=1) * 20
    for make in makers:
        if make is None:
            break
        found = make(scene, spec, rng)
        if found is not None and found.text != solution.reasoning:
            return found
    wrong = flawed_answer(solution, spec, rng).text
    head, _, _ = solution.reasoning.rpartition("So ")
    return Flawed(text=f"{head}So {wrong}.", note=f"it adds up to {solution.answer}")


def _misread(scene: Scene, spec: Spec, rng: random.Random) -> Flawed | None:
    """One object with another value of an attribute that is asked for."""
    index, name, changed = _with_other_value(scene, spec, rng)
    thing = scene.things[index]
    text = _reasoning(scene, spec, index, changed)
    return None if text is None else Flawed(text=text, note=f"{thing.place} is {getattr(thing, name)}")


def _misjudged(scene: Scene, spec: Spec, rng: random.Random) -> Flawed | None:
    """One object read rightly and wrongly taken, or wrongly passed over, for what is asked."""
    index, _, changed = _with_other_value(scene, spec, rng)
    thing = scene.things[index]
    text = _reasoning(scene, spec, index, changed)
    wanted = [p for p in (spec.first, spec.second) if p is not None and p.holds(thing) != p.holds(changed)]
    if text is None or not wanted:
        return None
    for predicate in (p for p in (spec.first, spec.second) if p is not None):
        said = f"{thing.place} {predicate.shown(changed)} {predicate.words}"
        text = text.replace(said, f"{thing.place} {predicate.shown(thing)} {predicate.words}")
    verdict = "is" if wanted[0].holds(thing) else "is not"
    return Flawed(text=text, note=f"{thing.place} {wanted[0].shown(thing)} {verdict} {wanted[0].words}")


def _left_out(scene: Scene, spec: Spec, rng: random.Random) -> Flawed | None:
    """One object forgotten."""
    index = rng.randrange(len(scene.things))
    text = _reasoning(scene, spec, index, None) if len(scene.things) > 2 else None
    return None if text is None else Flawed(text=text, note=f"{scene.things[index].place} is left out")


def _with_other_value(scene: Scene, spec: Spec, rng: random.Random) -> tuple[int, str, Thing]:
    """An object's index, an attribute that is asked for, and the object with another value of it."""
    index = rng.randrange(len(scene.things))
    thing = scene.things[index]
    name = rng.choice([n for n in POOLS if _asks(spec.first, n) or (spec.second and _asks(spec.second, n))])
    words = {getattr(p, name) for p in (spec.first, spec.second) if p is not None} - {None, getattr(thing, name)}
    other = (
        rng.choice(sorted(words)) if words and rng.random() < 0.5 else _other(rng, POOLS[name], getattr(thing, name))
    )
    return index, name, thing.changed(name, other)


def _reasoning(scene: Scene, spec: Spec, index: int, instead: Thing | None) -> str | None:
    """The reasoning as it would be with the object replaced or gone; None when the question cannot be asked then."""
    things = (*scene.things[:index], *([instead] if instead else []), *scene.things[index + 1 :])
    try:
        return solve(replace(scene, things=things), spec).reasoning
    except ValueError:
        return None


def _asks(predicate: Predicate, name: str) -> bool:
    return getattr(predicate, name) is not None
