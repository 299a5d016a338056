"""Settings from YAML and overrides; what a wrong one is answered with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import BaseModel, ConfigDict, Field

from reasoning.errors import ConfigError
from reasoning.search.config import SearchConfig, Strategy
from stagebeam.settings import load_config, parse_override


class Inner(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    timeout_s: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Plain:
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    count: int = 1


class Outer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    output: Path
    searches: dict[str, SearchConfig] = Field(default_factory=dict)
    inner: Inner | None = None
    many: list[Inner] = []
    plain: Plain = Plain()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "some.yaml"
    path.write_text("output: out\nsearches:\n  beam: {samples: 2}\n")
    return path


def refusal(cls: type, file: Path | None, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(cls, file, overrides)
    return str(caught.value)


def test_file_and_overrides_are_read(file: Path) -> None:
    config = load_config(Outer, file, ["searches.beam.samples=8", "inner.timeout_s=2.5", "many=[{timeout_s: 3}]"])
    assert config.output == Path("out")
    assert config.searches["beam"] == SearchConfig(strategy=Strategy.STAGE_BEAM, samples=8)
    assert config.inner == Inner(timeout_s=2.5)
    assert config.many == [Inner(timeout_s=3)]


def test_later_override_wins(file: Path) -> None:
    config = load_config(Outer, file, ["plain.count=2", "plain.count=3"])
    assert config.plain.count == 3


def test_no_file_takes_overrides_alone() -> None:
    assert load_config(Outer, None, ["output=here"]).output == Path("here")


def test_unknown_key_names_file_key_and_nearest(file: Path) -> None:
    file.write_text("output: out\nserches: {}\n")
    assert refusal(Outer, file) == f"{file}: unknown key `serches`; did you mean `searches`?"


def test_unknown_key_far_from_any_lists_the_known(file: Path) -> None:
    file.write_text("output: out\nqqq: 1\n")
    assert "known keys: inner, many, output, plain, searches" in refusal(Outer, file)


@pytest.mark.parametrize(
    ("override", "advice"),
    [
        ("searches.beam.sampels=1", "`searches.beam.sampels`; did you mean `samples`?"),
        ("searches.beam.sampling.temprature=1", "did you mean `temperature`?"),
        ("inner.timeout=1", "did you mean `timeout_s`?"),
        ("many=[{timeout: 1}]", "`many.0.timeout`; did you mean `timeout_s`?"),
        ("plain.cuont=1", "did you mean `count`?"),
    ],
)
def test_unknown_key_deep_inside_names_the_override(file: Path, override: str, advice: str) -> None:
    text = refusal(Outer, file, override)
    assert text.startswith(f"--set {override}: unknown key")
    assert advice in text


def test_wrong_value_is_quoted(file: Path) -> None:
    text = refusal(Outer, file, "inner.timeout_s=soon")
    assert text.startswith("--set inner.timeout_s=soon: `inner.timeout_s`:")
    assert text.endswith("got 'soon'")


def test_check_of_the_class_itself_names_the_file(file: Path) -> None:
    file.write_text("output: out\nsearches: {beam: {samples: 0}}\n")
    text = refusal(Outer, file)
    assert text.startswith(f"{file}: SearchConfig.samples must be at least 1, got 0")


def test_missing_key_says_how_to_give_it() -> None:
    assert refusal(Outer, None) == (
        "the settings: required key `output` is missing; give it in the file or with --set output=…"
    )


def test_all_faults_are_told_at_once(file: Path) -> None:
    file.write_text("output: out\nserches: {}\ninner: {timeout_s: soon}\n")
    assert len(refusal(Outer, file).splitlines()) == 2


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("output: [", "is no valid YAML"),
        ("- a\n- b\n", "holds a list"),
        ("output: a\noutput: b\n", "key 'output' is given twice (line 2, column 1)"),
    ],
)
def test_bad_file_says_what_is_wrong(file: Path, text: str, part: str) -> None:
    file.write_text(text)
    message = refusal(Outer, file)
    assert message.startswith(str(file))
    assert part in message


def test_missing_file_and_folder_are_told(tmp_path: Path) -> None:
    assert "No such file" in refusal(Outer, tmp_path / "none.yaml")
    assert "Is a directory" in refusal(Outer, tmp_path)


def test_binary_file_is_told(file: Path) -> None:
    file.write_bytes(b"\xff\xfe\x00")
    assert "is no UTF-8 text" in refusal(Outer, file)


@pytest.mark.parametrize("override", ["samples", "=3", "a..b=1", "a=[1"])
def test_override_that_cannot_be_read_is_quoted(override: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        parse_override(override)


def test_override_below_a_plain_value_is_refused(file: Path) -> None:
    assert "`output` is 'out', not a mapping" in refusal(Outer, file, "output.inner=1")


def test_values_are_yaml() -> None:
    assert parse_override("a.b=[1, yes]") == (("a", "b"), [1, True])
    assert parse_override("a=x=y") == (("a",), "x=y")
