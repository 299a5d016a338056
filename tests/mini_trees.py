"""Small data sets in each official layout, made by us: invented rows, pictures drawn here, odd rows among them.

``LAYOUTS`` makes them by name; what ``pipelines/sources`` should find in one stands in its ``MiniTree``.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import pickle
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

COLOURS = ("red", "green", "blue", "orange")


@dataclass(frozen=True, kw_only=True)
class MiniTree:
    """A made data set and what is in it."""

    root: Path
    name: str
    """The source that reads it."""
    questions: int
    """Usable questions, all splits, with the defaults of ``SourceSpec``."""
    faults: int = 0
    doubles: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    missing_images: int = 0
    image_root: Path | None = None


def picture(number: int = 0, size: tuple[int, int] = (48, 32)) -> Image.Image:
    """A coloured box on white; every number gives another picture."""
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    left = 2 + number % 16
    draw.rectangle((left, 4, left + 20, 24), fill=COLOURS[number % len(COLOURS)])
    return image


def picture_bytes(number: int = 0, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    picture(number).save(buffer, format=kind)
    return buffer.getvalue()


def put_picture(path: Path, number: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture_bytes(number, "PNG" if path.suffix == ".png" else "JPEG"))


def put_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def put_lines(path: Path, rows: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def said(*texts: str) -> list[dict[str, str]]:
    """A LLaVA-style conversation, the human first."""
    return [{"from": ("human", "gpt")[place % 2], "value": text} for place, text in enumerate(texts)]


def sharegpt4v(root: Path) -> MiniTree:
    data = root / "data"
    put_picture(data / "coco/train2017/000000000001.jpg", 1)
    put_picture(data / "sam/images/sa_1.jpg", 2)
    put_picture(data / "wikiart/images/jos#U00e9-painter_a-boat.jpg", 3)
    rows = [
        {"id": "one", "image": "coco/train2017/000000000001.jpg",
         "conversations": said("<image>\nWhat colour is the box?", "Green.", "Where is it?", "It is on the left.")},
        {"id": 2, "image": "sam/images/sa_1.jpg",
         "conversations": said("What is shown?\n<image>", "A blue box stands on a plain white ground.")},
        {"id": "p", "image": "wikiart/images/josé-painter_a-boat.jpg",
         "conversations": said("<image>\nWhich?\nA. a boat\nB. a box\nAnswer with the option's letter.", "B")},
        {"id": "text", "conversations": said("Name a prime number.", "7")},
        {"id": "gone", "image": "sam/images/sa_404.jpg", "conversations": said("<image>\nWhat is this?", "A box.")},
        {"id": "two", "image": "sam/images/sa_1.jpg", "conversations": said("<image><image>Compare.", "Equal.")},
        {"id": "silent", "image": "sam/images/sa_1.jpg", "conversations": said("<image>", "A box.")},
    ]  # fmt: skip
    put_json(root / "sharegpt4v_mix665k_cap23k_coco-ap9k_lcs3k_sam9k_div2k.json", rows)
    cap = [{"id": "c", "image": "sam/images/sa_1.jpg", "conversations": said("<image>\nDescribe it.", "A blue box.")}]
    put_json(root / "sharegpt4v_instruct_gpt4-vision_cap100k.json", cap)
    return MiniTree(root=root, name="sharegpt4v", questions=7, faults=2, missing_images=1)


def chartqa(root: Path) -> MiniTree:
    home = root / "ChartQA Dataset"
    for number in range(3):
        put_picture(home / f"train/png/{number}.png", number)
    put_picture(home / "test/png/größe_9.png", 5)
    bars = {"imgname": "0.png", "query": "How many bars are shown?", "label": "3"}
    human = [
        bars,
        {**bars, "label": "4"},
        bars,
        {"imgname": "1.png", "query": "Is the red bar the largest?", "label": "Yes"},
        {"imgname": "404.png", "query": "Which year?", "label": "2014"},
        {"imgname": "1.png", "query": "   ", "label": "2014"},
        {"imgname": "1.png", "query": "No label?"},
    ]
    put_json(home / "train/train_human.json", human)
    put_json(home / "train/train_augmented.json", [{"imgname": "2.png", "query": "What is the share?", "label": "12%"}])
    put_json(home / "test/test_human.json", [{"imgname": "größe_9.png", "query": "Which bar?", "label": "Größe"}])
    put_json(home / "val/val_human.json", [])
    return MiniTree(root=root, name="chartqa", questions=6, faults=2, doubles=1, missing_images=1)


def aokvqa(root: Path) -> MiniTree:
    coco = root.parent / f"{root.name}-coco"
    put_picture(coco / "train2017/000000000007.jpg", 1)
    put_picture(coco / "val2017/000000000009.jpg", 2)
    base = {
        "split": "train", "image_id": 7, "question_id": "q1", "question": "What is the man awaiting?",
        "choices": ["skateboarder", "train", "delivery", "cab"], "correct_choice_idx": 3,
        "direct_answers": ["cab"] * 6 + ["train"] * 4, "difficult_direct_answer": False, "rationales": ["a", "b", "c"],
    }  # fmt: skip
    odd = {
        **base,
        "question_id": "q2",
        "choices": str(["two", "2", "3", "4"]),
        "correct_choice_idx": 2,
        "direct_answers": "['3']",
    }
    missing = {**base, "question_id": "q3", "image_id": "404"}
    broken = {**base, "question_id": "q4", "correct_choice_idx": 9}
    hidden = {key: value for key, value in base.items() if key not in ("correct_choice_idx", "direct_answers")}
    put_json(root / "aokvqa_v1p0_train.json", [base, odd, missing, broken])
    put_json(root / "aokvqa_v1p0_val.json", [{**base, "split": "val", "image_id": 9, "question_id": "v1"}])
    put_json(root / "aokvqa_v1p0_test.json", [{**hidden, "split": "test", "question_id": "t1"}])
    return MiniTree(
        root=root,
        name="aokvqa",
        questions=4,
        faults=1,
        skipped={"without answer": 1},
        missing_images=1,
        image_root=coco,
    )


def ai2d(root: Path) -> MiniTree:
    for number in (0, 1, 2):
        put_picture(root / f"images/{number}.png", number)
        texts = {"T0": {"rectangle": [[2, 2], [30, 20]], "replacementText": "A", "value": "nose"},
                 "T1": {"rectangle": [[5, 9], [20, 9]], "replacementText": "B", "value": "flat"}}  # fmt: skip
        put_json(root / f"annotations/{number}.png.json", {"text": texts})

    def ask(number: int, **questions: dict[str, Any]) -> None:
        named = {text.replace("_", " "): value for text, value in questions.items()}
        put_json(root / f"questions/{number}.png.json", {"imageName": f"{number}.png", "questions": named})

    def asked(options: list[str], right: Any, *, letters: bool = False, key: str = "0.png-0") -> dict[str, Any]:
        return {"abcLabel": letters, "answerTexts": options, "correctAnswer": right, "questionId": key}

    ask(
        0,
        What_is_A=asked(["ears", "{}", "nose", "nose"], 3, letters=True),
        Which_letter=asked(["C", "A", "B", "D"], 1, letters=True, key="0.png-1"),
        Only_one=asked(["ears", "{}", "{}", "ears"], 0, key="0.png-2"),
        Null_is_right=asked(["ears", "{}", "nose", "eye"], 1, key="0.png-3"),
    )
    ask(1, What_eats_grass=asked(["rabbit", "fox", "owl", "grass"], 0, key="1.png-0"))
    ask(3, Gone=asked(["a fox", "an owl", "a cat", "a dog"], "2", key="3.png-0"))
    put_json(root / "categories.json", {"0.png": "faceParts"})
    (root / "ai2d_test_ids.csv").write_text("1\n", encoding="utf-8")
    return MiniTree(root=root, name="ai2d", questions=4, faults=2, missing_images=1)


def geoqa_plus(root: Path) -> MiniTree:
    folder = root / "data" / "GeoQA2.2"
    folder.mkdir(parents=True)
    grey = np.asarray(picture(1).convert("L"))
    base = {
        "id": 1, "subject": "如图，AB∥CD，∠1=35°，则∠2的度数是()",
        "choices": ["35°", "145°", "55°", "125°"], "label": 0,
        "image": grey, "token_list": ["如图", "AB"], "manual_program": ["g_equal", "N_0"], "numbers": [35.0],
        "choice_nums": [35.0, 145.0, 55.0, 125.0], "formal_point": ["平行线"],
    }  # fmt: skip
    tokens = {key: value for key, value in base.items() if key not in ("subject", "choices")}
    rows = [
        base,
        {**tokens, "id": 2, "label": np.int64(3)},
        {**base, "id": 3, "image": (grey / 255.0).astype(np.float32)},
        {**base, "id": 4, "image": np.array([None, "x"], dtype=object)},
        {**base, "id": 5, "label": 7},
    ]
    (folder / "Mix-train.pk").write_bytes(pickle.dumps(rows, protocol=4))
    (folder / "GeoQA-train.pk").write_bytes(pickle.dumps(rows[:1], protocol=2))
    (folder / "test.pk").write_bytes(pickle.dumps([{**base, "id": 9}], protocol=2))
    return MiniTree(root=root, name="geoqa_plus", questions=4, faults=2)


def scienceqa(root: Path) -> MiniTree:
    put_picture(root / "images/train/20839/image.png", 1)
    base = {
        "question": "What is the capital of Alaska?", "choices": ["Seattle", "Juneau"], "answer": 1, "hint": "",
        "image": "image.png", "task": "closed choice", "grade": "grade3", "subject": "social science",
        "topic": "geography", "category": "State capitals", "skill": "Name capitals", "lecture": "", "solution": "",
        "split": "train",
    }  # fmt: skip
    problems = {
        "20839": base,
        "2": {**base, "image": None, "hint": "Figure: a map."},
        "3": {**base, "split": "test", "choices": ["yes", "no", "yes"], "answer": 2},
        "4": {**base, "answer": "Juneau"},
        "5": ["not", "a", "problem"],
    }
    put_json(root / "problems.json", problems)
    put_json(root / "pid_splits.json", {"train": ["20839", "2", "4"], "test": ["3"], "minitrain": ["2"]})
    return MiniTree(root=root, name="scienceqa", questions=3, faults=2, missing_images=1)


def docvqa(root: Path) -> MiniTree:
    put_picture(root / "documents/xnbl0037_1.png", 1)
    put_picture(root / "train/documents/aaaa0001_2.png", 2)
    put_picture(root / "spdocvqa_images/bbbb0001_3.png", 3)
    base = {
        "questionId": 337, "question": "what is the date mentioned in this letter?", "question_types": ["handwritten"],
        "image": "documents/xnbl0037_1.png", "docId": 279, "answers": ["1/8/93", "8 January 1993"],
        "data_split": "train",
    }  # fmt: skip
    train = [
        base,
        {**base, "questionId": 338, "image": "documents/aaaa0001_2.png", "answers": ["A-929", "A-929"]},
        {**base, "questionId": 339, "image": "documents/bbbb0001_3.png", "answers": ["$1,200"]},
        {**base, "questionId": 340, "image": "documents/gone_4.png"},
        {**base, "questionId": 341, "image": "../outside.png"},
    ]
    put_json(root / "train_v1.0_withQT.json", {"dataset_name": "SP-DocVQA", "data": train})
    put_json(root / "train_v1.0.json", {"dataset_name": "SP-DocVQA", "data": train[:1]})
    hidden = {key: value for key, value in base.items() if key != "answers"}
    put_json(root / "test_v1.0.json", {"dataset_name": "SP-DocVQA", "data": [{**hidden, "questionId": 900}]})
    return MiniTree(root=root, name="docvqa", questions=4, faults=1, skipped={"without answer": 1}, missing_images=1)


def pisc(root: Path) -> MiniTree:
    for number in (1, 24231):
        put_picture(root / f"image/{number:05d}.jpg", number)
    pair = [[1, 2, 10, 20], [20, 2, 30, 20]]
    sizes = {"imgW": 48, "imgH": 32}
    boxes = [
        {"id": 24231, **sizes, "bbox": pair},
        {"id": 1, **sizes, "bbox": [*pair, [40, 2, 46.5, 20]]},
        {"id": 7, **sizes, "bbox": pair},
        {"id": 8, **sizes, "bbox": pair},
    ]
    labels = {"24231": {"1 2": 4}, "1": {"1 3": 2}, "7": {"1 2": 9}, "8": {"1 2": 6}, "9": {"1 2": 1, "1 3": 2}}
    put_json(root / "annotation_image_info.json", boxes)
    put_json(root / "relationship.json", labels)
    put_json(root / "relationship_split/relation_trainidx.json", ["24231", "7", "8"])
    put_json(root / "relationship_split/relation_testidx.json", ["1"])
    skipped = {"several labelled pairs in one picture": 1}
    return MiniTree(root=root, name="pisc", questions=3, faults=1, skipped=skipped, missing_images=1)


def clevr(root: Path) -> MiniTree:
    home = root / "CLEVR_v1.0"
    put_picture(home / "images/train/CLEVR_train_000000.png", 1)
    base = {"split": "train", "image_index": 0, "image_filename": "CLEVR_train_000000.png", "question_family_index": 2}
    questions = [
        {**base, "question": "Are there more green things than red ones?", "answer": "yes", "question_index": 0},
        {**base, "question": "Is there a ball?", "answer": False, "question_index": 1},
        {**base, "question": "How many cubes are there?", "answer": 2, "question_index": 2},
        {**base, "question": "How many balls are there?", "answer": "0", "question_index": 3},
        {**base, "question": "What is it made of?", "answer": "rubber", "question_index": 4},
        {**base, "question": "What is it?", "answer": ["a", "b"], "question_index": 5},
        {**base, "question": "Gone?", "answer": "no", "question_index": 6, "image_filename": "CLEVR_train_000404.png"},
    ]
    put_json(home / "questions/CLEVR_train_questions.json", {"info": {"split": "train"}, "questions": questions})
    hidden = {**base, "question": "Is there a cone?", "question_index": 0, "image_filename": "CLEVR_test_000000.png"}
    put_json(home / "questions/CLEVR_test_questions.json", {"info": {}, "questions": [hidden]})
    return MiniTree(root=root, name="clevr", questions=6, faults=1, skipped={"without answer": 1}, missing_images=1)


def clevr_math(root: Path) -> MiniTree:
    images = root.parent / f"{root.name}-clevr"
    put_picture(images / "images/train/CLEVR_train_000000.png", 1)
    base = {
        "split": "train", "image_index": 0, "image_filename": "CLEVR_train_000000.png", "question_index": 0,
        "question": "Subtract all tiny shiny balls. How many objects are left?", "answer": 4,
        "template_filename": "subtraction.json", "question_family_index": 0,
    }  # fmt: skip
    more = {
        **base,
        "question_index": 1,
        "question": "Add 2 balls. How many?",
        "answer": 0,
        "template_filename": "addition.json",
    }
    put_json(root / "clevr-math-train.json", {"info": {}, "questions": [base, more, {**base, "question": None}]})
    multihop = {**base, "template_filename": "subtraction-multihop.json", "answer": 1}
    put_json(root / "clevr-math-multihop/clevr-math-val.json", {"info": {}, "questions": [multihop]})
    return MiniTree(root=root, name="clevr_math", questions=3, faults=1, missing_images=1, image_root=images)


TEN: dict[str, Callable[[Path], MiniTree]] = {
    "sharegpt4v": sharegpt4v,
    "chartqa": chartqa,
    "aokvqa": aokvqa,
    "ai2d": ai2d,
    "geoqa_plus": geoqa_plus,
    "scienceqa": scienceqa,
    "docvqa": docvqa,
    "pisc": pisc,
    "clevr": clevr,
    "clevr_math": clevr_math,
}
"""The paper's ten sources."""


def llava(root: Path) -> MiniTree:
    put_picture(root / "pisc/image/24231.jpg", 1)
    stages = (
        "<SUMMARY> a </SUMMARY>\n\n<CAPTION> b </CAPTION>\n\n<REASONING> c </REASONING>\n\n<CONCLUSION> B </CONCLUSION>"
    )
    rows = [
        {"id": "u1", "image": "pisc/image/24231.jpg", "hints": ["look left", None],
         "conversations": said("What is it?\nA. a cat\nB. a box", stages, "How many?", "2")},
        {"id": 2, "image": "", "conversations": said("Add 1 and 1.", "2")},
        {"id": 3, "image": ["pisc/image/24231.jpg", "b.jpg"], "conversations": said("Compare.", "No.")},
        {"id": 4, "image": "pisc/image/24231.jpg", "conversations": said("And?", "a", "b")},
        {"id": 5, "image": "pisc/image/24231.jpg", "conversations": []},
        {"id": 6, "image": "https://example.org/a.jpg", "conversations": said("What?", "A box.")},
    ]  # fmt: skip
    put_lines(root / "train.jsonl", rows)
    with open(root / "train.jsonl", "a", encoding="utf-8") as file:
        file.write("{broken\n")
    return MiniTree(root=root, name="llava", questions=4, faults=4, skipped={"without answer": 1})


def hub_parquet(root: Path) -> MiniTree:
    root.mkdir(parents=True, exist_ok=True)
    cell = {"bytes": picture_bytes(1), "path": None}
    rows = [
        {"image": cell, "question": "Which?", "options": ["a fox", "an owl", "{}", "a fox"], "answer": "1"},
        {"image": None, "question": "Which, without a picture?", "options": ["1", "2"], "answer": "0"},
        {"image": cell, "question": "Which?", "options": ["x"], "answer": "0"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), root / "test-00000-of-00001.parquet")
    return MiniTree(root=root, name="hub_parquet", questions=2, faults=1)


def vlmeval_tsv(root: Path) -> MiniTree:
    root.mkdir(parents=True, exist_ok=True)
    coded = [base64.b64encode(picture_bytes(number)).decode() for number in range(2)]
    names = ["index", "image", "question", "hint", "A", "B", "C", "answer", "category", "l2-category", "split"]
    rows = [
        ["0", coded[0], "Which shape?\nLook well.", "", "box", "ball", "", "A", "shape", "x", "dev"],
        ["1000000", "0", "Which shape?", "nan", "ball", "box", "nan", "B", "shape", "x", "dev"],
        ["2", str(coded), "Compare.", "", "same", "other", "", "A", "pair", "x", "dev"],
        ["3", coded[1], "Is it green?", "", "", "", "", "Yes", "yn", "x", "dev"],
        ["4", coded[1], "Which?", "", "box", "ball", "", "D", "shape", "x", "dev"],
        ["5", "404", "Whose picture?", "", "box", "ball", "", "A", "shape", "x", "dev"],
        ["6", coded[1], "Hidden?", "", "box", "ball", "", "", "shape", "x", "test"],
    ]
    with open(root / "MMTiny.tsv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter="\t").writerows([names, *rows])
    return MiniTree(root=root, name="vlmeval_tsv", questions=3, faults=3, skipped={"without answer": 1})


def webdataset(root: Path) -> MiniTree:
    root.mkdir(parents=True, exist_ok=True)
    plain = {"question": "Which?", "choices": ["a box", "a ball"], "answer": 1}
    members: list[tuple[str, bytes]] = [
        ("a/001.jpg", picture_bytes(1, "JPEG")),
        ("a/001.json", json.dumps(plain).encode()),
        ("a/002.png", picture_bytes(2)),
        ("a/002.json", json.dumps({"conversations": said("<image>\nWhat?", "A box.", "Where?", "Left.")}).encode()),
        ("a/003.png", picture_bytes(3)),
        ("a/004.json", b"{broken"),
        ("a/005.json", json.dumps({"question": "Name a colour.", "answer": "red"}).encode()),
    ]
    with tarfile.open(root / "shard-000000.tar", "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return MiniTree(root=root, name="webdataset", questions=4, faults=2)


LAYOUTS: dict[str, Callable[[Path], MiniTree]] = {
    **TEN,
    "llava": llava,
    "hub_parquet": hub_parquet,
    "vlmeval_tsv": vlmeval_tsv,
    "webdataset": webdataset,
}
