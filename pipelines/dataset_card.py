"""The dataset card: README.md with a YAML header, beside annotated or exported data.

Says what a reader of the data must know: where the questions come from and under which licences,
who wrote the answers and how they were checked, what is missing and what it cost.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.stores import open_store
from pipelines.card_facts import CardFacts, SourceCount, gather_facts
from pipelines.sources.base import SourceInfo

CARD_FILE = "README.md"
PAPER = "https://arxiv.org/abs/2411.10440"
_HUB_LICENCES = {
    "mit": "mit",
    "apache20": "apache-2.0",
    "gpl30": "gpl-3.0",
    "bsd3clause": "bsd-3-clause",
    "cc010": "cc0-1.0",
    "ccby40": "cc-by-4.0",
    "ccbysa40": "cc-by-sa-4.0",
    "ccbync40": "cc-by-nc-4.0",
    "ccbyncsa40": "cc-by-nc-sa-4.0",
}
"""A licence's letters and digits to the Hub's name of it; what is not here is ``other``."""
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_LARGEST = "1M<n<10M"
_BIBTEX = """```bibtex
@misc{xu2024llavacot,
  title         = {LLaVA-CoT: Let Vision Language Models Reason Step-by-Step},
  author        = {Guowei Xu and others},
  year          = {2024},
  eprint        = {2411.10440},
  archivePrefix = {arXiv},
  primaryClass  = {cs.CV}
}
```"""
_UNKNOWN = "not known"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The files that a card stands beside."""

    title: str
    data_files: str
    """A glob that loads the records, relative to the card."""
    files: Sequence[tuple[str, str]]
    """Names and what they are."""
    records: int
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Accepted rows that are in no record, by cause."""


RUN_FILES = (
    ("accepted/", "accepted rows: the question, its picture, the four stages, the reply, calls, tokens, cost"),
    ("rejected/", "rejected rows with `reason` and `detail`"),
    ("commits/", "a marker for each pair of files; a file that no marker names does not count"),
    ("run.json", "what the run depends on, and what came of it"),
)


def write_card(run: str | Path, *, known: Mapping[str, SourceInfo] | None = None) -> None:
    """Write ``README.md`` into an annotation run's folder, local or in an object store, from its committed rows.

    ``known`` tells the sources' licences by name; none takes the built-in sources'. Raises InputError
    when ``run`` is no annotation run.
    """
    facts = gather_facts(run)
    layout = Layout(
        title="Four-stage answers to questions about pictures",
        data_files="accepted/*.parquet",
        files=RUN_FILES,
        records=facts.accepted,
    )
    write_export_card(run, facts, layout, known=known)


def write_export_card(
    folder: str | Path, facts: CardFacts, layout: Layout, *, known: Mapping[str, SourceInfo] | None = None
) -> None:
    """Write ``README.md`` into ``folder`` for what ``layout`` describes."""
    text = render_card(facts, layout, known=known_sources() if known is None else known)
    open_store(folder).write(CARD_FILE, text.encode())


def known_sources() -> dict[str, SourceInfo]:
    """The built-in sources by name."""
    from pipelines.sources.catalogue import SOURCES

    return {source.name: source.info for source in SOURCES}


def render_card(facts: CardFacts, layout: Layout, *, known: Mapping[str, SourceInfo]) -> str:
    """The card's text; the same facts give the same text."""
    sections = [
        f"# {layout.title}",
        _intro(facts, layout),
        "## Sources",
        _sources(facts.sources, known),
        "## How the answers were made",
        _making(facts),
        "## What was left out",
        _left_out(facts, layout),
        "## Cost",
        _cost(facts),
        "## Known limits",
        _limits(facts, known),
        "## Files",
        "\n".join(f"- `{name}`: {what}" for name, what in layout.files),
        "## Citation",
        f"The form of the answers and the way they are made follow LLaVA-CoT ({PAPER}). "
        "Cite it, and the data sets that the questions come from:",
        _BIBTEX,
    ]
    return f"---\n{_header(facts, layout, known)}\n---\n\n" + "\n\n".join(sections) + "\n"


def hub_licence(text: str) -> str:
    """The Hub's identifier of a licence as a data set states it, ``other`` where there is none."""
    return _HUB_LICENCES.get(re.sub(r"[^a-z0-9]", "", text.lower()), "other")


def _header(facts: CardFacts, layout: Layout, known: Mapping[str, SourceInfo]) -> str:
    from huggingface_hub import DatasetCardData

    names = {count.source for count in facts.sources if count.accepted}
    licences = sorted({hub_licence(known[name].licence) if name in known else "other" for name in names}) or ["other"]
    size = next((label for limit, label in _SIZES if layout.records < limit), _LARGEST)
    data = DatasetCardData(
        license=licences[0] if len(licences) == 1 else licences,
        annotations_creators=["machine-generated"],
        task_categories=["visual-question-answering", "image-text-to-text"],
        size_categories=[size],
        pretty_name=layout.title,
        tags=["llava-cot", "chain-of-thought", "synthetic", "stagebeam"],
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": layout.data_files}]}],
    )
    return str(data.to_yaml()).strip()


def _intro(facts: CardFacts, layout: Layout) -> str:
    teachers = ", ".join(f"`{name}` ({count:,} rows)" for name, count in facts.teachers.most_common()) or "nobody yet"
    state = "" if facts.is_finished else " The run was not finished when this was written."
    return (
        f"{layout.records:,} records from {facts.accepted:,} accepted of {facts.counts.get('rows', 0):,} annotated "
        f"questions, in {facts.conversations:,} conversations. Each answer has four stages: `<SUMMARY>`, `<CAPTION>`, "
        f"`<REASONING>`, `<CONCLUSION>`. They were written by {teachers}.{state}"
    )


def _sources(counts: Sequence[SourceCount], known: Mapping[str, SourceInfo]) -> str:
    rows = [("source", "split", "accepted", "rejected", "licence", "where")]
    for count in counts:
        info = known.get(count.source)
        licence, where = (info.licence, info.where) if info else (_UNKNOWN, _UNKNOWN)
        rows.append(
            (count.source or "(none)", count.split or "-", f"{count.accepted:,}", f"{count.rejected:,}", licence, where)
        )
    note = (
        "The questions and pictures stay under their sources' licences, which bind whoever uses this data; "
        "the terms of the model that wrote the answers apply too."
    )
    return f"{_table(rows)}\n\n{note}"


def _making(facts: CardFacts) -> str:
    versions = ", ".join(f"`{name}`" for name in sorted(facts.prompt_versions)) or _UNKNOWN
    lines = [f"- Prompts: {versions}{f', mode `{facts.mode}`' if facts.mode else ''}"]
    if facts.max_attempts is not None:
        lines.append(f"- Attempts at a question: at most {facts.max_attempts}, each with the last fault shown")
    lines.append(
        "- Every accepted answer has the four tags in order, is no refusal and was not cut off; where a standard "
        "answer is known, the conclusion agrees with it, by rule or by a judge's word"
    )
    if facts.verify:
        settings = ", ".join(f"`{name}: {_plain(value)}`" for name, value in sorted(facts.verify.items()))
        lines.append(f"- Checks: {settings}")
    if facts.checks:
        passed = ", ".join(f"{name} {count:,}" for name, count in facts.checks.most_common())
        lines.append(f"- Accepted rows by check passed: {passed}")
    repaired = facts.counts.get("repaired", 0)
    lines.append(f"- Accepted after more than one attempt: {repaired:,}")
    return "\n".join(lines)


def _left_out(facts: CardFacts, layout: Layout) -> str:
    rows = [("reason", "rows"), *((reason, f"{count:,}") for reason, count in facts.rejected.items())]
    parts = [_table(rows) if len(rows) > 1 else "No row was rejected."]
    if layout.left_out:
        causes = ", ".join(f"{cause} {count:,}" for cause, count in layout.left_out.items())
        parts.append(f"Accepted rows that are in no record: {causes} (`left_out.jsonl` names them).")
    return "\n\n".join(parts)


def _cost(facts: CardFacts) -> str:
    counts = facts.counts
    return (
        f"{counts.get('calls', 0):,} calls, {counts.get('prompt_tokens', 0):,} prompt and "
        f"{counts.get('generated_tokens', 0):,} generated tokens, {facts.dollars:,.2f} dollars at the known prices "
        "(0 where the price is not known); rejected rows are in it."
    )


def _limits(facts: CardFacts, known: Mapping[str, SourceInfo]) -> str:
    lines = [
        "- Machine-written: summary, caption and reasoning are checked far less than the conclusion; "
        "a right conclusion may stand on a wrong description.",
        "- Questions that the teacher could not answer are missing, so the data is easier than its sources.",
        "- The teacher was shown the standard answer; what says so was rejected by rule, which may miss some.",
        "- Some sources overlap with public benchmarks: see `stagebeam decontaminate`.",
    ]
    if facts.answer_types.get("free"):
        lines.append(
            f"- {facts.answer_types['free']:,} rows have free answers, for which agreement is a matter of judgement."
        )
    unknown = sorted({count.source or "(none)" for count in facts.sources if count.source not in known})
    if unknown:
        lines.append(f"- The licence is not known here for: {', '.join(unknown)}.")
    return "\n".join(lines)


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
