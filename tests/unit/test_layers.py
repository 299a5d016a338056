"""The layers, the pure core and the laziness of the front door, as promised in CONTRIBUTING.md."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import ray

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "ray", "transformers", "pyarrow", "openai", "pydantic", "PIL")


def modules_after(statement: str) -> set[str]:
    """The top-level modules loaded in a fresh interpreter once ``statement`` has run."""
    code = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return {line.partition(".")[0] for line in done.stdout.splitlines()}


def test_layers_hold() -> None:
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_help_loads_nothing_heavy() -> None:
    loaded = modules_after("from typer.testing import CliRunner; from stagebeam.cli import app")
    assert not loaded.intersection(HEAVY)


def test_method_loads_the_standard_library_alone() -> None:
    names = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / "reasoning").rglob("*.py")]
    modules = [".".join(name.parts).removesuffix(".__init__") for name in names]
    loaded = modules_after("; ".join(f"import {module}" for module in modules))
    empty = modules_after("pass")
    assert loaded - empty <= {*sys.stdlib_module_names, "reasoning"}


def test_unit_tests_cannot_start_ray() -> None:
    with pytest.raises(AssertionError, match="tests/cluster"):
        ray.init()
