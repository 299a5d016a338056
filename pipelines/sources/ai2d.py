"""AI2D in its own layout: ``questions/{n}.png.json``, ``annotations/{n}.png.json`` and ``images/{n}.png``.

Some questions speak of letters that the pictures do not show: the data set says where each letter
belongs, and it is painted there. There is no list of training pictures; those not in the list of
test pictures are it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipelines.sources.base import ExpectedFile, ReadRequest, RowFaultError, Rows, Source, SourceInfo, first_home
from pipelines.sources.rows import (
    Asked,
    Fields,
    Origin,
    Picture,
    choice_gold,
    file_picture,
    guarded,
    make_question,
)
from pipelines.sources.streams import binary, small_json
from reasoning.errors import ImageError, InputError
from reasoning.records import ImageRef, Question

_TEST_IDS = "ai2d_test_ids.csv"
_BROKEN = "\x00broken"
_MAX_LETTER_HEIGHT = 48
_MIN_LETTER_HEIGHT = 10

Letter = tuple[float, float, float, float, str]
"""Left, top, right and bottom of a text in the picture, and the letter that stands in for it."""


def _home(root: Path) -> Path | None:
    return first_home([root, root / "ai2d"], lambda f: any((f / "questions").glob("*.png.json")))


def _manifests(home: Path) -> list[Path]:
    ids = _test_ids_file(home)
    # In the order of the pictures' numbers, as their names say them.
    found = sorted((home / "questions").glob("*.json"), key=lambda path: (len(path.name), path.name))
    return [*found, *([ids] if ids else [])]


def _read(request: ReadRequest) -> Rows:
    home = request.home
    test_ids = _test_ids(home)
    if request.split is not None and test_ids is None:
        raise InputError(
            f"{home}: split {request.split!r} needs {_TEST_IDS} in the folder or beside it; leave the split out to "
            "read all, or get the file (see `stagebeam sources`)"
        )
    for file in _manifests(home):
        if file.suffix != ".json":
            continue
        number = file.name.split(".")[0]
        split = "" if test_ids is None else "test" if number in test_ids else "train"
        if request.leaves_out(split):
            continue
        origin = Origin(source=request.label or SOURCE.name, split=split, file=f"questions/{file.name}")

        image = file.name.removesuffix(".json")

        def convert(row: Fields, origin: Origin = origin, image: str = image) -> list[Question]:
            if row.get(_BROKEN):
                raise RowFaultError(row.text(_BROKEN))
            lettered = row.get("abcLabel") is True
            picture = _picture(request, image, lettered=lettered)
            asked = Asked(
                text=row.text("question"), gold=choice_gold(row.texts("answerTexts"), row.integer("correctAnswer"))
            )
            meta = {"letters": "painted"} if lettered else {}
            return [make_question(origin, asked, key=row.maybe_text("questionId"), picture=picture, meta=meta)]

        yield from guarded(origin, _questions(file), convert)


def _questions(file: Path) -> Iterator[Any]:
    """The questions of one picture: they are keyed by their text."""
    try:
        found = small_json(file)
    except InputError:
        # The message without the path: what a row is known by must not depend on where the data set lies.
        yield {_BROKEN: f"{file.name} is no JSON"}
        return
    questions = found.get("questions") if isinstance(found, dict) else None
    if not isinstance(questions, dict):
        yield found
        return
    for text, value in questions.items():
        yield {**value, "question": text} if isinstance(value, dict) else value


def _picture(request: ReadRequest, image: str, *, lettered: bool) -> Picture:
    plain = file_picture((request.image_root or request.home) / "images", image)
    if not lettered:
        return plain
    notes = request.home / "annotations" / f"{image}.json"
    if not notes.is_file():
        raise RowFaultError(f"the question needs letters painted on {image}, and {notes.name} is not in annotations/")
    # Under a name of its own: it is another picture than the one without letters.
    named = Picture(name=f"{plain.name}#letters", ref=plain.ref)
    letters = _letters(notes)
    if not request.draws or not Path(plain.ref.uri or "").is_file():
        return named
    try:
        return Picture(name=named.name, ref=ImageRef(data=paint_letters(plain.ref, letters)))
    except ImageError:
        # As it is on disk: whoever uses it finds out what is wrong with it.
        return named


def paint_letters(picture: ImageRef, letters: Sequence[Letter]) -> bytes:
    """The picture as PNG with every annotated text covered by its letter. Raises ImageError for an unusable picture."""
    from PIL import ImageDraw, ImageFont

    from actors.images import load_image

    image = load_image(picture)
    draw = ImageDraw.Draw(image)
    for left, top, right, bottom, letter in letters:
        draw.rectangle((left, top, right, bottom), fill="white", outline="black")
        height = max(_MIN_LETTER_HEIGHT, min(bottom - top, _MAX_LETTER_HEIGHT))
        font = ImageFont.load_default(size=height)
        draw.text(((left + right) / 2, (top + bottom) / 2), letter, fill="black", font=font, anchor="mm")
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _letters(file: Path) -> list[Letter]:
    """Where each letter goes; boxes without height are left out."""
    try:
        notes = small_json(file)
    except InputError as error:
        raise RowFaultError(str(error)) from error
    texts = notes.get("text") if isinstance(notes, dict) else None
    if not isinstance(texts, dict):
        raise RowFaultError("the annotations of the picture hold no texts to put letters on")
    found = []
    for text in texts.values():
        fields = Fields(text)
        letter = fields.maybe_text("replacementText")
        box = fields.get("rectangle")
        try:
            (x1, y1), (x2, y2) = box
            left, right = sorted((float(x1), float(x2)))
            top, bottom = sorted((float(y1), float(y2)))
        except (TypeError, ValueError) as error:
            raise RowFaultError(f"the annotations of the picture hold the rectangle {box!r}") from error
        if letter and top < bottom:
            found.append((left, top, right, bottom, letter))
    return found


def _test_ids_file(home: Path) -> Path | None:
    return next((place for place in (home / _TEST_IDS, home.parent / _TEST_IDS) if place.is_file()), None)


def _test_ids(home: Path) -> frozenset[str] | None:
    """The numbers of the test pictures, one a line; None where the list is not there."""
    file = _test_ids_file(home)
    if file is None:
        return None
    with binary(file) as content:
        lines = [line.strip().decode("ascii", "replace") for line in content]
    wrong = next((line for line in lines if line and not line.isdecimal()), None)
    if wrong is not None:
        raise InputError(f"{file}: must hold one picture number a line, holds {wrong!r}")
    return frozenset(str(int(line)) for line in lines if line)


SOURCE = Source(
    info=SourceInfo(
        name="ai2d",
        title="AI2D",
        task="science diagrams: one of up to four options",
        licence="see license.txt of the release",
        where="http://ai2-website.s3.amazonaws.com/data/ai2d-all.zip; test pictures: "
        "https://s3-us-east-2.amazonaws.com/prior-datasets/ai2d_test_ids.csv",
        files=(
            ExpectedFile(pattern="questions/*.png.json", what="questions, a file a picture"),
            ExpectedFile(pattern="annotations/*.png.json", what="where the letters go"),
            ExpectedFile(pattern="images/*.png", what="diagrams"),
            ExpectedFile(pattern=_TEST_IDS, what="numbers of the test pictures", is_required=False),
        ),
        counts={"test": 3088, "train": 12413},
        paper_thousands=11.4,
        notes="letters are painted in where a question needs them; the train count is that of the InternVL copy",
    ),
    find_home=_home,
    manifests=_manifests,
    read=_read,
)
