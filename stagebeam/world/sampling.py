"""Draws a question for a scene so that no answer is much more frequent than the others."""

from __future__ import annotations

import random

from stagebeam.world.questions import DIRECTIONS, FAMILIES, Predicate, Spec, inner_spec, options, solve
from stagebeam.world.scene import COLORS, SHAPES, SIZES, Scene, Thing, sample_scene

ATTRIBUTES = ("size", "color", "shape")
CHOICE_FAMILIES = ("count", "color", "shape", "remove", "add")
WANTED = {
    "count": ("0", "1", "1", "2", "2", "3", "4"),
    "exist": ("yes", "no"),
    "compare": ("yes", "no"),
    "spatial": ("yes", "no"),
    "remove": ("0", "1", "2", "3", "4"),
    "add": ("2", "3", "4", "5"),
}


def _any_predicate(rng: random.Random, names: tuple[str, ...]) -> Predicate:
    pools = {"size": SIZES, "color": COLORS, "shape": SHAPES}
    return Predicate(**{name: rng.choice(pools[name]) for name in names})


def _predicate_of(rng: random.Random, thing: Thing, names: tuple[str, ...]) -> Predicate:
    return Predicate(**{name: getattr(thing, name) for name in names})


def _some_names(rng: random.Random, most: int = 2) -> tuple[str, ...]:
    names = rng.sample(ATTRIBUTES, rng.choice((1, 1, 2)) if most > 1 else 1)
    return tuple(name for name in ATTRIBUTES if name in names)


def _near_predicate(rng: random.Random, scene: Scene) -> Predicate:
    """Often one that an object has, sometimes one changed by an attribute."""
    names = _some_names(rng)
    if rng.random() < 0.25:
        return _any_predicate(rng, names)
    return _predicate_of(rng, rng.choice(scene.things), names)


def _unique_predicate(rng: random.Random, scene: Scene, without: str = "") -> Predicate | None:
    names = tuple(a for a in ATTRIBUTES if a != without)
    subsets = [(n,) for n in names] + [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    rng.shuffle(subsets)
    for thing in rng.sample(scene.things, len(scene.things)):
        for subset in subsets:
            predicate = _predicate_of(rng, thing, subset)
            if sum(predicate.holds(t) for t in scene.things) == 1:
                return predicate
    return None


def _propose(rng: random.Random, scene: Scene, family: str) -> Spec | None:
    match family:
        case "count" | "exist":
            return Spec(family=family, first=_near_predicate(rng, scene))
        case "remove":
            return Spec(family=family, first=_near_predicate(rng, scene))
        case "add":
            return Spec(family=family, first=_near_predicate(rng, scene), number=rng.randint(1, 3))
        case "compare":
            first, second = (_near_predicate(rng, scene) for _ in range(2))
            return None if first == second else Spec(family=family, first=first, second=second)
        case "spatial":
            one, two = (_unique_predicate(rng, scene) for _ in range(2))
            if one is None or two is None or any(one.holds(t) and two.holds(t) for t in scene.things):
                return None
            return Spec(family=family, first=one, second=two, asks=rng.choice(tuple(DIRECTIONS)))
        case "query" | "color" | "shape" | "size":
            asks = rng.choice(ATTRIBUTES) if family == "query" else family
            unique = _unique_predicate(rng, scene, without=asks)
            return None if unique is None else Spec(family="query", first=unique, asks=asks)
        case other:
            raise ValueError(f"unknown question family {other!r}; known: {', '.join(FAMILIES)}")


def _as_choice(rng: random.Random, scene: Scene) -> Spec | None:
    asks = rng.choice(CHOICE_FAMILIES)
    inner = _propose(rng, scene, asks)
    if inner is None:
        return None
    choices = options(solve(scene, inner).answer, rng)
    return Spec(family="choice", asks=asks, first=inner.first, number=inner.number, choices=choices)


def sample_spec(rng: random.Random, scene: Scene, family: str, tries: int = 12) -> Spec | None:
    """A question of ``family`` that can be asked of ``scene``, its answer drawn evenly; None when none was found."""
    wanted = rng.choice(WANTED.get(family, ("",)))
    for _ in range(tries):
        spec = _as_choice(rng, scene) if family == "choice" else _propose(rng, scene, family)
        if spec is None:
            continue
        answer = solve(scene, inner_spec(spec) if family == "choice" else spec).answer
        if not wanted or answer == wanted:
            return spec
    return None


def sample_question(rng: random.Random, family: str | None = None) -> tuple[Scene, Spec]:
    """A fresh scene with one question; families in turn are the caller's business, else evenly drawn."""
    family = family or rng.choice(FAMILIES)
    while True:
        scene = sample_scene(rng)
        spec = sample_spec(rng, scene, family)
        if spec is not None:
            return scene, spec
