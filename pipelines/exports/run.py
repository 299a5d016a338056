"""An export with its card: what the command does. Chooses the writer and describes the files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipelines.card_facts import gather_facts
from pipelines.dataset_card import Layout, write_export_card
from pipelines.export import write_training_rows
from pipelines.exports.config import ExportConfig, ExportFormat, ImageMode, TrlForm
from pipelines.exports.writing import DATA, INFO_FILE, LEFT_OUT_FILE, Progress, export_conversations

TITLES = {
    ExportFormat.LLAVA: "Four-stage answers in LLaVA's form",
    ExportFormat.LLAMAFACTORY: "Four-stage answers for LLaMA-Factory",
    ExportFormat.TRL: "Four-stage answers for TRL",
    ExportFormat.OPENAI: "Four-stage answers as chat messages",
    ExportFormat.PARQUET: "Training rows for stagebeam",
}


@dataclass(frozen=True, kw_only=True)
class ExportOutcome:
    """What the command says at the end."""

    output: Path
    records: int
    details: tuple[str, ...]
    """Counts in words: what was joined, left out, skipped."""


def run_export(config: ExportConfig, on_progress: Progress | None = None) -> ExportOutcome:
    """Write the export and its ``README.md``; raises as the writers do."""
    if config.format is ExportFormat.PARQUET:
        return _training_rows(config, on_progress)
    result = export_conversations(config, on_progress)
    layout = Layout(
        title=TITLES[config.format],
        data_files=f"{DATA}/*.parquet" if config.format is ExportFormat.TRL else result.files[0],
        files=_files(config, has_left_out=bool(result.left_out), has_images=bool(result.images)),
        records=result.records,
        left_out=result.left_out,
    )
    write_export_card(config.output, gather_facts(config.run), layout)
    details = [f"{result.rows:,} accepted rows, {result.joined:,} conversations of several, {result.images:,} pictures"]
    details += [f"left out, {cause}: {count:,}" for cause, count in result.left_out.items()]
    if result.apart:
        details.append(f"{result.apart:,} rows name one conversation and cannot be turns of it: each stands alone")
    return ExportOutcome(output=config.output, records=result.records, details=tuple(details))


def _training_rows(config: ExportConfig, on_progress: Progress | None) -> ExportOutcome:
    summary = write_training_rows(
        config.run,
        config.output,
        kinds=config.kinds,
        judgements=config.judgements,
        rows_per_file=config.rows_per_file,
        on_progress=on_progress,
    )
    records = sum(summary.rows.values())
    layout = Layout(
        title=TITLES[config.format],
        data_files="part-*.parquet",
        files=[("part-*.parquet", "id, kind, image{bytes, uri, media_type}, prompt, response, history"), _run_file()],
        records=records,
    )
    write_export_card(config.output, gather_facts(config.run), layout)
    details = [f"{kind.value}: {count:,}" for kind, count in summary.rows.items()]
    details += [f"no judgement, {cause}: {count:,}" for cause, count in summary.skipped.items()]
    return ExportOutcome(output=config.output, records=records, details=tuple(details))


def _files(config: ExportConfig, *, has_left_out: bool, has_images: bool) -> list[tuple[str, str]]:
    files: list[tuple[str, str]] = []
    match config.format:
        case ExportFormat.LLAVA if config.llava_list:
            files.append(("train.json", "one list of records: id, image, conversations"))
        case ExportFormat.LLAVA:
            files.append(("train.jsonl", "a record a line: id, image, conversations"))
        case ExportFormat.LLAMAFACTORY:
            files.append(("train.jsonl", "a record a line: id, conversations, images"))
            files.append((INFO_FILE, f"names the data set `{config.dataset_name}` and its columns"))
        case ExportFormat.OPENAI:
            files.append(("train.jsonl", "a line for each conversation: messages"))
        case ExportFormat.TRL | ExportFormat.PARQUET:
            is_whole = config.trl_form is TrlForm.MESSAGES
            columns = "id, messages, images" if is_whole else "id, prompt, completion, images"
            files.append((f"{DATA}/train-*.parquet", columns))
    if config.image_mode is ImageMode.FILES and has_images:
        files.append((f"{config.image_folder}/", "the pictures, each once, named by their content"))
    if has_left_out:
        files.append((LEFT_OUT_FILE, "accepted rows that are in no record, with the cause"))
    return [*files, _run_file()]


def _run_file() -> tuple[str, str]:
    return "run.json, commits/", "what the export depends on, and that it is whole"
