"""Every layout, from its mini-tree: what is there comes out, each row once, the same wherever the folder lies."""

from __future__ import annotations

import io
import json
import shutil
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mini_trees import LAYOUTS, TEN, MiniTree, picture_bytes, put_json, put_lines, put_picture, said
from PIL import Image

from pipelines.schemas import QUESTION_SCHEMA, question_from_row, question_to_row
from pipelines.sources.base import FAULT, TEACHER_HINT, Skipped, SourceSpec
from pipelines.sources.catalogue import SOURCES, choose_source, detect
from reasoning.errors import ConfigError, InputError
from reasoning.grading import is_correct
from reasoning.records import AnswerType, Question


def read(path: Path, **options: object) -> list[Question]:
    """The rows of a source that are no skips, all options as in ``SourceSpec``."""
    spec = SourceSpec.model_validate({"path": path, **options})
    source, home = choose_source(spec.path, spec.name)
    return [row for row in source.read(spec.request(home)) if not isinstance(row, Skipped)]


def usable(path: Path, **options: object) -> list[Question]:
    return [row for row in read(path, **options) if FAULT not in row.meta and row.answer is not None]


def made(name: str, tmp_path: Path) -> MiniTree:
    return LAYOUTS[name](tmp_path / name)


def test_the_papers_ten_and_their_sizes_are_listed() -> None:
    thousands = {source.name: source.info.paper_thousands for source in SOURCES if source.info.paper_thousands}
    assert set(thousands) == set(TEN)
    assert sum(thousands.values()) == pytest.approx(99.0)
    assert all(source.info.licence and source.info.where and source.info.files for source in SOURCES)


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout_is_recognised_and_every_row_comes_out_once(name: str, tmp_path: Path) -> None:
    tree = made(name, tmp_path)
    assert detect(tree.root).name == tree.name
    spec = SourceSpec(path=tree.root, image_root=tree.image_root)
    source, home = choose_source(tree.root)
    skipped: Counter[str] = Counter()
    questions: list[Question] = []
    for row in source.read(spec.request(home)):
        cause = row.cause if isinstance(row, Skipped) else spec.skip_cause(row)
        if cause is not None:
            skipped[cause] += 1
        elif isinstance(row, Question):
            questions.append(row)
    ids = {row.id: row for row in questions}
    assert len(questions) - len(ids) == tree.doubles
    assert skipped == tree.skipped
    assert sum(FAULT in row.meta for row in ids.values()) == tree.faults
    assert sum(FAULT not in row.meta for row in ids.values()) == tree.questions
    assert all(row.question.strip() for row in questions)


@pytest.mark.parametrize("name", LAYOUTS)
def test_rows_survive_parquet_and_their_gold_answer_grades_itself(name: str, tmp_path: Path) -> None:
    tree = made(name, tmp_path)
    rows = read(tree.root, image_root=tree.image_root)
    table = pa.Table.from_pylist([question_to_row(row) for row in rows], schema=QUESTION_SCHEMA)
    assert [question_from_row(row) for row in table.to_pylist()] == rows
    for row in rows:
        if row.answer is not None:
            assert is_correct(row, row.answer)


@pytest.mark.parametrize("name", LAYOUTS)
def test_identities_are_the_same_after_the_folder_is_moved(name: str, tmp_path: Path) -> None:
    tree = made(name, tmp_path / "here")
    before = [row.id for row in read(tree.root, image_root=tree.image_root)]
    moved = tmp_path / "elsewhere" / "deeper"
    moved.parent.mkdir()
    shutil.move(tmp_path / "here", moved)
    image_root = moved / tree.image_root.name if tree.image_root else None
    assert [row.id for row in read(moved / name, image_root=image_root)] == before


def test_same_question_with_another_answer_is_another_question(tmp_path: Path) -> None:
    tree = made("chartqa", tmp_path)
    rows = [row for row in usable(tree.root, split="train") if row.question == "How many bars are shown?"]
    assert [row.answer for row in rows] == ["3", "4", "3"]
    assert rows[0].id == rows[2].id != rows[1].id


def test_sharegpt4v_turns_history_and_spelled_out_letters(tmp_path: Path) -> None:
    tree = made("sharegpt4v", tmp_path)
    rows = usable(tree.root, split="mix665k")
    first, second = rows[0], rows[1]
    assert (first.question, first.answer, first.turn, first.history) == ("What colour is the box?", "Green.", 0, ())
    assert (second.turn, second.history[0].answer) == (1, "Green.")
    assert first.conversation_id == second.conversation_id != ""
    painted = next(row for row in rows if "Which?" in row.question)
    assert painted.answer_type is AnswerType.CHOICE
    assert painted.image is not None
    assert Path(painted.image.uri or "").name == "jos#U00e9-painter_a-boat.jpg"
    assert painted.meta["image"] == "wikiart/images/josé-painter_a-boat.jpg"
    text_only = next(row for row in rows if row.image is None)
    assert (text_only.question, text_only.conversation_id) == ("Name a prime number.", "")
    assert next(row for row in rows if row.meta["key"] == "2").answer_type is AnswerType.FREE


def test_aokvqa_options_written_as_text_and_options_that_read_alike(tmp_path: Path) -> None:
    tree = made("aokvqa", tmp_path)
    plain, odd = usable(tree.root, split="train", image_root=tree.image_root)[:2]
    assert (plain.answer, plain.answers, plain.choices[3]) == ("D", (), "cab")
    assert json.loads(plain.meta["direct_answers"])[:1] == ["cab"]
    assert plain.image is not None
    assert Path(plain.image.uri or "").is_file()
    assert odd.choices == ("two", "2", "3", "4")
    assert (odd.answer, json.loads(odd.meta["direct_answers"])) == ("C", ["3"])


def test_aokvqa_reads_the_test_file_with_answers_where_both_are(tmp_path: Path) -> None:
    tree = made("aokvqa", tmp_path)
    row = json.loads((tree.root / "aokvqa_v1p0_test.json").read_text())[0]
    put_json(tree.root / "aokvqa_v1p0_test_w_ans.json", [{**row, "correct_choice_idx": 1, "direct_answers": []}])
    assert [row.answer for row in read(tree.root, split="test")] == ["B"]


def test_ai2d_letters_are_painted_and_null_options_dropped(tmp_path: Path) -> None:
    tree = made("ai2d", tmp_path)
    lettered, scrambled, null_is_right = read(tree.root)[0], read(tree.root)[1], read(tree.root)[3]
    assert (lettered.choices, lettered.answer) == (("ears", "nose"), "B")
    assert lettered.image is not None
    assert lettered.image.data is not None
    painted = Image.open(io.BytesIO(lettered.image.data)).convert("RGB")
    plain = Image.open(tree.root / "images/0.png").convert("RGB")
    assert painted.size == plain.size
    box, outside = (2, 2, 30, 20), (32, 22, 48, 32)
    assert painted.crop(outside).tobytes() == plain.crop(outside).tobytes()
    # White with a black letter, where a red box was.
    colours = {colour for _, colour in painted.crop(box).convert("L").getcolors() or []}
    assert {0, 255} <= colours
    assert painted.crop(box).tobytes() != plain.crop(box).tobytes()
    assert (scrambled.choices, scrambled.answer) == (("C", "A", "B", "D"), "A")
    assert "empty" in null_is_right.meta[FAULT]
    assert {row.split for row in read(tree.root)} == {"train", "test"}


def test_ai2d_split_needs_the_list_of_test_pictures(tmp_path: Path) -> None:
    tree = made("ai2d", tmp_path)
    (tree.root / "ai2d_test_ids.csv").unlink()
    with pytest.raises(InputError, match=r"ai2d_test_ids\.csv"):
        read(tree.root, split="train")
    assert {row.split for row in read(tree.root)} == {""}


def test_geoqa_problem_figure_and_options(tmp_path: Path) -> None:
    rows = usable(made("geoqa_plus", tmp_path).root, split="train")
    first, from_tokens, from_fractions = rows
    assert (first.question, first.answer) == ("如图，AB∥CD，∠1=35°，则∠2的度数是()", "A")
    assert (from_tokens.question, from_tokens.answer) == ("如图AB", "D")
    assert from_tokens.choices == ("35", "145", "55", "125")
    figures = [Image.open(io.BytesIO(row.image.data)) for row in rows if row.image and row.image.data]
    assert [figure.size for figure in figures] == [(48, 32)] * 3
    assert figures[0].tobytes() == figures[2].tobytes()
    assert from_fractions.image is not None


def test_scienceqa_splits_hints_and_rows_without_picture(tmp_path: Path) -> None:
    tree = made("scienceqa", tmp_path)
    train = usable(tree.root, split="train")
    assert [(row.meta["key"], row.answer, row.image is None) for row in train] == [
        ("20839", "B", False),
        ("2", "B", True),
    ]
    assert train[1].hint == "Figure: a map."
    assert [row.meta["key"] for row in usable(tree.root, split="minitrain")] == ["2"]
    test = usable(tree.root, split="test")[0]
    assert (test.choices, test.answer) == (("yes", "no"), "A")
    with pytest.raises(InputError, match="minitrain"):
        read(tree.root, split="nonsense")


def test_docvqa_finds_scans_in_their_three_places(tmp_path: Path) -> None:
    rows = usable(made("docvqa", tmp_path).root, split="train")
    assert [Path(row.image.uri or "").parts[-3:-1] for row in rows[:3] if row.image] == [
        ("docvqa", "documents"),
        ("train", "documents"),
        ("docvqa", "spdocvqa_images"),
    ]
    assert (rows[0].answer, rows[0].answers) == ("1/8/93", ("8 January 1993",))
    assert rows[1].answers == ()
    assert is_correct(rows[0], "8 January 1993")


def test_pisc_asks_for_one_of_six_relations(tmp_path: Path) -> None:
    tree = made("pisc", tmp_path)
    rows = usable(tree.root)
    assert [(row.split, row.answer, len(row.choices)) for row in rows] == [
        ("train", "D", 6),
        ("test", "B", 6),
        ("train", "F", 6),
    ]
    assert rows[0].question.endswith("the two people in this picture?")
    assert "(1, 2, 10, 20)" in rows[1].question
    assert "(40, 2, 46.5, 20)" in rows[1].question
    every = read(tree.root, every_pair=True)
    # Picture 9 has two pairs and no boxes to tell them by: kept, with that fault.
    assert sum("no boxes" in row.meta.get(FAULT, "") for row in every) == 2


def test_clevr_answers_may_be_text_truth_or_number(tmp_path: Path) -> None:
    rows = usable(made("clevr", tmp_path).root, split="train")
    assert [row.answer for row in rows] == ["yes", "no", "2", "0", "rubber", "no"]
    assert [row.answer_type for row in rows][:3] == [AnswerType.TEXT, AnswerType.TEXT, AnswerType.NUMBER]
    assert rows[0].meta["family"] == "2"


def test_clevr_math_pictures_are_clevrs(tmp_path: Path) -> None:
    tree = made("clevr_math", tmp_path)
    rows = usable(tree.root, split="train", image_root=tree.image_root)
    assert [(row.answer, row.meta["family"]) for row in rows] == [("4", "subtraction"), ("0", "addition")]
    assert all(row.image and Path(row.image.uri or "").is_file() for row in rows)


def test_llava_cot_rows_hints_and_conclusions(tmp_path: Path) -> None:
    rows = usable(made("llava", tmp_path).root)
    first, second = rows[0], rows[1]
    assert (first.answer, first.answer_type, first.meta[TEACHER_HINT]) == ("B", AnswerType.CHOICE, "look left")
    assert first.hint is None
    assert (second.history[0].answer, TEACHER_HINT in second.meta) == ("B", False)
    assert (rows[2].image, rows[2].meta["key"]) == (None, "2")
    assert {row.source for row in rows} == {"train"}
    assert {row.source for row in read(tmp_path / "llava", label="mine")} == {"mine"}


def test_llava_list_and_lines_read_the_same(tmp_path: Path) -> None:
    put_picture(tmp_path / "a.jpg")
    rows = [{"id": n, "image": "a.jpg", "conversations": said(f"Number {n}?", str(n))} for n in range(3)]
    put_json(tmp_path / "one.json", rows)
    put_lines(tmp_path / "two.jsonl", rows)
    one, two = (read(tmp_path / name, label="same", image_root=tmp_path) for name in ("one.json", "two.jsonl"))
    assert one == two
    assert len(one) == 3


def test_half_a_surrogate_pair_reaches_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        r'{"id": 1, "conversations": [{"from": "human", "value": "odd \ud83d?"}, {"from": "gpt", "value": "x"}]}' "\n"
    )
    row = read(tmp_path / "a.jsonl")[0]
    assert row.question.encode("utf-8").startswith(b"odd ")
    pa.Table.from_pylist([question_to_row(row)], schema=QUESTION_SCHEMA)


CELL = {"bytes": picture_bytes(1), "path": "a.png"}
HUB = {
    "chartqa": ({"image": CELL, "query": "How many?", "label": ["3"], "human_or_machine": 0}, "3"),
    "aokvqa": (
        {"image": CELL, "question_id": "q", "question": "What?", "choices": ["a", "b", "c", "d"],
         "correct_choice_idx": 2, "direct_answers": "['c', 'c']"}, "C"),
    "scienceqa": (
        {"image": CELL, "question": "Which?", "choices": ["x", "y"], "answer": 1, "hint": "", "lecture": "",
         "subject": "s"}, "B"),
    "docvqa": ({"image": CELL, "questionId": "7", "question": "Date?", "answers": ["1/8/93"]}, "1/8/93"),
    "clevr_math": ({"template": "addition", "id": "1", "image": CELL, "question": "How many?", "label": 4}, "4"),
    "geoqa_plus": ({"id": 1, "image": CELL, "subject": "如图", "choices": ["1", "2", "3", "4"], "label": 3}, "D"),
    "the_cauldron": ({"images": [CELL], "texts": [{"user": "What?", "assistant": "A box.", "source": "x"}]}, "A box."),
    "llava_onevision": (
        {"id": "1", "image": CELL, "conversations": said("<image>\nWhat?", "A box."), "data_source": "x"}, "A box."),
}  # fmt: skip


@pytest.mark.parametrize("name", HUB)
def test_hub_mirrors_are_told_by_their_columns(name: str, tmp_path: Path) -> None:
    row, answer = HUB[name]
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "validation-00000-of-00001.parquet")
    assert detect(tmp_path).name == "hub_parquet"
    question = read(tmp_path)[0]
    assert (question.source, question.split, question.answer) == (name, "val", answer)
    assert question.image is not None
    assert (question.image.data, question.image.media_type) == (CELL["bytes"], "image/png")
    assert read(tmp_path, split="train") == []


def test_hub_pictures_plain_bytes_and_several(tmp_path: Path) -> None:
    rows = [
        {"images": [CELL["bytes"]], "problem": "<image>Which?\nA. 1\nB. 2", "answer": "B"},
        {"images": [CELL["bytes"]] * 2, "problem": "Which?", "answer": "B"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train-0.parquet")
    first, second = read(tmp_path)
    assert (first.question, first.answer_type) == ("Which?\nA. 1\nB. 2", AnswerType.CHOICE)
    assert "2 pictures" in second.meta[FAULT]


def test_vlmeval_pictures_are_shared_by_index(tmp_path: Path) -> None:
    rows = usable(made("vlmeval_tsv", tmp_path).root)
    first, shared, yes = rows
    assert first.image is not None
    assert shared.image is not None
    assert first.image.data == shared.image.data == picture_bytes(0)
    assert (first.question, first.answer, shared.answer) == ("Which shape?\nLook well.", "A", "B")
    assert (shared.hint, yes.answer, yes.choices) == (None, "Yes", ())
    assert first.source == "MMTiny"


def test_vlmeval_quote_that_nothing_closes_loses_no_rows_in_silence(tmp_path: Path) -> None:
    tree = made("vlmeval_tsv", tmp_path)
    with open(tree.root / "MMTiny.tsv", "a", encoding="utf-8") as file:
        file.write('7\t"never closed\n8\tlost\n')
    with pytest.raises(InputError, match="is no readable TSV"):
        read(tree.root)


def test_ai2d_broken_file_of_one_picture_costs_that_picture(tmp_path: Path) -> None:
    tree = made("ai2d", tmp_path)
    (tree.root / "questions" / "5.png.json").write_text("{broken")
    rows = read(tree.root)
    assert rows[-1].meta[FAULT] == "5.png.json is no JSON"
    assert len(rows) == tree.questions + tree.faults + 1


def test_webdataset_is_read_from_a_stream_and_a_cut_tar_says_so(tmp_path: Path) -> None:
    tree = made("webdataset", tmp_path)
    rows = usable(tree.root)
    assert [row.answer for row in rows] == ["B", "A box.", "Left.", "red"]
    assert rows[0].image is not None
    assert rows[0].image.media_type == "image/jpeg"
    tar = tree.root / "shard-000000.tar"
    tar.write_bytes(tar.read_bytes()[:2500])
    with pytest.raises(InputError, match="is no whole tar"):
        read(tree.root)


def test_easy_vqa_is_read_from_its_package() -> None:
    easy_vqa = pytest.importorskip("easy_vqa")
    root = Path(easy_vqa.__file__).parent
    rows = read(root, split="test")
    assert detect(root).name == "easy_vqa"
    assert len(rows) == 9673
    assert not any(FAULT in row.meta for row in rows)
    assert {row.answer for row in rows} == set((root / "data" / "answers.txt").read_text().split())
    assert all(Path(row.image.uri or "").is_file() for row in rows[::500] if row.image)


def test_unknown_layout_names_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("nothing")
    with pytest.raises(InputError, match=r"chartqa: train/train_human\.json"):
        detect(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        detect(tmp_path / "no")
    with pytest.raises(ConfigError, match="did you mean 'chartqa'"):
        choose_source(tmp_path, "chart_qa")
    with pytest.raises(InputError, match="is no ChartQA"):
        choose_source(tmp_path, "chartqa")
