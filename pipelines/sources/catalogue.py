"""The sources there are, and which of them a path holds."""

from __future__ import annotations

import difflib
from pathlib import Path

from pipelines.sources import (
    ai2d,
    aokvqa,
    chartqa,
    clevr,
    clevr_math,
    docvqa,
    easy_vqa,
    geoqa_plus,
    hub_parquet,
    llava,
    own_questions,
    pisc,
    scienceqa,
    sharegpt4v,
    vlmeval_tsv,
    webdataset,
)
from pipelines.sources.base import Source
from reasoning.errors import ConfigError, InputError

# The paper's ten in its order, then the rest. The first that knows a path has it: ShareGPT4V's files
# are LLaVA-style ones too.
SOURCES: tuple[Source, ...] = (
    sharegpt4v.SOURCE,
    chartqa.SOURCE,
    aokvqa.SOURCE,
    ai2d.SOURCE,
    geoqa_plus.SOURCE,
    scienceqa.SOURCE,
    docvqa.SOURCE,
    pisc.SOURCE,
    clevr.SOURCE,
    clevr_math.SOURCE,
    easy_vqa.SOURCE,
    own_questions.SOURCE,
    hub_parquet.SOURCE,
    vlmeval_tsv.SOURCE,
    llava.SOURCE,
    webdataset.SOURCE,
)


def detect(path: str | Path) -> Source:
    """The source that a folder or file is in the layout of.

    Raises InputError that says which layouts were looked for, when it is none of them.
    """
    root = Path(path)
    if not root.exists():
        raise InputError(f"{root}: does not exist; give the folder or the file of a data set")
    found = next((source for source in SOURCES if source.detects(root)), None)
    if found is None:
        looked = "\n".join(
            f"  {source.name}: {', '.join(file.pattern for file in source.info.files if file.is_required)}"
            for source in SOURCES
        )
        raise InputError(f"{root}: is the layout of no known data set. Looked for, in the folder itself:\n{looked}")
    return found


def named_source(name: str) -> Source:
    """The source of that name; raises ConfigError that names the nearest."""
    found = next((source for source in SOURCES if source.name == name), None)
    if found is None:
        names = [source.name for source in SOURCES]
        near = difflib.get_close_matches(name, names, n=1)
        advice = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
        raise ConfigError(f"there is no source {name!r}; {advice}")
    return found


def choose_source(path: str | Path, name: str | None = None) -> tuple[Source, Path]:
    """The source at a path, by its name or by what is there, and its home. Raises InputError or ConfigError."""
    root = Path(path)
    if name is None:
        source = detect(root)
        return source, source.home(root)
    source = named_source(name)
    if not root.exists():
        raise InputError(f"{root}: does not exist; give the folder or the file of {source.info.title}")
    return source, source.home(root)
