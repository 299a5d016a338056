"""What a dataset card says of an annotation run, gathered from its folder. Reads and counts; writes nothing.

Taken over is only what is known to be harmless: counts, names of sources, models and settings of
the checks. No path, address or key of the machine that the run was made on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.storage import read_run
from pipelines.annotations import ACCEPTED, REJECTED, RUN_KIND, committed_counts, read_annotated
from pipelines.exports.conversations import conversation_key

_COLUMNS = ("id", "source", "split", "conversation_id", "turn", "teacher", "prompt_version", "checks", "answer_type")
_REJECTED = "rejected."


@dataclass(frozen=True, kw_only=True)
class SourceCount:
    """Rows of one source and split."""

    source: str
    split: str
    accepted: int
    rejected: int


@dataclass
class CardFacts:
    """What is known of a run."""

    config_hash: str
    is_finished: bool
    counts: Mapping[str, int]
    """``rows``, ``accepted``, ``calls``, ``prompt_tokens`` and so on, as the shards' markers say."""
    verify: Mapping[str, Any]
    mode: str
    max_attempts: int | None
    sources: list[SourceCount] = field(default_factory=list)
    teachers: Counter[str] = field(default_factory=Counter)
    """Accepted rows by the model that wrote them."""
    prompt_versions: Counter[str] = field(default_factory=Counter)
    checks: Counter[str] = field(default_factory=Counter)
    """Accepted rows by the check they passed."""
    answer_types: Counter[str] = field(default_factory=Counter)
    conversations: int = 0

    @property
    def accepted(self) -> int:
        return self.counts.get("accepted", 0)

    @property
    def rejected(self) -> dict[str, int]:
        """Rows by reason, the most frequent first."""
        found = {k.removeprefix(_REJECTED): v for k, v in self.counts.items() if k.startswith(_REJECTED) and v}
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    @property
    def dollars(self) -> float:
        return self.counts.get("nano_dollars", 0) / 1e9


def gather_facts(run: str | Path) -> CardFacts:
    """The facts of an annotation run, finished or not; raises InputError when ``run`` is none."""
    record = read_run(run, kind=RUN_KIND)
    identity = record.get("identity", {})
    facts = CardFacts(
        config_hash=record["config_hash"],
        is_finished=bool(record.get("result", {}).get("is_finished", False)),
        counts=committed_counts(run),
        verify=identity.get("verify") or {},
        mode=str(identity.get("mode") or ""),
        max_attempts=identity.get("max_attempts"),
    )
    accepted: Counter[tuple[str, str]] = Counter()
    rejected: Counter[tuple[str, str]] = Counter()
    keys: set[str] = set()
    for row in read_annotated(run, ACCEPTED, _COLUMNS):
        accepted[_place(row)] += 1
        facts.teachers[row.get("teacher") or ""] += 1
        facts.prompt_versions[row.get("prompt_version") or ""] += 1
        facts.answer_types[row.get("answer_type") or ""] += 1
        facts.checks.update(row.get("checks") or ())
        keys.add(conversation_key(row))
    for row in read_annotated(run, REJECTED, ("source", "split")):
        rejected[_place(row)] += 1
    facts.conversations = len(keys)
    facts.sources = [
        SourceCount(source=source, split=split, accepted=accepted[source, split], rejected=rejected[source, split])
        for source, split in sorted({*accepted, *rejected})
    ]
    return facts


def _place(row: Mapping[str, Any]) -> tuple[str, str]:
    return row.get("source") or "", row.get("split") or ""
