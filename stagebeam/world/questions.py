"""Question families, their answers and the reasoning that leads there.

A ``Spec`` says what is asked in terms of the world; ``wording`` puts it in words and ``solve``
works it out for a scene. The reasoning writes, for each object, only the attributes that were
asked for, beside the asked words and the verdict: what has to be compared stands side by side,
which is what lets a model of a few million parameters learn it. (With the asked words only at the
head, the second of two scans went wrong in nine questions of ten.)
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from stagebeam.world.scene import COLORS, COLUMNS, ROWS, SHAPES, SIZES, Scene, Thing

FAMILIES = ("count", "exist", "query", "compare", "spatial", "remove", "add", "choice")
DIRECTIONS = {"left of": 1, "right of": 1, "above": 0, "below": 0}
LETTERS = "ABCD"


@dataclass(frozen=True, kw_only=True)
class Predicate:
    """Objects with these attributes; None asks for any."""

    size: str | None = None
    color: str | None = None
    shape: str | None = None

    def holds(self, thing: Thing) -> bool:
        return all(want is None or want == have for want, have in self._pairs(thing))

    def shown(self, thing: Thing) -> str:
        """The asked attributes as ``thing`` has them."""
        return " ".join(have for want, have in self._pairs(thing) if want is not None)

    def _pairs(self, thing: Thing) -> tuple[tuple[str | None, str], ...]:
        return ((self.size, thing.size), (self.color, thing.color), (self.shape, thing.shape))

    @property
    def words(self) -> str:
        return " ".join(w for w in (self.size, self.color, self.shape) if w is not None)

    @property
    def singular(self) -> str:
        return self.words if self.shape else f"{self.words} object"

    @property
    def plural(self) -> str:
        return self.singular + "s"


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What is asked. Fields a family does not use stay at their defaults."""

    family: str
    first: Predicate
    second: Predicate | None = None
    asks: str = ""
    """query: which attribute; spatial: the direction; choice: the family inside."""
    number: int = 0
    """add: how many more."""
    choices: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Spec:
        second = raw.get("second")
        return cls(
            **{
                **raw,
                "first": Predicate(**raw["first"]),
                "second": Predicate(**second) if second else None,
                "choices": tuple(raw["choices"]),
            }
        )


@dataclass(frozen=True, kw_only=True)
class Solution:
    """The three texts besides the caption. ``answer`` is what the conclusion says."""

    summary: str
    reasoning: str
    answer: str


def wording(spec: Spec) -> str:
    """The question in words, without the options of a choice."""
    first, second = spec.first, spec.second
    match spec.asks if spec.family == "choice" else spec.family:
        case "count":
            return f"How many {first.plural} are there?"
        case "exist":
            return f"Is there a {first.singular}?"
        case "query":
            return f"What {spec.asks} is the {first.singular}?"
        case "color" | "shape" | "size" as attribute:
            return f"What {attribute} is the {first.singular}?"
        case "compare":
            return f"Are there more {first.plural} than {_of(second).plural}?"
        case "spatial":
            return f"Is the {first.singular} {spec.asks} the {_of(second).singular}?"
        case "remove":
            return f"How many objects are left if all {first.plural} are removed?"
        case "add":
            return f"How many {first.plural} are there if {spec.number} more are added?"
        case other:
            raise ValueError(f"no wording for question family {other!r}")


def _of(predicate: Predicate | None) -> Predicate:
    if predicate is None:
        raise ValueError("this question family needs a second predicate")
    return predicate


def scan(things: Sequence[Thing], predicate: Predicate) -> tuple[str, int]:
    """``green square? top left green star green square no; … yes 1.`` and the count."""
    parts, count = [], 0
    for thing in things:
        pair = f"{thing.place} {predicate.shown(thing)} {predicate.words}"
        if predicate.holds(thing):
            count += 1
            parts.append(f"{pair} yes {count}")
        else:
            parts.append(f"{pair} no")
    return f"{predicate.words}? " + "; ".join(parts) + ".", count


def _find(things: Sequence[Thing], predicate: Predicate) -> Thing:
    found = [t for t in things if predicate.holds(t)]
    if len(found) != 1:
        raise ValueError(f"{predicate.singular!r} names {len(found)} objects; it must name one")
    return found[0]


def solve(scene: Scene, spec: Spec) -> Solution:
    """Plan, reasoning and answer for ``spec`` in ``scene``; raises ValueError when it cannot be asked there."""
    things = scene.things
    if spec.family == "choice":
        return _solve_choice(scene, spec)
    first = spec.first
    if spec.family == "spatial":
        return _solve_spatial(things, spec)
    if spec.family == "query":
        found = _find(things, first)
        text, _ = scan(things, first)
        value = str(getattr(found, spec.asks))
        return Solution(
            summary=f"Find the {first.singular} and name its {spec.asks}.",
            reasoning=f"{text} {found.phrase}. So {value}.",
            answer=value,
        )
    text, count = scan(things, first)
    match spec.family:
        case "count":
            return Solution(summary=f"Count the {first.plural}.", reasoning=f"{text} So {count}.", answer=str(count))
        case "exist":
            answer = "yes" if count else "no"
            return Solution(summary=f"Look for a {first.singular}.", reasoning=f"{text} So {answer}.", answer=answer)
        case "compare":
            second = _of(spec.second)
            other_text, other = scan(things, second)
            answer = "yes" if count > other else "no"
            return Solution(
                summary=f"Count the {first.plural}, count the {second.plural}, and compare.",
                reasoning=f"{text} {other_text} {count} more than {other} {answer}. So {answer}.",
                answer=answer,
            )
        case "remove":
            left = len(things) - count
            return Solution(
                summary=f"Count the objects that are not {first.plural}.",
                reasoning=f"{_scan_left(things, first)} So {left}.",
                answer=str(left),
            )
        case "add":
            total = count + spec.number
            return Solution(
                summary=f"Count the {first.plural} and add {spec.number}.",
                reasoning=f"{text} {count} plus {spec.number} is {total}. So {total}.",
                answer=str(total),
            )
        case other_family:
            raise ValueError(f"unknown question family {other_family!r}; known: {', '.join(FAMILIES)}")


def _scan_left(things: Sequence[Thing], predicate: Predicate) -> str:
    parts, left = [], 0
    for thing in things:
        pair = f"{thing.place} {predicate.shown(thing)} {predicate.words}"
        if predicate.holds(thing):
            parts.append(f"{pair} removed")
        else:
            left += 1
            parts.append(f"{pair} left {left}")
    return f"{predicate.words}? " + "; ".join(parts) + "."


def _solve_spatial(things: Sequence[Thing], spec: Spec) -> Solution:
    first, second = spec.first, _of(spec.second)
    one, two = _find(things, first), _find(things, second)
    axis = DIRECTIONS[spec.asks]
    here, there = (one.column, two.column) if axis else (one.row, two.row)
    names = COLUMNS if axis else ROWS
    is_before = spec.asks in ("left of", "above")
    answer = "yes" if (here < there if is_before else here > there) else "no"
    return Solution(
        summary=f"Find the {first.singular}, find the {second.singular}, and compare their places.",
        reasoning=(
            f"{scan(things, first)[0]} {scan(things, second)[0]} "
            f"{names[here]} {spec.asks} {names[there]} {answer}. So {answer}."
        ),
        answer=answer,
    )


def _solve_choice(scene: Scene, spec: Spec) -> Solution:
    inner = solve(scene, inner_spec(spec))
    letters = LETTERS[: len(spec.choices)]
    marks = [
        f"{letter} {text} {inner.answer} {'yes' if text == inner.answer else 'no'}"
        for letter, text in zip(letters, spec.choices, strict=True)
    ]
    letter = letters[spec.choices.index(inner.answer)]
    return Solution(
        summary=f"{inner.summary[:-1]}, then pick the option.",
        reasoning=f"{inner.reasoning} {'; '.join(marks)}. So {letter}.",
        answer=letter,
    )


def inner_spec(spec: Spec) -> Spec:
    """The open question inside a multiple-choice one."""
    if spec.asks in ("color", "shape", "size"):
        return replace(spec, family="query", choices=())
    return replace(spec, family=spec.asks, asks="", choices=())


def options(answer: str, rng: random.Random) -> tuple[str, ...]:
    """Three or four options of the answer's kind, the answer among them, in random order."""
    if answer.isdigit():
        near = [str(n) for n in range(max(0, int(answer) - 3), int(answer) + 4) if str(n) != answer]
        others = rng.sample(near, 3)
    else:
        kind = next(values for values in (COLORS, SHAPES, SIZES) if answer in values)
        pool = [v for v in kind if v != answer]
        others = rng.sample(pool, min(3, len(pool)))
    found = [*others, answer]
    rng.shuffle(found)
    return tuple(found)
