"""What a run over sources depends on: what was asked for, and the files as they are.

Files are known by name, size and time of change: reading gigabytes again to hash them would cost as
much as the run. Pictures are not looked at.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from cluster.storage import RUN_FILE, first_difference, read_run
from cluster.stores import open_store
from pipelines.sources.base import Source, SourceSpec
from reasoning.errors import InputError, OutputMismatchError

_MANY_FILES = 50
"""Of more files than these a folder's are described together."""


def spec_identity(spec: SourceSpec, source: Source) -> dict[str, Any]:
    """What was asked for, with the source's name filled in and paths in full."""
    plain = spec.model_dump(mode="json")
    plain |= {"name": source.name, "path": str(spec.path.resolve())}
    return plain | ({"image_root": str(spec.image_root.resolve())} if spec.image_root else {})


def fingerprint(source: Source, home: Path) -> dict[str, str]:
    """The files that the rows are read from, each by size and time, or each folder of them."""
    folder = home.parent if home.is_file() else home
    files = {path: path.stat() for path in source.manifests(home)}
    lines = {
        _name(path, folder): f"{found.st_size} bytes, changed {found.st_mtime_ns}" for path, found in files.items()
    }
    if len(lines) <= _MANY_FILES:
        return lines
    grouped: dict[str, list[str]] = {}
    for name, line in lines.items():
        grouped.setdefault(f"{name.rpartition('/')[0] or '.'}/", []).append(f"{name}: {line}")
    return {
        group: f"{len(members)} files, {hashlib.sha256(chr(10).join(members).encode()).hexdigest()[:16]}"
        for group, members in grouped.items()
    }


def check_inputs(output: str | Path, identity: dict[str, Any], *, kind: str) -> None:
    """Raises OutputMismatchError when ``output`` was made of the same sources whose files have changed since."""
    if not open_store(output).exists(RUN_FILE):
        return
    try:
        found = read_run(output, kind=kind).get("identity", {})
    except InputError:
        # A run of another kind: the run folder itself refuses it.
        return
    asked_there = {name: value for name, value in found.items() if name != "inputs"}
    asked_here = {name: value for name, value in identity.items() if name != "inputs"}
    changed = first_changed(found.get("inputs", {}), identity["inputs"])
    if changed is None or first_difference(asked_there, asked_here) is not None:
        return
    source, file, there, here = changed
    raise OutputMismatchError(
        f"{output} was made of other input files: of source {source!r} {file} was {there or 'not there'} "
        f"and is {here or 'not there'} now. Prepare into another folder, or remove this one"
    )


def first_changed(
    there: dict[str, dict[str, str]], here: dict[str, dict[str, str]]
) -> tuple[str, str, str | None, str | None] | None:
    """The first file that differs: its source, its name, what it was, what it is."""
    for source in sorted({*there, *here}):
        old, new = there.get(source, {}), here.get(source, {})
        for file in sorted({*old, *new}):
            if old.get(file) != new.get(file):
                return source, file, old.get(file), new.get(file)
    return None


def _state(path: Path) -> str:
    found = path.stat()
    return f"{found.st_size} bytes, changed {found.st_mtime_ns}"


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else f"../{path.name}"
