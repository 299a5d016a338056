"""What every page shares: the templates, pictures as data URIs, a trace laid out as a tree.

Everything that comes from data is escaped by the templates; only charts of our own making go in as
they are.
"""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from pipelines.diagnostics import STAGE_ORDER, conclusion_of, stage_name
from reasoning.grading import is_correct
from reasoning.records import Question
from reasoning.trace import Candidate, Comparison, Trace, Verdict

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"RIFF", "image/webp"),
)
# Below this a picture is drawn for a tiny model and is shown enlarged, pixel by pixel.
_TINY_IMAGE_BYTES = 20_000
_LEFT, _ROW, _TOP, _COLUMN = 92, 64, 18, 68


def render(template: str, **values: Any) -> str:
    """A template of this package, filled in; every value is escaped unless it is Markup."""
    environment = Environment(
        loader=PackageLoader("pipelines", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def image_uri(data: bytes | None) -> str | None:
    """A picture as a data URI; None for bytes that no browser shows, whatever they claim to be."""
    if data is None:
        return None
    kind = next((media_type for magic, media_type in _SIGNATURES if data.startswith(magic)), None)
    return f"data:{kind};base64,{base64.b64encode(data).decode()}" if kind else None


@dataclass(frozen=True, kw_only=True)
class Card:
    """One candidate as it is shown."""

    id: str
    state: str
    """``chosen``, ``kept``, ``fault`` or ``dropped``; also its CSS class."""
    label: str
    text: str
    facts: str
    is_right: bool | None


@dataclass(frozen=True, kw_only=True)
class VerdictLine:
    first: str
    second: str
    outcome: str
    detail: str
    reply: str


@dataclass(frozen=True, kw_only=True)
class Level:
    """One stage: its candidates in writing order and what was said of them."""

    name: str
    y: int
    cards: tuple[Card, ...]
    verdicts: tuple[VerdictLine, ...]


@dataclass(frozen=True, kw_only=True)
class Node:
    id: str
    x: int
    y: int
    state: str


@dataclass(frozen=True, kw_only=True)
class Edge:
    x1: int
    y1: int
    x2: int
    y2: int
    is_chosen: bool


@dataclass(frozen=True, kw_only=True)
class TraceView:
    """A question, its answer and its tree, ready for the templates; sizes in CSS pixels."""

    question: str
    choices: tuple[str, ...]
    answer: str | None
    conclusion: str | None
    is_correct: bool | None
    facts: tuple[tuple[str, str], ...]
    image_uri: str | None
    is_image_tiny: bool
    levels: tuple[Level, ...]
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    width: int
    height: int


def trace_view(
    question: Question, trace: Trace, *, conclusion: str | None, facts: Sequence[tuple[str, str]] = ()
) -> TraceView:
    """Lay a trace out; whether an answer is right is shown where the known answer tells."""
    image = question.image.data if question.image is not None else None
    is_known = question.answer is not None
    levels = _levels(question, trace)
    nodes = {
        card.id: Node(id=card.id, x=_LEFT + _COLUMN * column, y=level.y, state=card.state)
        for level in levels
        for column, card in enumerate(level.cards)
    }
    widest = max((len(level.cards) for level in levels), default=1)
    return TraceView(
        question=question.question,
        choices=question.choices,
        answer=question.answer,
        conclusion=conclusion,
        is_correct=(conclusion is not None and is_correct(question, conclusion)) if is_known else None,
        facts=tuple(facts),
        image_uri=image_uri(image),
        is_image_tiny=image is not None and len(image) < _TINY_IMAGE_BYTES,
        levels=levels,
        nodes=tuple(nodes.values()),
        edges=_edges(trace, nodes),
        width=_LEFT + _COLUMN * widest,
        height=2 * _TOP + _ROW * max(len(levels) - 1, 0),
    )


def _levels(question: Question, trace: Trace) -> tuple[Level, ...]:
    cards: dict[str, list[Card]] = defaultdict(list)
    for candidate in trace.candidates:
        cards[stage_name(candidate.stage)].append(_card(question, trace, candidate))
    verdicts: dict[str, list[VerdictLine]] = defaultdict(list)
    for comparison in trace.comparisons:
        verdicts[stage_name(comparison.stage)].append(_verdict_line(comparison))
    names = [name for name in STAGE_ORDER if name in cards]
    return tuple(
        Level(name=name.lower(), y=_TOP + _ROW * row, cards=tuple(cards[name]), verdicts=tuple(verdicts[name]))
        for row, name in enumerate(names)
    )


def _card(question: Question, trace: Trace, candidate: Candidate) -> Card:
    text = conclusion_of(candidate, trace.strategy)
    state = _state(trace, candidate)
    facts = [f"score {candidate.score:.3f}"] if candidate.score is not None else []
    if candidate.parent is not None:
        facts.insert(0, f"after {candidate.parent}")
    facts += [f"{candidate.tokens} tokens", f"logprob {candidate.logprob:.2f}", f"ended by {candidate.stop.value}"]
    return Card(
        id=candidate.id,
        state=state,
        label=candidate.fault if state == "fault" and candidate.fault else state,
        text=candidate.text,
        facts=" · ".join(facts).replace("-", "−"),
        is_right=is_correct(question, text) if text is not None and question.answer is not None else None,
    )


def _state(trace: Trace, candidate: Candidate) -> str:
    if candidate.id in trace.chosen:
        return "chosen"
    if candidate.fault is not None:
        return "fault"
    return "kept" if candidate.is_kept else "dropped"


def _verdict_line(comparison: Comparison) -> VerdictLine:
    outcome = {
        Verdict.FIRST: comparison.first,
        Verdict.SECOND: comparison.second,
        Verdict.TIE: "undecided",
        Verdict.UNREADABLE: "no readable verdict",
    }[comparison.verdict]
    details = []
    if comparison.p_first is not None:
        won = comparison.p_first if comparison.verdict is not Verdict.SECOND else 1 - comparison.p_first
        details.append(f"{100 * won:.0f} %")
    if comparison.is_swap_consistent is not None:
        details.append("both orders agree" if comparison.is_swap_consistent else "the orders disagree")
    return VerdictLine(
        first=comparison.first,
        second=comparison.second,
        outcome=outcome,
        detail=", ".join(details),
        reply=comparison.reply,
    )


def _edges(trace: Trace, nodes: Mapping[str, Node]) -> tuple[Edge, ...]:
    """From each candidate's parent to it; the winning path last, so that it is drawn on top."""
    edges = [
        Edge(
            x1=nodes[candidate.parent].x,
            y1=nodes[candidate.parent].y + 8,
            x2=nodes[candidate.id].x,
            y2=nodes[candidate.id].y - 8,
            is_chosen=candidate.id in trace.chosen and candidate.parent in trace.chosen,
        )
        for candidate in trace.candidates
        if candidate.parent is not None and candidate.parent in nodes
    ]
    return tuple(sorted(edges, key=lambda edge: edge.is_chosen))
