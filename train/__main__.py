"""``python -m train CONFIG.yaml``: one fine-tuning run, progress as lines on standard output."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pydantic import ValidationError

from reasoning.errors import ConfigError, StagebeamError
from train.config import TrainConfig
from train.progress import TrainProgress


def main(arguments: list[str] | None = None) -> int:
    """Run and answer with the exit code."""
    parser = argparse.ArgumentParser(prog="python -m train", description="Fine-tune a vision-language model.")
    parser.add_argument("config", type=Path, help="the fields of train.config.TrainConfig as JSON, or as YAML")
    try:
        config = _read(parser.parse_args(arguments).config)
        from train.launch import run_training

        summary = run_training(config, _print)
    except StagebeamError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{summary.steps} steps in {summary.seconds:.0f} s; the model lies in {summary.model_dir}")
    return 0


def _read(path: Path) -> TrainConfig:
    import yaml

    try:
        return TrainConfig.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise ConfigError(f"{path}: {error}") from error


def _print(progress: TrainProgress) -> None:
    print(
        f"step {progress.step}/{progress.total_steps}  loss {progress.loss:.4f}  rate {progress.learning_rate:.2e}  "
        f"{progress.samples_per_second:.1f} rows/s  epoch {progress.epoch}  restarts {progress.restarts}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
