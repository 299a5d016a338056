"""What a run adds up to: counts of its shards, latencies, and the summary that is shown and kept.

Pure: values in, values out. Latencies are counted in buckets that grow by a tenth each, so that
shards can be added up and a percentile is right to within ten per cent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_GROWTH = 1.1
_LATENCY = "latency."
_REJECTED = "rejected."


@dataclass(frozen=True, kw_only=True)
class AnnotateProgress:
    """Where a run stands, its earlier parts included."""

    rows: int
    """Rows of the whole run."""
    done: int
    accepted: int
    rejected: dict[str, int]
    """Rows by reason code, the most frequent first."""
    attempts: int
    """Attempts beyond the first, all rows together."""
    call_retries: int
    """Calls repeated after a rate limit, a server error or a timeout."""
    calls: int
    dollars: float
    seconds: float
    """Since this process began; earlier parts are not in it."""
    preparing: str = ""
    """What is done before the first row, such as reading a data set."""


@dataclass(frozen=True, kw_only=True)
class AnnotationSummary:
    """What a finished run holds, its earlier parts included."""

    output: str
    rows: int
    accepted: int
    rejected: dict[str, int]
    """Rows by reason code, the most frequent first."""
    repaired: int
    """Accepted rows that took more than one attempt."""
    flawed: int
    """Accepted rows with a flawed version for judgements."""
    attempts: int
    """Attempts beyond the first, all rows together."""
    call_retries: int
    calls: int
    """Calls the rows are made of, those that the cache answered too."""
    prompt_tokens: int
    generated_tokens: int
    dollars: float
    """What those calls cost when they were paid."""
    latency_s: dict[str, float]
    """Seconds a paid call took, as ``p50``, ``p90`` and ``p99``; empty when all came from the cache."""
    dropped: int
    """Rows left out because they are on the drop list."""
    vanished: int
    """Committed rows that the input no longer holds."""
    resumed_rows: int
    """Rows that were committed before this process began."""
    paid_calls: int
    """Calls this process paid for."""
    paid_dollars: float
    seconds: float
    config_hash: str

    @property
    def rows_per_second(self) -> float:
        """Rows this process did, in a second."""
        return (self.rows - self.resumed_rows) / self.seconds if self.seconds else 0.0


@dataclass
class Totals:
    """Sums of the shards' counts, by name."""

    values: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, counts: Iterable[Mapping[str, int]]) -> Totals:
        """The sum of several."""
        totals = cls()
        for one in counts:
            totals.add(one)
        return totals

    def add(self, counts: Mapping[str, int], *, sign: int = 1) -> None:
        """Add the counts of a shard, or take them away with ``sign`` -1."""
        for name, value in counts.items():
            self.values[name] = self.values.get(name, 0) + sign * value

    def __getitem__(self, name: str) -> int:
        return self.values.get(name, 0)

    @property
    def dollars(self) -> float:
        return self["nano_dollars"] / 1e9

    def rejected(self) -> dict[str, int]:
        """Rejected rows by reason, the most frequent first."""
        found = {k.removeprefix(_REJECTED): v for k, v in self.values.items() if k.startswith(_REJECTED) and v}
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    def latency_s(self) -> dict[str, float]:
        """``p50``, ``p90`` and ``p99`` of the calls' seconds; empty when there was none."""
        buckets = {int(k.removeprefix(_LATENCY)): v for k, v in self.values.items() if k.startswith(_LATENCY)}
        total = sum(buckets.values())
        if not total:
            return {}
        found: dict[str, float] = {}
        for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
            seen = 0
            for bucket in sorted(buckets):
                seen += buckets[bucket]
                if seen >= share * total:
                    found[name] = round(_GROWTH ** (bucket - 0.5) / 1000, 4)
                    break
        return found


def count_rows(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """What a shard adds to the run's totals; rejected rows also by reason, as ``rejected.<reason>``."""
    counts: dict[str, int] = {
        "rows": len(rows),
        "accepted": sum(row["is_accepted"] for row in rows),
        "repaired": sum(row["is_accepted"] and row["attempts"] > 1 for row in rows),
        "flawed": sum(row["flawed_reply"] is not None for row in rows),
        "further_attempts": sum(max(0, row["attempts"] - 1) for row in rows),
        "nano_dollars": round(sum(row["dollars"] for row in rows) * 1e9),
    }
    for name in ("call_retries", "calls", "cached_calls", "prompt_tokens", "generated_tokens"):
        counts[name] = sum(row[name] for row in rows)
    for row in rows:
        if row["reason"] is not None:
            name = f"{_REJECTED}{row['reason']}"
            counts[name] = counts.get(name, 0) + 1
        for seconds in row["call_seconds"]:
            name = f"{_LATENCY}{_bucket(seconds)}"
            counts[name] = counts.get(name, 0) + 1
    return counts


def _bucket(seconds: float) -> int:
    return max(0, math.ceil(math.log(max(seconds * 1000, 1.0), _GROWTH)))
