"""Settings: a YAML file and ``key=value`` overrides, read into a configuration class.

Knows nothing of any particular configuration. Every refusal is a ``ConfigError`` that names where
the setting came from, the key and the value; an unknown key gets the nearest known one.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from reasoning.errors import ConfigError

T = TypeVar("T")

UNKNOWN_KEY_ERRORS = frozenset({"extra_forbidden", "unexpected_keyword_argument"})
MISSING_KEY_ERRORS = frozenset({"missing", "missing_keyword_only_argument", "missing_argument"})


def load_config(
    cls: type[T],
    file: Path | None,
    overrides: Sequence[str] = (),
    *,
    defaults: Mapping[str, Any] | None = None,
    resolve: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> T:
    """A ``cls`` from a YAML file, with ``key=value`` overrides laid over it; of two, the later one counts.

    ``cls`` is a pydantic model or a dataclass that pydantic can check. Keys in overrides are dotted
    paths, values are YAML. ``defaults`` lie under both, once ``resolve`` has worked on these. Raises
    ConfigError.
    """
    values = read_yaml(file) if file is not None else {}
    origins: dict[tuple[str, ...], str] = {}
    for override in overrides:
        path, value = parse_override(override)
        _put(values, path, value, override)
        origins[path] = f"--set {override}"
    source = str(file) if file is not None else "the settings"
    try:
        values = _merged(defaults or {}, resolve(values))
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error
    return build_config(cls, values, source=source, origins=origins)


def build_config(
    cls: type[T], values: Mapping[str, Any], *, source: str, origins: Mapping[tuple[str, ...], str] | None = None
) -> T:
    """A ``cls`` from plain values; ``source`` and ``origins`` (by key path) are named in errors."""
    try:
        return TypeAdapter(cls).validate_python(dict(values))
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error
    except ValidationError as error:
        lines = [_describe(cls, dict(detail), source, origins or {}) for detail in error.errors()]
        raise ConfigError("\n".join(lines)) from error


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping in a YAML file; an empty file is an empty mapping. Raises ConfigError."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: is no UTF-8 text: {error.reason} at byte {error.start}") from error
    try:
        values = yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: is no valid YAML: {_one_line(error)}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: must hold `key: value` lines, holds a {type(values).__name__}")
    return values


def parse_override(override: str) -> tuple[tuple[str, ...], Any]:
    """``a.b=3`` as ``(("a", "b"), 3)``. Raises ConfigError."""
    key, equals, text = override.partition("=")
    path = tuple(part.strip() for part in key.split("."))
    if not equals or not all(path):
        raise ConfigError(f"--set {override}: must read key=value, as in --set search.samples=4")
    try:
        return path, yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: the value is no valid YAML: {_one_line(error)}") from error


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key written twice, where PyYAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _one_line(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{error.problem} (line {mark.line + 1}, column {mark.column + 1})"
    return " ".join(str(error).split())


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` on ``under``, mappings inside merged in their turn."""
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _put(values: dict[str, Any], path: tuple[str, ...], value: Any, override: str) -> None:
    node = values
    for depth, part in enumerate(path[:-1]):
        child = node.get(part)
        if child is None:
            child = node[part] = {}
        if not isinstance(child, dict):
            name = ".".join(path[: depth + 1])
            raise ConfigError(f"--set {override}: `{name}` is {child!r}, not a mapping; set `{name}` as a whole")
        node = child
    node[path[-1]] = value


def _describe(cls: Any, detail: dict[str, Any], source: str, origins: Mapping[tuple[str, ...], str]) -> str:
    location = tuple(str(part) for part in detail["loc"])
    place = _origin(location, source, origins)
    name = ".".join(location) or "the whole"
    known = _known_keys(cls, location[:-1])
    if detail["type"] in UNKNOWN_KEY_ERRORS:
        near = difflib.get_close_matches(location[-1], known, n=1)
        advice = f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join(sorted(known))}"
        return f"{place}: unknown key `{name}`; {advice}"
    if detail["type"] in MISSING_KEY_ERRORS:
        return f"{place}: required key `{name}` is missing; give it in the file or with --set {name}=…"
    message = str(detail["msg"]).removeprefix("Value error, ")
    return f"{place}: `{name}`: {message}, got {detail['input']!r}"


def _origin(location: tuple[str, ...], source: str, origins: Mapping[tuple[str, ...], str]) -> str:
    """The last override that set this key or one above or below it, else the file."""
    for path, origin in reversed(list(origins.items())):
        shared = min(len(path), len(location))
        if location and path[:shared] == location[:shared]:
            return origin
    return source


def _known_keys(cls: Any, path: tuple[str, ...]) -> list[str]:
    """The keys of the class reached from ``cls`` along ``path``; empty when it is no class with fields."""
    here = cls
    for part in path:
        here = _step(here, part)
    names: set[str] = set()
    for candidate in _alternatives(here):
        names.update(_fields(candidate))
    return sorted(names)


def _step(annotation: Any, part: str) -> Any:
    for candidate in _alternatives(annotation):
        fields = _fields(candidate)
        if part in fields:
            return fields[part]
        arguments = typing.get_args(candidate)
        if typing.get_origin(candidate) in (dict, list, tuple) or arguments:
            return next((a for a in reversed(arguments) if a is not ...), None)
    return None


def _alternatives(annotation: Any) -> list[Any]:
    """The members of a union (``X | None`` is ``[X]``), or the annotation alone; Annotated is opened."""
    while typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [m for a in typing.get_args(annotation) if a is not type(None) for m in _alternatives(a)]
    return [annotation]


def _fields(cls: Any) -> dict[str, Any]:
    if isinstance(cls, type) and issubclass(cls, BaseModel):
        return {(field.alias or name): field.annotation for name, field in cls.model_fields.items()}
    if isinstance(cls, type) and dataclasses.is_dataclass(cls):
        hints = typing.get_type_hints(cls)
        return {field.name: hints[field.name] for field in dataclasses.fields(cls)}
    return {}
