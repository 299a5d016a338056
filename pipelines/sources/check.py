"""What a data set's folder holds: files, counts, faults, missing pictures, a few rows. Writes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.sources.base import FAULT, Skipped, Source, SourceInfo, SourceSpec, plain_split
from pipelines.sources.catalogue import choose_source
from pipelines.sources.seen import SeenKeys
from reasoning.records import Question

_EXAMPLES = 3
_REPORT_EVERY = 500


@dataclass(frozen=True, kw_only=True)
class FoundFile:
    """An expected file and how many match it."""

    pattern: str
    what: str
    is_required: bool
    count: int


@dataclass(kw_only=True)
class SourceCheck:
    """What was found; filled row by row."""

    info: SourceInfo
    home: Path
    files: tuple[FoundFile, ...]
    questions: Counter[str] = field(default_factory=Counter)
    """By split, without faults."""
    entries: Counter[str] = field(default_factory=Counter)
    """The same, a conversation counted once."""
    without_image: int = 0
    faults: int = 0
    fault_examples: list[str] = field(default_factory=list)
    doubles: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    missing_images: int = 0
    """Rows whose picture is not where it should be."""
    missing_examples: list[str] = field(default_factory=list)
    samples: list[Question] = field(default_factory=list)

    @property
    def missing_files(self) -> list[FoundFile]:
        return [file for file in self.files if file.is_required and not file.count]

    def counted(self) -> dict[str, tuple[int, int | None]]:
        """By split: how many there are, and how many the official release has, where that is known."""
        found = self.entries if self.info.counted == "conversations" else self.questions
        expected = {plain_split(split): count for split, count in self.info.counts.items()}
        return {split: (count, expected.get(plain_split(split))) for split, count in sorted(found.items())}


def check_source(spec: SourceSpec, *, on_progress: Callable[[int], None] | None = None) -> SourceCheck:
    """Read all of a source and say what is there. Raises InputError when it cannot be read at all."""
    source, home = choose_source(spec.path, spec.name)
    check = SourceCheck(info=source.info, home=home, files=_find_files(source, home))
    seen = SeenKeys()
    last_entry = ""
    for number, row in enumerate(source.read(spec.request(home, draws=False))):
        if on_progress is not None and number % _REPORT_EVERY == 0:
            on_progress(number)
        cause = row.cause if isinstance(row, Skipped) else spec.skip_cause(row)
        if isinstance(row, Skipped) or cause is not None:
            check.skipped[str(cause)] += 1
        elif not seen.add(row.id):
            check.doubles += 1
        elif FAULT in row.meta:
            check.faults += 1
            if len(check.fault_examples) < _EXAMPLES:
                check.fault_examples.append(f"{row.meta.get('row', row.meta.get('image', row.id))}: {row.meta[FAULT]}")
        else:
            entry = row.conversation_id or row.id
            _count(check, row, is_new_entry=entry != last_entry)
            last_entry = entry
    return check


def _count(check: SourceCheck, row: Question, *, is_new_entry: bool) -> None:
    check.questions[row.split] += 1
    check.entries[row.split] += is_new_entry
    if row.image is None:
        check.without_image += 1
    elif row.image.uri is not None and "://" not in row.image.uri and not Path(row.image.uri).is_file():
        check.missing_images += 1
        if len(check.missing_examples) < _EXAMPLES:
            check.missing_examples.append(row.image.uri)
    if len(check.samples) < _EXAMPLES:
        check.samples.append(row)


def _find_files(source: Source, home: Path) -> tuple[FoundFile, ...]:
    """How many files there are of each expected kind; a home that is a file is all there is."""
    found = []
    for file in source.info.files:
        count = 1 if home.is_file() else sum(1 for _ in home.glob(file.pattern))
        found.append(FoundFile(pattern=file.pattern, what=file.what, is_required=file.is_required, count=count))
    return tuple(found)
