"""Training rows from an annotation run: four-stage answers, direct answers, judgements.

Reads committed shards only. The rows and their order depend on the accepted rows alone, not on how
they came to lie in shards: a run that was interrupted exports the same as one that was not.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.storage import Commit, RunFolder, read_run
from pipelines.annotate import RUN_KIND as ANNOTATE_KIND
from pipelines.annotate import committed_files
from pipelines.judgements import JudgementConfig, judgement_rows, parse_flawed
from pipelines.schemas import open_parquet, question_from_row, read_rows, stages_from_row, write_training
from pipelines.shards import ACCEPTED
from reasoning.errors import ConfigError, InputError
from reasoning.parsing import ParseFault
from reasoning.prompts import question_text
from reasoning.records import Question, RowKind, TrainingRow
from reasoning.stages import FourStages

RUN_KIND = "export"
DEFAULT_KINDS = (RowKind.FOUR_STAGE, RowKind.JUDGEMENT)
_KEY = "rows"
_ROWS_IN_MEMORY = 10_000
"""Accepted rows that are held, images and all, to put them in order."""


@dataclass(frozen=True, kw_only=True)
class ExportSummary:
    """What was written."""

    output: Path
    rows: dict[RowKind, int]
    skipped: dict[str, int]
    """Accepted rows that gave no row of a kind, by cause: ``no_flawed_reply``, ``flawed_unreadable``, ``history``."""


def write_training_rows(
    annotations: Path,
    output: Path,
    *,
    kinds: Sequence[RowKind] = DEFAULT_KINDS,
    judgements: JudgementConfig | None = None,
    rows_per_file: int = 2000,
) -> ExportSummary:
    """SFT shards ``part-00000.parquet`` and on, in the columns of ``TrainingRow``.

    A folder that holds the same rows already is left as it is. Raises InputError when
    ``annotations`` is no annotation run or has no accepted row, OutputMismatchError when ``output``
    holds something else.
    """
    if not kinds:
        raise ConfigError("write_training_rows needs at least one kind of row; got none")
    judgements = judgements or JudgementConfig()
    files = committed_files(annotations, ACCEPTED)
    ids = _ids(files)
    if not ids:
        raise InputError(f"{annotations}: no row was accepted, so there is nothing to train on")
    identity = {
        "annotations": read_run(annotations, kind=ANNOTATE_KIND)["config_hash"],
        "accepted_rows": hashlib.sha256("\x1f".join(sorted(ids)).encode()).hexdigest()[:16],
        "kinds": sorted(kind.value for kind in kinds),
        "judgements": judgements.model_dump(mode="json") if RowKind.JUDGEMENT in kinds else None,
        "rows_per_file": rows_per_file,
    }
    with RunFolder(output, kind=RUN_KIND, identity=identity) as run:
        done = run.commits()
        if done:
            return _summary(output, done[0].counts)
        for path in output.glob("*.parquet"):
            path.unlink()  # Of an export that was interrupted.
        counts: Counter[str] = Counter()
        paths = write_training(output, _rows(files, len(ids), kinds, judgements, counts), rows_per_file=rows_per_file)
        run.commit(Commit(key=_KEY, files=tuple(path.name for path in paths), counts=dict(counts)))
        return _summary(output, counts)


def training_rows(
    question: Question,
    stages: FourStages,
    flawed_reply: str | None,
    *,
    kinds: Sequence[RowKind],
    judgements: JudgementConfig,
    index: int,
) -> tuple[list[TrainingRow], list[str]]:
    """The rows that one accepted annotation gives, and why a kind has none; ``index`` is its number among all."""
    if question.history:
        return [], ["history"]
    rows: list[TrainingRow] = []
    skipped: list[str] = []
    for kind in kinds:
        match kind:
            case RowKind.FOUR_STAGE:
                rows.append(_row(question, kind, question_text(question), stages.render()))
            case RowKind.DIRECT:
                rows.append(_row(question, kind, question_text(question), question.answer or stages.conclusion))
            case RowKind.JUDGEMENT:
                flawed = parse_flawed(flawed_reply) if flawed_reply else None
                if flawed is None:
                    skipped.append("no_flawed_reply")
                elif isinstance(flawed, ParseFault):
                    skipped.append("flawed_unreadable")
                else:
                    rows += judgement_rows(question, stages, flawed, judgements, index=index)
    return rows, skipped


def _rows(
    files: Sequence[Path],
    total: int,
    kinds: Sequence[RowKind],
    judgements: JudgementConfig,
    counts: Counter[str],
) -> Iterator[TrainingRow]:
    for index, row in enumerate(_in_order(files, total)):
        made, skipped = training_rows(
            question_from_row(row),
            stages_from_row(row),
            row["flawed_reply"],
            kinds=kinds,
            judgements=judgements,
            index=index,
        )
        counts.update(f"rows.{one.kind.value}" for one in made)
        counts.update(f"skipped.{cause}" for cause in skipped)
        yield from made


def _in_order(files: Sequence[Path], total: int) -> Iterator[dict[str, Any]]:
    """All rows, ordered by a hash of their ids, in as many passes as memory asks for."""
    passes = -(-total // _ROWS_IN_MEMORY)
    for number in range(passes):
        chosen = [row for file in files for row in read_rows(file) if _place(row["id"]) % passes == number]
        yield from sorted(chosen, key=lambda row: _place(row["id"]))


def _place(identity: str) -> int:
    return int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8], "big")


def _ids(files: Sequence[Path]) -> list[str]:
    return [i for file in files for i in open_parquet(file).read(columns=["id"]).column("id").to_pylist()]


def _row(question: Question, kind: RowKind, prompt: str, response: str) -> TrainingRow:
    return TrainingRow(
        id=f"{question.id}/{kind.value}", kind=kind, image=question.image, prompt=prompt, response=response
    )


def _summary(output: Path, counts: dict[str, int] | Counter[str]) -> ExportSummary:
    rows = {kind: counts[f"rows.{kind.value}"] for kind in RowKind if counts.get(f"rows.{kind.value}")}
    skipped = {name.removeprefix("skipped."): n for name, n in counts.items() if name.startswith("skipped.")}
    return ExportSummary(output=output, rows=rows, skipped=skipped)
