"""Copies of a picture are found, other pictures are not, and no generic question is a leak."""

from __future__ import annotations

from typing import Any

import pytest
from contamination_cases import LONG, copy_of, drawn, encoded
from PIL import Image

from actors.images import load_image
from pipelines.decontaminate_match import (
    BenchmarkIndex,
    BenchmarkItem,
    Look,
    MatchConfig,
    MatchKind,
    grams_of,
    look_of,
    words_of,
)
from pipelines.decontaminate_work import FLAT, duplicate_key, glance
from reasoning.records import ImageRef

CONFIG = MatchConfig()


def look(data: bytes, bits: int = 256) -> Look:
    found = look_of(load_image(ImageRef(data=data)), bits)
    assert found is not None
    return found


def index(*texts: str, seeds: range = range(5), config: MatchConfig = CONFIG) -> BenchmarkIndex:
    """A benchmark with a chart and a question for each seed; the last text goes on."""
    items = [
        BenchmarkItem(
            benchmark="bench",
            row=str(seed),
            text=texts[min(number, len(texts) - 1)],
            looks=(look(encoded(drawn(seed)), config.hash_bits),),
        )
        for number, seed in enumerate(seeds)
    ]
    return BenchmarkIndex(items, config)


def kinds(found: BenchmarkIndex, text: str, data: bytes | None, bits: int = 256) -> list[tuple[MatchKind, str]]:
    matches = found.matches(text, None if data is None else look(data, bits))
    return [(match.kind, match.row) for match in matches]


@pytest.mark.parametrize("bits", [64, 256])
def test_copy_is_found_and_other_pictures_are_not(bits: Any) -> None:
    found = index("How many bars?", config=MatchConfig(hash_bits=bits))
    for seed in range(5):
        assert kinds(found, "How many bars?", copy_of(seed), bits) == [(MatchKind.IMAGE_AND_QUESTION, str(seed))]
    for seed in range(10, 30):
        assert kinds(found, "How many bars?", encoded(drawn(seed)), bits) == []


def test_same_shapes_in_another_colour_are_another_picture() -> None:
    assert kinds(index("q"), "q", encoded(drawn(0, colour="firebrick"))) == []


def test_shapes_of_one_brightness_are_seen_by_their_colour() -> None:
    # Light green and yellow of equal grey, as easy-VQA has them.
    images = []
    for place in (10, 60):
        image = Image.new("RGB", (120, 90), (160, 200, 160))
        image.paste((235, 177, 80), (place, 20, place + 45, 75))
        images.append(image)
    found = BenchmarkIndex(
        [BenchmarkItem(benchmark="bench", row="1", text="q", looks=(look(encoded(images[0])),))], CONFIG
    )
    larger = encoded(images[0].resize((200, 150)), "JPEG", quality=85)
    assert kinds(found, "q", larger) == [(MatchKind.IMAGE_AND_QUESTION, "1")]
    assert kinds(found, "q", encoded(images[1])) == []


def test_same_picture_with_another_question_is_told_apart() -> None:
    found = index("Which bar is the tallest of all?")
    assert kinds(found, "How high is the second one?", copy_of(2)) == [(MatchKind.IMAGE, "2")]
    assert kinds(found, "Hint: x\nQuestion: Which bar is the TALLEST, of all\nOptions:\nA. 1\nB. 2", copy_of(2)) == [
        (MatchKind.IMAGE_AND_QUESTION, "2")
    ]


def test_same_question_with_its_picture_goes_before_the_picture_alone() -> None:
    items = [
        BenchmarkItem(benchmark="bench", row=row, text=text, looks=(look(encoded(drawn(1))),))
        for row, text in [("a", "How many are blue?"), ("b", "Which bar is tallest?")]
    ]
    assert kinds(BenchmarkIndex(items, CONFIG), "Which bar is tallest?", copy_of(1)) == [
        (MatchKind.IMAGE_AND_QUESTION, "b")
    ]


@pytest.mark.parametrize(
    "text",
    [
        "How many bars are shown in the chart?",
        "What is the title of the graph? Answer the question using a single word or phrase.",
        "Are there more big green things than large purple shiny cubes?",
        "Which of these organisms contains matter that was once part of the lichen?",
    ],
)
def test_generic_question_alone_is_no_match(text: str) -> None:
    found = index(text)
    assert kinds(found, text, None) == []
    assert kinds(found, text, encoded(drawn(77))) == []


def test_long_question_alone_is_a_match_of_its_own_kind() -> None:
    found = index(LONG)
    assert kinds(found, f"Please read. {LONG.upper()}", None) == [(MatchKind.QUESTION, "0")]
    assert kinds(found, LONG.replace("ladder", "plank").replace("wall", "house"), None) == []


def test_kinds_of_several_benchmarks_are_all_told() -> None:
    items = [
        BenchmarkItem(benchmark=name, row="1", text=text, looks=(look(encoded(drawn(seed))),))
        for name, text, seed in [("one", "q?", 1), ("two", LONG, 2)]
    ]
    assert [(m.benchmark, m.kind) for m in BenchmarkIndex(items, CONFIG).matches(LONG, look(copy_of(1)))] == [
        ("one", MatchKind.IMAGE),
        ("two", MatchKind.QUESTION),
    ]


def test_no_benchmark_matches_nothing() -> None:
    assert BenchmarkIndex([], CONFIG).matches(LONG, look(copy_of(1))) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("What IS this?\nA. a cat\nB. a dog", "what is this"),
        ("Which one?\n(A) x (B) y", "which one"),
        ("Question: Why? Options: A: so, B: not", "why"),
        ("Find x. Answer with the option's letter from the given choices directly.", "find x"),
        ("如图,求角", "如 图 求 角"),
        ("Ｈｏｗ ｍａｎｙ", "how many"),
        ("Options: A, B", "options a b"),
    ],
)
def test_words_leave_out_options_and_instructions(text: str, words: str) -> None:
    assert " ".join(words_of(text)) == words


def test_grams_are_the_same_in_every_process() -> None:
    assert grams_of(["how", "many"], 3) == frozenset({0xEC78C572525E88B})
    assert len(grams_of(list("abcde"), 3)) == 3
    assert grams_of([], 3) == frozenset()


@pytest.mark.parametrize(
    ("ref", "fault"),
    [
        (ImageRef(data=b"GIF89a"), "not an image"),
        (ImageRef(data=b""), "empty"),
        (ImageRef(uri="/nowhere/é.png"), "no image at its address"),
        (ImageRef(data=encoded(Image.new("RGB", (40, 30), "white"))), FLAT),
        (ImageRef(data=encoded(drawn(1))[:600]), "truncated"),
    ],
)
def test_odd_picture_is_a_fault_and_no_crash(ref: ImageRef, fault: str) -> None:
    seen = glance(ref, 256)
    assert seen.look is None
    assert fault in seen.fault


def test_odd_kinds_of_pictures_are_looked_at() -> None:
    for image in (drawn(1).convert("L"), drawn(1).convert("CMYK"), drawn(1).convert("RGBA"), drawn(1).resize((1, 300))):
        form = "JPEG" if image.mode == "CMYK" else "PNG"
        assert glance(ImageRef(data=encoded(image, form)), 256).fault == ""


def test_duplicates_share_picture_words_answer_and_history() -> None:
    data = encoded(drawn(1))
    same = look(data)
    row = {"question": "How many?", "answer": "Two", "choices": ["A b"], "history": []}
    key = duplicate_key(row, ImageRef(data=data), same)
    lossless = encoded(drawn(1), "BMP")
    assert (
        duplicate_key({**row, "question": "how MANY", "answer": "two "}, ImageRef(data=lossless), look(lossless)) == key
    )
    changes: list[dict[str, Any]] = [
        {"question": "How few?"},
        {"answer": "three"},
        {"choices": ["A c"]},
        {"history": [{"question": "Hi", "answer": "Ho"}]},
    ]
    for change in changes:
        assert duplicate_key({**row, **change}, ImageRef(data=data), same) != key
    red = encoded(drawn(1, colour="firebrick"))
    assert duplicate_key(row, ImageRef(data=red), look(red)) != key
    assert duplicate_key(row, None, None) != key
