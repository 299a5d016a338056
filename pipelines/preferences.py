"""What the losers of a search are good for: pairs for preference training, labels for a process reward model.

Reads committed answers and writes JSON lines in the form that TRL reads (conversations, images as
files). The pairs are the search's own comparisons and, where the answer is known, right against
wrong candidates; a step's label is the share of the finished answers behind it that are right.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.storage import write_text_atomic
from pipelines.answers import committed_files, read_answers
from pipelines.schemas import read_questions
from reasoning.errors import InputError
from reasoning.grading import is_correct
from reasoning.parsing import ParseFault, parse_stages
from reasoning.prompts import question_text
from reasoning.records import ImageRef, Question
from reasoning.stages import SEPARATOR, Stage, render_stage
from reasoning.trace import Candidate, Trace, Verdict

PAIRS_FILE, STEPS_FILE, IMAGES = "preferences.jsonl", "steps.jsonl", "images"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two continuations of one beginning, one better than the other."""

    question_id: str
    search: str
    stage: Stage | None
    """None: whole answers."""
    prefix: str
    """What the assistant had written before both; empty for whole answers and the first stage."""
    chosen: str
    rejected: str
    by: str
    """``judge``: the search's own comparison; ``answer``: the known answer says so."""
    margin: float | None
    """Judge by probability: how much more likely the chosen one is to be better, in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class Steps:
    """A finished answer in steps, each with the share of the finished answers behind it that are right."""

    question_id: str
    search: str
    completions: tuple[str, ...]
    labels: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class PreferenceSummary:
    """What was written."""

    output: Path
    pairs: Mapping[str, int]
    """By what decided them: ``judge``, ``answer``."""
    steps: int
    images: int


def export_preferences(results: Path, questions: Path, output: Path) -> PreferenceSummary:
    """``preferences.jsonl``, ``steps.jsonl`` and ``images/`` from the answers in a score run's folder.

    ``questions`` is what the run answered: the pictures come from there. Raises InputError when the
    folder holds no answers or a question is missing.
    """
    answers = [answer for files in committed_files(results).values() for answer in read_answers(files) if answer.trace]
    wanted = {answer.question.id for answer in answers}
    known = {question.id: question for question in read_questions(questions) if question.id in wanted}
    if missing := wanted - known.keys():
        raise InputError(f"{questions}: holds no question {min(missing)!r}, which {results} has answers to")
    images = _Images(output)
    pairs: list[str] = []
    steps: list[str] = []
    counts: dict[str, int] = {"judge": 0, "answer": 0}
    for answer in answers:
        question = known[answer.question.id]
        trace = Trace.from_json(answer.trace or "")
        for pair in pairs_of(question, answer.search, trace):
            counts[pair.by] += 1
            pairs.append(_line(_pair_record(question, pair, images)))
        steps += [_line(_steps_record(question, found, images)) for found in steps_of(question, answer.search, trace)]
    output.mkdir(parents=True, exist_ok=True)
    write_text_atomic(output / PAIRS_FILE, "".join(pairs))
    write_text_atomic(output / STEPS_FILE, "".join(steps))
    return PreferenceSummary(output=output, pairs=counts, steps=len(steps), images=images.count)


def pairs_of(question: Question, search: str, trace: Trace) -> Iterator[Pair]:
    """The pairs of one search tree; each unordered pair of candidates once, the known answer before the judge."""
    tree = _Tree(question, trace)
    seen: set[frozenset[str]] = set()
    for better, worse in tree.graded_pairs():
        seen.add(frozenset((better.id, worse.id)))
        yield tree.pair(search, better, worse, "answer", None)
    for met in trace.comparisons:
        first, second = tree.candidates[met.first], tree.candidates[met.second]
        ids = frozenset((first.id, second.id))
        if met.verdict not in (Verdict.FIRST, Verdict.SECOND) or ids in seen or first.parent != second.parent:
            continue
        seen.add(ids)
        margin = None if met.p_first is None else abs(2 * met.p_first - 1)
        better, worse = (first, second) if met.verdict is Verdict.FIRST else (second, first)
        yield tree.pair(search, better, worse, "judge", margin)


def steps_of(question: Question, search: str, trace: Trace) -> Iterator[Steps]:
    """Every finished answer of the tree, stage by stage; none where the answer is not known."""
    tree = _Tree(question, trace)
    for leaf in tree.leaves():
        path = tree.path(leaf)
        labels = tuple(label for candidate in path if (label := tree.share_right(candidate)) is not None)
        if len(labels) == len(path):
            yield Steps(
                question_id=question.id,
                search=search,
                completions=tuple(tree.written(candidate) for candidate in path),
                labels=labels,
            )


class _Tree:
    """A trace with its children, texts and grades."""

    def __init__(self, question: Question, trace: Trace) -> None:
        self.question = question
        self.candidates = {candidate.id: candidate for candidate in trace.candidates}
        self._children: dict[str | None, list[Candidate]] = {}
        for candidate in trace.candidates:
            self._children.setdefault(candidate.parent, []).append(candidate)

    def path(self, last: Candidate) -> list[Candidate]:
        """From the root to ``last``."""
        found = [last]
        while (parent := found[-1].parent) is not None:
            found.append(self.candidates[parent])
        return found[::-1]

    def written(self, candidate: Candidate) -> str:
        """The candidate in its written form: a stage with its tags, a whole answer as generated."""
        return render_stage(candidate.stage, candidate.text) if candidate.stage else candidate.text

    def leaves(self) -> list[Candidate]:
        """The usable candidates that end an answer."""
        return [candidate for candidate in self.candidates.values() if self._conclusion(candidate) is not None]

    def share_right(self, candidate: Candidate) -> float | None:
        """Of the finished answers at or behind ``candidate`` the share that are right; None when there is none."""
        grades = [grade for leaf in self._behind(candidate) if (grade := self._grade(leaf)) is not None]
        return sum(grades) / len(grades) if grades else None

    def graded_pairs(self) -> Iterator[tuple[Candidate, Candidate]]:
        """Right and wrong finished answers with the same parent, texts that differ."""
        for siblings in self._children.values():
            graded = [(one, grade) for one in siblings if (grade := self._grade(one)) is not None]
            for better, is_right in graded:
                for worse, is_other_right in graded:
                    if is_right and not is_other_right:
                        yield better, worse

    def pair(self, search: str, better: Candidate, worse: Candidate, by: str, margin: float | None) -> Pair:
        """The pair with what was written before both."""
        before = self.path(better)[:-1]
        return Pair(
            question_id=self.question.id,
            search=search,
            stage=better.stage,
            prefix="".join(self.written(candidate) + SEPARATOR for candidate in before),
            chosen=self.written(better),
            rejected=self.written(worse),
            by=by,
            margin=margin,
        )

    def _behind(self, candidate: Candidate) -> Iterator[Candidate]:
        yield candidate
        for child in self._children.get(candidate.id, ()):
            yield from self._behind(child)

    def _grade(self, candidate: Candidate) -> bool | None:
        conclusion = self._conclusion(candidate)
        if conclusion is None or self.question.answer is None:
            return None
        return is_correct(self.question, conclusion)

    def _conclusion(self, candidate: Candidate) -> str | None:
        if candidate.fault is not None:
            return None
        if candidate.stage is Stage.CONCLUSION:
            return candidate.text
        parsed = parse_stages(candidate.text) if candidate.stage is None else None
        return None if parsed is None or isinstance(parsed, ParseFault) else parsed.conclusion


class _Images:
    """Writes each picture once, under its digest."""

    def __init__(self, output: Path) -> None:
        self._folder = output / IMAGES
        self._written: dict[str, str] = {}

    @property
    def count(self) -> int:
        return len(self._written)

    def path(self, image: ImageRef | None) -> list[str]:
        """The picture's path, relative to the output folder, in a list; an empty one without a picture."""
        if image is None:
            return []
        if image.data is None:
            return [str(image.uri)]
        if image.key not in self._written:
            self._folder.mkdir(parents=True, exist_ok=True)
            name = f"{image.key[:24]}.{_suffix(image.data)}"
            (self._folder / name).write_bytes(image.data)
            self._written[image.key] = f"{IMAGES}/{name}"
        return [self._written[image.key]]


def _suffix(data: bytes) -> str:
    known = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpg", b"RIFF": "webp", b"GIF8": "gif"}
    return next((suffix for head, suffix in known.items() if data.startswith(head)), "img")


def _pair_record(question: Question, pair: Pair, images: _Images) -> dict[str, Any]:
    return {
        "question_id": pair.question_id,
        "search": pair.search,
        "stage": pair.stage.value if pair.stage else None,
        "by": pair.by,
        "margin": pair.margin,
        **_prompt(question, pair.prefix, images),
        "chosen": [_assistant(pair.chosen)],
        "rejected": [_assistant(pair.rejected)],
    }


def _steps_record(question: Question, steps: Steps, images: _Images) -> dict[str, Any]:
    return {
        "question_id": steps.question_id,
        "search": steps.search,
        **_prompt(question, "", images),
        "completions": list(steps.completions),
        "labels": list(steps.labels),
    }


def _prompt(question: Question, prefix: str, images: _Images) -> dict[str, Any]:
    paths = images.path(question.image)
    content = [*({"type": "image"} for _ in paths), {"type": "text", "text": question_text(question)}]
    started = [_assistant(prefix)] if prefix else []
    return {"images": paths, "prompt": [{"role": "user", "content": content}, *started]}


def _assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": [{"type": "text", "text": text}]}


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"
