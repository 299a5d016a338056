"""When a question is a benchmark's: looks of pictures, words of questions, and an exact index of both.

A picture's look is a perceptual hash of its shapes (in greys, so blind to colour) and a thumbnail
of 8 × 8 colours. Two pictures are one when both are close. How often copies are found and other
pictures are taken for copies: ``python -m benchmarks.picture_matching``, docs/decontamination.md.
Pure but for the decoded picture handed in.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from PIL import Image

THUMBNAIL = 8
_FLAT_SPREAD = 3.0
"""Standard deviation in levels of 255: what varies less has no shapes to compare."""
_SHORT_GRAM = 3
_PUT_BEFORE = re.compile(r"^\s*(?:hint:[^\n]*\n)?\s*question:\s*", re.IGNORECASE)
_OPTIONS = re.compile(r"\n?\s*\b(?:options|choices)\s*:|\n\s*\(?A\)?\s*[.:)]\s|\n\s*\(A\)\s", re.IGNORECASE)
_ASKED_BESIDE = re.compile(
    r"answer the question using a single word or phrase"
    r"|answer with the option'?s letter from the given choices directly"
    r"|please answer the question based on the options mentioned before"
    r"|please select the correct answer from the options above",
    re.IGNORECASE,
)
# A letter of a script without spaces counts as a word.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")


class MatchKind(StrEnum):
    """What a question shares with a benchmark's, or with another question."""

    IMAGE_AND_QUESTION = "image_and_question"
    IMAGE = "image"
    """The same picture, another question."""
    QUESTION = "question"
    """The same long question, another picture: often a template, seldom a leak."""
    DUPLICATE = "duplicate"
    """The same picture, question and answer as another question of ours."""


class MatchConfig(BaseModel):
    """When two pictures and two questions are the same."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    hash_bits: Literal[64, 256] = 256
    """Bits of the perceptual hash; with 64, pages of text look alike."""
    max_distance: int | None = Field(default=None, ge=0)
    """Bits that two hashes of one picture may differ in; none: 32 of 256, 4 of 64."""
    max_colour_difference: float = Field(default=6.0, ge=0, le=255)
    """Mean difference of two thumbnails of one picture, of 255."""
    same_image_overlap: float = Field(default=0.6, gt=0, le=1)
    """With the same picture: share of the benchmark question's word triples that make the question the same too."""
    question_gram: int = Field(default=8, ge=3)
    """Without the same picture: words in a row that count as shared."""
    min_question_words: int = Field(default=20, ge=3)
    """Without the same picture: benchmark questions with fewer words are not looked for; too many are asked alike."""
    question_overlap: float = Field(default=0.8, gt=0, le=1)
    """Without the same picture: share of the benchmark question's runs of words that makes a match."""

    @property
    def distance(self) -> int:
        """Bits that two hashes of one picture may differ in."""
        usual = {64: 4, 256: 32}[self.hash_bits]
        return usual if self.max_distance is None else self.max_distance


@dataclass(frozen=True)
class Look:
    """How a picture looks."""

    bits: np.ndarray[Any, np.dtype[np.uint64]]
    """[1] or [4]."""
    thumbnail: np.ndarray[Any, np.dtype[np.uint8]]
    """[192]: 8 × 8 RGB."""


def look_of(image: Image.Image, hash_bits: int) -> Look | None:
    """The look of an upright RGB picture; None when it is all but one colour."""
    import imagehash
    from PIL.Image import Resampling

    shapes = _with_shapes(image)
    if shapes is None:
        return None
    side = {64: 8, 256: 16}[hash_bits]
    packed = np.packbits(imagehash.phash(shapes, hash_size=side).hash.flatten())
    small = image.resize((THUMBNAIL, THUMBNAIL), Resampling.BOX)
    return Look(bits=packed.view(np.uint64), thumbnail=np.asarray(small, dtype=np.uint8).reshape(-1))


def _with_shapes(image: Image.Image) -> Image.Image | None:
    """The picture in greys, or in the colour that varies most where the greys are all but one."""
    greys = image.convert("L")
    if _spread(greys) >= _FLAT_SPREAD:
        return greys
    band = max(image.split(), key=_spread)
    return band if _spread(band) >= _FLAT_SPREAD else None


def _spread(greys: Image.Image) -> float:
    return float(np.asarray(greys, dtype=np.float32).std())


def coarse_look(look: Look) -> bytes:
    """Equal for pictures with equal hashes and, in quarters, about equal colours: for exact comparison."""
    quarters = look.thumbnail.reshape(2, THUMBNAIL // 2, 2, THUMBNAIL // 2, 3).mean(axis=(1, 3))
    return look.bits.tobytes() + (quarters / 32).astype(np.uint8).tobytes()


def words_of(text: str) -> tuple[str, ...]:
    """The words of a question without options, instructions, case and punctuation."""
    plain = _PUT_BEFORE.sub("", unicodedata.normalize("NFKC", text))
    plain = _ASKED_BESIDE.sub(" ", plain)
    before = _OPTIONS.split(plain, maxsplit=1)[0]
    return tuple(_WORD.findall((before if before.strip() else plain).casefold()))


def grams_of(words: Sequence[str], size: int) -> frozenset[int]:
    """64-bit hashes of all runs of ``size`` words, the same in every process; of fewer words one run of all."""
    size = min(size, len(words))
    runs = (" ".join(words[start : start + size]) for start in range(len(words) - size + 1)) if size else ()
    return frozenset(int.from_bytes(hashlib.blake2b(run.encode(), digest_size=8).digest(), "big") for run in runs)


@dataclass(frozen=True, kw_only=True)
class BenchmarkItem:
    """A question of a benchmark."""

    benchmark: str
    row: str
    text: str
    looks: tuple[Look, ...]
    """Of its pictures, those that have one."""


@dataclass(frozen=True, kw_only=True)
class Match:
    """A question of ours and what it was taken for."""

    kind: MatchKind
    benchmark: str
    """Empty for a duplicate."""
    row: str
    """The benchmark's row, or the id of the question that is kept."""
    distance: int | None
    """Bits between the hashes; None where no picture was compared."""
    overlap: float
    """Share of the benchmark question's runs of words that are in ours."""
    text: str


class BenchmarkIndex:
    """All benchmarks' pictures and long questions; every match within the limits is found.

    A picture is compared with all hashes at once: with 10,000 benchmark pictures in 0.5 ms, where hashing a
    chart of 640 × 480 takes 6 ms, so no approximate index is needed (benchmarks/picture_matching.py).
    """

    def __init__(self, items: Sequence[BenchmarkItem], config: MatchConfig) -> None:
        self._items = list(items)
        self._config = config
        self._words = [words_of(item.text) for item in self._items]
        owners = [(look, number) for number, item in enumerate(self._items) for look in item.looks]
        width = config.hash_bits // 64
        self._bits = np.array([look.bits for look, _ in owners], dtype=np.uint64).reshape(len(owners), width)
        self._thumbnails = np.array([look.thumbnail for look, _ in owners], dtype=np.uint8).reshape(
            len(owners), THUMBNAIL * THUMBNAIL * 3
        )
        self._owners = np.array([number for _, number in owners], dtype=np.int64)
        self._grams: list[frozenset[int]] = []
        self._with_gram: dict[int, list[int]] = {}
        for number, words in enumerate(self._words):
            long = len(words) >= config.min_question_words
            grams = grams_of(words, config.question_gram) if long else frozenset()
            self._grams.append(grams)
            for gram in grams:
                self._with_gram.setdefault(gram, []).append(number)

    def matches(self, text: str, look: Look | None) -> list[Match]:
        """The best match with each benchmark, in the order of their names."""
        words = words_of(text)
        found = self._by_image(words, look) if look is not None and len(self._bits) else {}
        for number, overlap in self._by_question(words):
            if number not in found:
                found[number] = self._match(MatchKind.QUESTION, number, None, overlap)
        best: dict[str, Match] = {}
        for match in found.values():
            if match.benchmark not in best or _rank(match) < _rank(best[match.benchmark]):
                best[match.benchmark] = match
        return [best[name] for name in sorted(best)]

    def _by_image(self, words: Sequence[str], look: Look) -> dict[int, Match]:
        distances = np.bitwise_count(self._bits ^ look.bits).sum(axis=1, dtype=np.int64)
        near = np.flatnonzero(distances <= self._config.distance)
        colours = self._thumbnails[near].astype(np.int16) - look.thumbnail.astype(np.int16)
        near = near[np.abs(colours).mean(axis=1) <= self._config.max_colour_difference] if len(near) else near
        found: dict[int, Match] = {}
        for place in near:
            number, distance = int(self._owners[place]), int(distances[place])
            overlap = _overlap(words, self._words[number])
            is_same = overlap >= self._config.same_image_overlap
            kind = MatchKind.IMAGE_AND_QUESTION if is_same else MatchKind.IMAGE
            match = self._match(kind, number, distance, overlap)
            if number not in found or _rank(match) < _rank(found[number]):
                found[number] = match
        return found

    def _by_question(self, words: Sequence[str]) -> Iterable[tuple[int, float]]:
        if len(words) < self._config.question_gram:
            return
        shared = Counter(
            number for gram in grams_of(words, self._config.question_gram) for number in self._with_gram.get(gram, ())
        )
        for number, count in shared.items():
            overlap = count / len(self._grams[number])
            if overlap >= self._config.question_overlap:
                yield number, overlap

    def _match(self, kind: MatchKind, number: int, distance: int | None, overlap: float) -> Match:
        item = self._items[number]
        return Match(
            kind=kind, benchmark=item.benchmark, row=item.row, distance=distance, overlap=overlap, text=item.text
        )


def _overlap(words: Sequence[str], others: Sequence[str]) -> float:
    """The share of the other question's short runs of words that are in ours; 0 when one has no words."""
    size = min(_SHORT_GRAM, len(words), len(others))
    if size == 0:
        return 0.0
    theirs = grams_of(others, size)
    return len(theirs & grams_of(words, size)) / len(theirs)


def _rank(match: Match) -> tuple[int, int, float, str]:
    return list(MatchKind).index(match.kind), match.distance or 0, -match.overlap, match.row
