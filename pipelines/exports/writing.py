"""The export of a run: conversations to files, whole or not at all, the same whatever the shards.

Thin shell around ``conversations`` and ``formats``: reads the run, writes the folder, counts.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.storage import Commit, RunFolder, read_run
from cluster.stores import atomic_file
from pipelines.annotations import RUN_KIND as ANNOTATE_KIND
from pipelines.annotations import accepted_ids, digest_of
from pipelines.exports.config import ExportConfig, ExportFormat, ImageMode, TrlForm
from pipelines.exports.conversations import Conversation, Joined, conversation_key, conversations
from pipelines.exports.formats import (
    Record,
    llava_record,
    openai_record,
    sharegpt_info,
    sharegpt_record,
    trl_completions,
    trl_messages,
)
from pipelines.exports.images import ImageFiles, data_url, media_type_of_name
from pipelines.exports.spill import Spill, remove_spill
from reasoning.errors import InputError

RUN_KIND = "export"
DATA = "data"
LEFT_OUT_FILE = "left_out.jsonl"
INFO_FILE = "dataset_info.json"
_KEY = "rows"
_SHOWN_FAULTS = 3

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """What was written."""

    output: Path
    records: int
    """Lines or Parquet rows."""
    rows: int
    """Accepted rows that are in them."""
    conversations: int
    joined: int
    """Conversations of several rows."""
    images: int
    left_out: dict[str, int]
    """Accepted rows that are in no record, by cause; ``left_out.jsonl`` names them."""
    apart: int
    """Rows that name one conversation and cannot be turns of it; each is a record of its own."""
    files: tuple[str, ...]
    """The files that hold records."""


def export_conversations(config: ExportConfig, on_progress: Progress | None = None) -> ExportResult:
    """Write ``config.output`` in a format other than Parquet for our own training.

    A folder that holds the same export already is left as it is. Raises InputError when the run is none,
    accepted no row, or all its rows had to be left out; OutputMismatchError when the folder holds
    something else.
    """
    ids = accepted_ids(config.run)
    identity = {
        "annotations": read_run(config.run, kind=ANNOTATE_KIND)["config_hash"],
        "accepted_rows": digest_of(ids),
        **config.identity(),
    }
    with RunFolder(config.output, kind=RUN_KIND, identity=identity) as run:
        done = run.commits()
        if done:
            return _result(config.output, done[0])
        _clear(config)
        commit = _Export(config, len(ids), on_progress).write()
        run.commit(commit)
        return _result(config.output, commit)


class _Export:
    """One export on its way to the files."""

    def __init__(self, config: ExportConfig, rows: int, on_progress: Progress | None) -> None:
        self._config = config
        self._output = config.output
        self._rows = rows
        self._report = on_progress or (lambda done, total, detail: None)
        self._joined = Joined()
        self._records = 0
        self._used: set[str] = set()
        self._pictures: ImageFiles

    def write(self) -> Commit:
        config = self._config
        with Spill(self._output, rows=self._rows, key=conversation_key) as spill:
            is_embedded = config.image_mode is ImageMode.EMBEDDED
            self._pictures = spill.images() if is_embedded else ImageFiles(self._output, config.image_folder)
            spill.fill(config.run, self._pictures.add, lambda done, rows: self._report(done, 2 * rows, "reading"))
            files = self._write_records(self._conversations(spill))
            left_out = {**self._joined.left_out, **dict.fromkeys(spill.unusable, "image_unusable")}
            if not self._joined.rows:
                raise InputError(_nothing_left(config.run, left_out, spill.unusable))
            self._write_left_out(left_out, spill.unusable)
        if not is_embedded:
            self._remove_unused()
        counts = {
            "records": self._records,
            "rows": self._joined.rows,
            "conversations": self._joined.conversations,
            "joined": self._joined.joined,
            "apart": self._joined.apart,
            "images": len(self._used),
            **{f"left_out.{cause}": number for cause, number in sorted(Counter(left_out.values()).items())},
        }
        return Commit(key=_KEY, files=tuple(files), counts=counts)

    def _conversations(self, spill: Spill) -> Iterator[Conversation]:
        for number, made in enumerate(conversations(spill.rows(), self._config.on_rejected_turn, self._joined)):
            if made.image is not None:
                self._used.add(made.image)
            if number % 256 == 0:
                self._report(self._rows + self._joined.rows, 2 * self._rows, "writing")
            yield made
        self._report(2 * self._rows, 2 * self._rows, "done")

    def _write_records(self, found: Iterator[Conversation]) -> list[str]:
        config = self._config
        match config.format:
            case ExportFormat.LLAVA:
                records = (llava_record(one, image_token=config.has_image_token) for one in found)
                return [self._list("train.json", records) if config.llava_list else self._lines("train.jsonl", records)]
            case ExportFormat.LLAMAFACTORY:
                name = self._lines("train.jsonl", (sharegpt_record(one) for one in found))
                self._write_info(sharegpt_info(config.dataset_name, name))
                return [name]
            case ExportFormat.OPENAI:
                return [self._lines("train.jsonl", (openai_record(one, self._url(one.image)) for one in found))]
            case ExportFormat.TRL:
                return self._parquet(found)
            case ExportFormat.PARQUET:
                raise AssertionError("written by pipelines.export.write_training_rows")

    def _url(self, image: str | None) -> str | None:
        if image is None:
            return None
        if self._config.image_mode is ImageMode.FILES:
            return (self._output / image).resolve().as_uri()
        return data_url(self._pictures.read(image), media_type_of_name(image))

    def _parquet(self, found: Iterator[Conversation]) -> list[str]:
        from pipelines.exports.trl_parquet import write_trl

        def rows() -> Iterator[Record]:
            for one in found:
                is_whole = self._config.trl_form is TrlForm.MESSAGES
                for record in [trl_messages(one)] if is_whole else trl_completions(one):
                    self._records += 1
                    yield {**record, "images": self._image_cells(one.image)}

        names = write_trl(
            self._output / DATA, rows(), form=self._config.trl_form, rows_per_file=self._config.rows_per_file
        )
        return [f"{DATA}/{name}" for name in names]

    def _image_cells(self, image: str | None) -> list[Record]:
        if image is None:
            return []
        is_embedded = self._config.image_mode is ImageMode.EMBEDDED
        return [{"bytes": self._pictures.read(image) if is_embedded else None, "path": image}]

    def _lines(self, name: str, records: Iterable[Record]) -> str:
        with atomic_file(self._output / name) as path, open(path, "w", encoding="utf-8", newline="\n") as file:
            for record in records:
                self._records += 1
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
        return name

    def _list(self, name: str, records: Iterable[Record]) -> str:
        with atomic_file(self._output / name) as path, open(path, "w", encoding="utf-8", newline="\n") as file:
            for record in records:
                file.write(("[\n" if self._records == 0 else ",\n") + json.dumps(record, ensure_ascii=False))
                self._records += 1
            file.write("\n]\n" if self._records else "[]\n")
        return name

    def _write_info(self, info: Record) -> None:
        with atomic_file(self._output / INFO_FILE) as path:
            path.write_text(json.dumps(info, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")

    def _write_left_out(self, left_out: dict[str, str], faults: dict[str, str]) -> None:
        if not left_out:
            return
        with atomic_file(self._output / LEFT_OUT_FILE) as path, open(path, "w", encoding="utf-8") as file:
            for identity, cause in sorted(left_out.items()):
                line = {"id": identity, "cause": cause, "detail": faults.get(identity, "")}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def _remove_unused(self) -> None:
        """Pictures of rows that were left out."""
        for path in (self._output / self._config.image_folder).rglob("*"):
            if path.is_file() and path.relative_to(self._output).as_posix() not in self._used:
                path.unlink()


def _clear(config: ExportConfig) -> None:
    """Remove what an interrupted export left."""
    remove_spill(config.output)
    for name in (config.image_folder, DATA):
        if (config.output / name).is_dir():
            shutil.rmtree(config.output / name)
    for name in (LEFT_OUT_FILE, "train.json", "train.jsonl", INFO_FILE):
        (config.output / name).unlink(missing_ok=True)


def _result(output: Path, commit: Commit) -> ExportResult:
    counts: dict[str, Any] = commit.counts
    return ExportResult(
        output=output,
        records=counts["records"],
        rows=counts["rows"],
        conversations=counts["conversations"],
        joined=counts["joined"],
        images=counts["images"],
        left_out={k.removeprefix("left_out."): v for k, v in counts.items() if k.startswith("left_out.")},
        apart=counts["apart"],
        files=commit.files,
    )


def _nothing_left(run: str, left_out: dict[str, str], faults: dict[str, str]) -> str:
    causes = ", ".join(f"{cause}: {number:,}" for cause, number in Counter(left_out.values()).items())
    shown = "; ".join(f"{identity}: {fault}" for identity, fault in sorted(faults.items())[:_SHOWN_FAULTS])
    advice = "on_rejected_turn: drop keeps turns after a rejected one"
    return f"{run}: every accepted row had to be left out ({causes}); " + (shown or advice)
