"""The comparison on a real Ray gives what it gives in one process."""

from __future__ import annotations

import base64
import io
import random
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from pipelines.decontaminate import DecontaminateConfig, read_drop_list, run_decontamination
from pipelines.schemas import read_rows, write_questions
from reasoning.records import ImageRef, Question

pytestmark = pytest.mark.usefixtures("ray_local")


def picture(seed: int) -> bytes:
    chance = random.Random(seed)
    image = Image.new("RGB", (160, 120), "white")
    draw = ImageDraw.Draw(image)
    for bar in range(6):
        draw.rectangle((10 + 24 * bar, 110 - chance.randint(8, 100), 26 + 24 * bar, 110), fill="navy")
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_shards_are_compared_by_workers(tmp_path: Path) -> None:
    questions = [
        Question(id=f"q{seed}", question=f"How high is bar {seed}?", image=ImageRef(data=picture(seed)))
        for seed in range(12)
    ]
    (tmp_path / "3.png").write_bytes(picture(3))
    by_path = Question(id="by path", question="Which is the lowest?", image=ImageRef(uri=str(tmp_path / "3.png")))
    broken = Question(id="broken", question="What?", image=ImageRef(data=b"GIF8"))
    write_questions(tmp_path / "questions", [*questions, by_path, broken], rows_per_file=4)
    rows = [f"{seed}\t{base64.b64encode(picture(seed)).decode()}\tHow high is bar {seed}?" for seed in (3, 7, 99)]
    (tmp_path / "Bench.tsv").write_text("index\timage\tquestion\n" + "\n".join(rows))
    config = DecontaminateConfig(
        questions=str(tmp_path / "questions"), against=(tmp_path / "Bench.tsv",), output=tmp_path / "out"
    )
    news: list[tuple[int, int, str]] = []
    summary = run_decontamination(config, lambda *args: news.append(args))
    kinds = {row["id"]: (row["kind"], row["benchmark_row"]) for row in read_rows(tmp_path / "out" / "matches.parquet")}
    assert kinds == {"q3": ("image_and_question", "3"), "q7": ("image_and_question", "7"), "by path": ("image", "3")}
    assert read_drop_list(tmp_path / "out") == set(kinds)
    assert (summary.questions, summary.unusable) == (14, 1)
    assert news[-1] == (14, 14, "questions")
