"""A trace laid out for a page: a tree of nodes, a card for each candidate, what each met with.

Plain values for the templates; nothing is measured or written here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipelines.diagnostics import STAGE_ORDER, conclusion_of, stage_name
from pipelines.pages import image_uri
from reasoning.grading import is_correct
from reasoning.protocols import StopReason
from reasoning.records import Question
from reasoning.search.config import Strategy
from reasoning.trace import Candidate, Comparison, Trace, Verdict

# Below this a picture is drawn for a tiny model and is shown enlarged, pixel by pixel.
_TINY_IMAGE_BYTES = 20_000
_LEFT, _ROW, _TOP = 88, 62, 18
_ENDINGS = {
    StopReason.TAG: "its closing tag",
    StopReason.EOS: "the end of the turn",
    StopReason.LENGTH: "the token limit",
    StopReason.ABORTED: "the engine, which gave up",
}
_LABELS = {"chosen": "winning path", "kept": "kept", "dropped": "dropped"}


@dataclass(frozen=True, kw_only=True)
class Link:
    """Another candidate: its name and its card's place on the page."""

    id: str
    anchor: str


@dataclass(frozen=True, kw_only=True)
class Meeting:
    """One comparison as one of the two saw it."""

    other: Link
    outcome: str
    """``won``, ``lost``, ``tied`` or ``unreadable``; also its CSS class."""
    detail: str
    reply: str


@dataclass(frozen=True, kw_only=True)
class Card:
    """One candidate as it is shown."""

    id: str
    anchor: str
    level: str
    state: str
    """``chosen``, ``kept``, ``fault`` or ``dropped``; also its CSS class."""
    label: str
    text: str
    facts: tuple[tuple[str, str], ...]
    parent: Link | None
    children: tuple[Link, ...]
    twin: Link | None
    """An earlier candidate that says the same: this one was not judged."""
    meetings: tuple[Meeting, ...]
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
    """One row of the tree: its candidates from left to right and what was said of them."""

    name: str
    y: int
    cards: tuple[Card, ...]
    verdicts: tuple[VerdictLine, ...]


@dataclass(frozen=True, kw_only=True)
class Node:
    id: str
    anchor: str
    parent: str
    """The parent's anchor; empty at the root."""
    level: str
    label: str
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
    column_width: int


def trace_view(
    question: Question, trace: Trace, *, conclusion: str | None, facts: Sequence[tuple[str, str]] = ()
) -> TraceView:
    """Lay a trace out; whether an answer is right is shown where the known answer tells."""
    image = question.image.data if question.image is not None else None
    is_known = question.answer is not None
    levels = _levels(question, trace)
    column_width = 36 + 6 * max((len(candidate.id) for candidate in trace.candidates), default=0)
    nodes = {
        card.id: Node(
            id=card.id,
            anchor=card.anchor,
            parent=card.parent.anchor if card.parent else "",
            level=level.name,
            label=card.label,
            x=_LEFT + column_width * column,
            y=level.y,
            state=card.state,
        )
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
        width=_LEFT + column_width * widest,
        height=2 * _TOP + _ROW * max(len(levels) - 1, 0),
        column_width=column_width,
    )


def _levels(question: Question, trace: Trace) -> tuple[Level, ...]:
    rows = _rows(trace)
    anchors = {candidate.id: f"c{number}" for number, candidate in enumerate(trace.candidates, 1)}
    verdicts: dict[str, list[VerdictLine]] = defaultdict(list)
    level_of = {candidate.id: name for name, row in rows for candidate in row}
    for comparison in trace.comparisons:
        # Subtrees compare whole answers at the end: those verdicts stand with the conclusions.
        verdicts[level_of.get(comparison.first, "")].append(_verdict_line(comparison))
    return tuple(
        Level(
            name=name,
            y=_TOP + _ROW * number,
            cards=tuple(_card(question, trace, candidate, name, anchors) for candidate in row),
            verdicts=tuple(verdicts[name]),
        )
        for number, (name, row) in enumerate(rows)
    )


def _rows(trace: Trace) -> list[tuple[str, list[Candidate]]]:
    """The candidates of each row of the tree; in a row children of one parent stand side by side."""
    depth: dict[str, int] = {}
    by_row: dict[tuple[int, str], list[Candidate]] = defaultdict(list)
    for candidate in trace.candidates:
        depth[candidate.id] = 0 if candidate.parent is None else depth.get(candidate.parent, -1) + 1
        if candidate.stage is not None:
            by_row[STAGE_ORDER.index(candidate.stage.value), candidate.stage.lower()].append(candidate)
        elif trace.strategy == Strategy.SENTENCE_BEAM:
            by_row[depth[candidate.id], f"sentence {depth[candidate.id] + 1}"].append(candidate)
        else:
            by_row[depth[candidate.id], stage_name(None)].append(candidate)
    place: dict[str, int] = {}
    rows: list[tuple[str, list[Candidate]]] = []
    for (_, name), row in sorted(by_row.items(), key=lambda item: item[0]):
        ordered = sorted(row, key=lambda candidate: place.get(candidate.parent or "", -1))
        place |= {candidate.id: number for number, candidate in enumerate(ordered)}
        rows.append((name, ordered))
    return rows


def _card(question: Question, trace: Trace, candidate: Candidate, level: str, anchors: Mapping[str, str]) -> Card:
    text = conclusion_of(candidate, trace.strategy)
    state = _state(trace, candidate)
    children = [c.id for c in trace.candidates if c.parent == candidate.id]
    twin = next(c.id for c in trace.candidates if _is_said_again(c, candidate))
    return Card(
        id=candidate.id,
        anchor=anchors[candidate.id],
        level=level,
        state=state,
        label=candidate.fault if state == "fault" and candidate.fault else _LABELS.get(state, state),
        text=candidate.text,
        facts=_facts(candidate),
        parent=_link(candidate.parent, anchors),
        children=tuple(link for name in children if (link := _link(name, anchors)) is not None),
        twin=_link(twin, anchors) if twin != candidate.id else None,
        meetings=tuple(
            _meeting(comparison, candidate.id, anchors)
            for comparison in trace.comparisons
            if candidate.id in (comparison.first, comparison.second)
        ),
        is_right=is_correct(question, text) if text is not None and question.answer is not None else None,
    )


def _is_said_again(first: Candidate, candidate: Candidate) -> bool:
    if candidate.id == first.id:
        return True
    is_alike = (first.parent, first.stage, first.text) == (candidate.parent, candidate.stage, candidate.text)
    return is_alike and first.fault is None and candidate.fault is None


def _link(name: str | None, anchors: Mapping[str, str]) -> Link | None:
    return Link(id=name, anchor=anchors[name]) if name is not None and name in anchors else None


def _facts(candidate: Candidate) -> tuple[tuple[str, str], ...]:
    ending = _ENDINGS[candidate.stop]
    if candidate.stop is StopReason.TAG and candidate.stage is None:
        ending = "the end of a sentence"
    facts = [("Ended by", ending), ("Tokens", f"{candidate.tokens:,}")]
    if candidate.logprob is not None:
        mean = candidate.logprob / max(1, candidate.tokens)
        facts.append(("Log-probability", _minus(f"{candidate.logprob:.3g}, {mean:.3g} a token")))
    if candidate.score is not None:
        facts.append(("Score", _minus(f"{candidate.score:.3f}")))
    return (*facts, ("Seed", str(candidate.seed)))


def _minus(text: str) -> str:
    return text.replace("-", "−")


def _state(trace: Trace, candidate: Candidate) -> str:
    if candidate.id in trace.chosen:
        return "chosen"
    if candidate.fault is not None:
        return "fault"
    return "kept" if candidate.is_kept else "dropped"


def _meeting(comparison: Comparison, own: str, anchors: Mapping[str, str]) -> Meeting:
    is_first = comparison.first == own
    other = comparison.second if is_first else comparison.first
    outcome = {
        Verdict.FIRST: "won" if is_first else "lost",
        Verdict.SECOND: "lost" if is_first else "won",
        Verdict.TIE: "tied",
        Verdict.UNREADABLE: "unreadable",
    }[comparison.verdict]
    details = []
    if comparison.p_first is not None:
        share = comparison.p_first if is_first else 1 - comparison.p_first
        details.append(f"{100 * share:.0f} % for {own}, {100 - round(100 * share)} % for {other}")
    return Meeting(
        other=_link(other, anchors) or Link(id=other, anchor=""),
        outcome=outcome,
        detail=", ".join([*details, *_order_details(comparison)]),
        reply=comparison.reply,
    )


def _order_details(comparison: Comparison) -> list[str]:
    details = []
    if comparison.is_swap_consistent is not None:
        details.append("both orders agree" if comparison.is_swap_consistent else "the orders disagree")
    if comparison.unread and comparison.verdict is not Verdict.UNREADABLE:
        details.append("one reply unreadable")
    return details


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
    return VerdictLine(
        first=comparison.first,
        second=comparison.second,
        outcome=outcome,
        detail=", ".join([*details, *_order_details(comparison)]),
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
