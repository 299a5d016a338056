"""How often judging went other than hoped for: counted from a trace, added up over many."""

from __future__ import annotations

from dataclasses import dataclass, fields

from reasoning.ledger import Summable
from reasoning.trace import Trace, Verdict


@dataclass(frozen=True, kw_only=True)
class VerdictCounts(Summable):
    """Counts of one answer, or of many added together."""

    comparisons: int = 0
    """Comparisons of two candidates."""
    unreadable: int = 0
    """Of these: a reply held no verdict that could be read, in one order or in both."""
    swapped: int = 0
    """Of these: the two orders named different winners."""
    tied: int = 0
    """Of these: no winner was named; those swapped are among them."""
    fallbacks: int = 0
    """Notes of what did not go as configured, such as a vote in place of a lost judge."""

    def as_dict(self) -> dict[str, int]:
        """Field name to count, for JSON and Parquet."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


def count_verdicts(trace: Trace) -> VerdictCounts:
    """What the comparisons and notes of ``trace`` come to."""
    met = trace.comparisons
    return VerdictCounts(
        comparisons=len(met),
        unreadable=sum(one.unread > 0 or one.verdict is Verdict.UNREADABLE for one in met),
        swapped=sum(one.is_swap_consistent is False for one in met),
        tied=sum(one.verdict is Verdict.TIE for one in met),
        fallbacks=len(trace.notes),
    )
