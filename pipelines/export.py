"""Training rows from an annotation run: four-stage answers, direct answers, judgements.

Reads committed shards only. The rows and their order depend on the accepted rows alone, not on how
they came to lie in shards: a run that was interrupted exports the same as one that was not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cluster.storage import Commit, RunFolder, read_run
from pipelines.annotations import RUN_KIND as ANNOTATE_KIND
from pipelines.annotations import accepted_ids, digest_of
from pipelines.exports.images import ImageFiles
from pipelines.exports.spill import Spill, remove_spill
from pipelines.judgements import JudgementConfig, judgement_rows, parse_flawed, spoken_before
from pipelines.schemas import question_from_row, stages_from_row, write_training
from reasoning.errors import ConfigError
from reasoning.parsing import ParseFault
from reasoning.prompts import question_text
from reasoning.records import ImageRef, Question, RowKind, TrainingRow
from reasoning.stages import FourStages

RUN_KIND = "export"
DEFAULT_KINDS = (RowKind.FOUR_STAGE, RowKind.JUDGEMENT)
_KEY = "rows"

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class ExportSummary:
    """What was written."""

    output: Path
    rows: dict[RowKind, int]
    skipped: dict[str, int]
    """Accepted rows that gave no row of a kind, by cause: ``no_flawed_reply``, ``flawed_unreadable``."""


def write_training_rows(
    annotations: Path | str,
    output: Path,
    *,
    kinds: Sequence[RowKind] = DEFAULT_KINDS,
    judgements: JudgementConfig | None = None,
    rows_per_file: int = 2000,
    on_progress: Progress | None = None,
) -> ExportSummary:
    """SFT shards ``part-00000.parquet`` and on, in the columns of ``TrainingRow``.

    A question's earlier turns are its rows' ``history``. A picture stays what it is in the run, bytes or
    URI. A folder that holds the same rows already is left as it is. Raises InputError when
    ``annotations`` is no annotation run or has no accepted row, OutputMismatchError when ``output``
    holds something else.
    """
    if not kinds:
        raise ConfigError("write_training_rows needs at least one kind of row; got none")
    judgements = judgements or JudgementConfig()
    ids = accepted_ids(annotations)
    identity = {
        "annotations": read_run(annotations, kind=ANNOTATE_KIND)["config_hash"],
        "accepted_rows": digest_of(ids),
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
        remove_spill(output)
        counts: Counter[str] = Counter()
        report = on_progress or (lambda done, total, detail: None)
        with Spill(output, rows=len(ids), key=lambda row: str(row["id"])) as spill:
            pictures = _Pictures(spill.images())
            spill.fill(annotations, pictures.keep, lambda done, rows: report(done, 2 * rows, "reading"))
            rows = _reported(spill.rows(), len(ids), report)
            made = _rows(rows, pictures, kinds, judgements, counts)
            paths = write_training(output, made, rows_per_file=rows_per_file)
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
    rows: list[TrainingRow] = []
    skipped: list[str] = []
    for kind in kinds:
        match kind:
            case RowKind.FOUR_STAGE:
                rows.append(_row(question, kind, stages.render()))
            case RowKind.DIRECT:
                rows.append(_row(question, kind, question.answer or stages.conclusion))
            case RowKind.JUDGEMENT:
                flawed = parse_flawed(flawed_reply) if flawed_reply else None
                if flawed is None:
                    skipped.append("no_flawed_reply")
                elif isinstance(flawed, ParseFault):
                    skipped.append("flawed_unreadable")
                else:
                    rows += judgement_rows(question, stages, flawed, judgements, index=index)
    return rows, skipped


class _Pictures:
    """Pictures of rows that wait for their turn: bytes in files, a URI as it is."""

    def __init__(self, files: ImageFiles) -> None:
        self._files = files

    def keep(self, ref: ImageRef) -> dict[str, str | None]:
        """What ``take`` makes the same picture of again."""
        file = None if ref.data is None else self._files.add_bytes(ref.data, "bin")
        return {"file": file, "uri": ref.uri, "media_type": ref.media_type}

    def take(self, kept: dict[str, str | None] | None) -> ImageRef | None:
        if kept is None:
            return None
        file = kept["file"]
        data = None if file is None else self._files.read(file)
        return ImageRef(data=data, uri=kept["uri"], media_type=str(kept["media_type"]))


def _rows(
    rows: Iterable[dict[str, Any]],
    pictures: _Pictures,
    kinds: Sequence[RowKind],
    judgements: JudgementConfig,
    counts: Counter[str],
) -> Iterator[TrainingRow]:
    for index, row in enumerate(rows):
        question = replace(question_from_row({**row, "image": None}), image=pictures.take(row["image"]))
        made, skipped = training_rows(
            question,
            stages_from_row(row),
            row["flawed_reply"],
            kinds=kinds,
            judgements=judgements,
            index=index,
        )
        counts.update(f"rows.{one.kind.value}" for one in made)
        counts.update(f"skipped.{cause}" for cause in skipped)
        yield from made


def _reported(rows: Iterable[dict[str, Any]], total: int, report: Progress) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(rows):
        if number % 256 == 0:
            report(total + number, 2 * total, "writing")
        yield row


def _row(question: Question, kind: RowKind, response: str) -> TrainingRow:
    return TrainingRow(
        id=f"{question.id}/{kind.value}",
        kind=kind,
        image=question.image,
        prompt=question_text(question),
        response=response,
        history=spoken_before(question),
    )


def _summary(output: Path, counts: dict[str, int] | Counter[str]) -> ExportSummary:
    rows = {kind: counts[f"rows.{kind.value}"] for kind in RowKind if counts.get(f"rows.{kind.value}")}
    skipped = {name.removeprefix("skipped."): n for name, n in counts.items() if name.startswith("skipped.")}
    return ExportSummary(output=output, rows=rows, skipped=skipped)
