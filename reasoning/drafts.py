"""A candidate as selectors and scorers see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from reasoning.stages import Stage


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A usable candidate."""

    id: str
    text: str
    """The stage's text, or the whole answer as generated."""
    prior: Mapping[Stage, str] = field(default_factory=dict)
    """The stages written before it."""
    mean_logprob: float = 0.0
    """Per token, over everything written for it so far."""
    logprob: float = 0.0
    """The sum behind that mean."""
    key: str = ""
    """Whole answers: what its conclusion means (``grading.canonical``)."""


def distinct(drafts: Sequence[Draft]) -> list[Draft]:
    """The first of each set of drafts that say the same in every stage."""
    first: dict[tuple[tuple[str, ...], str], Draft] = {}
    for draft in drafts:
        first.setdefault((tuple(draft.prior.values()), draft.text), draft)
    return list(first.values())
