"""Pairwise judgements to train a judge on: the right text of a stage against a flawed one.

Pure functions over what the annotation run kept. The right text stands first in half of the rows
of each stage and form, so that the place says nothing; a pair shown one way round for the bare
choice is shown the other way round for the choice with a reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from reasoning.grading import is_correct
from reasoning.parsing import ParseFault, parse_stages
from reasoning.prompts import RATING_OPTIONS, judge_prompt, rating_prompt
from reasoning.records import Question, RowKind, TrainingRow, Turn
from reasoning.search.config import PromptStyle
from reasoning.stages import STAGES, FourStages, Stage
from reasoning.verdicts import verdict_text

_NOTES = re.compile(r"<NOTES>(?P<notes>.*?)(?:</NOTES>|\Z)", re.DOTALL | re.IGNORECASE)
_NAMES = "|".join(stage.value for stage in STAGES)
_NOTE = re.compile(rf"\b({_NAMES})\s*:\s*(.*?)(?=[;\n]\s*(?:{_NAMES})\s*:|\Z)", re.DOTALL | re.IGNORECASE)
_VERDICT_WORDS = re.compile(r"choose response", re.IGNORECASE)
_LONGEST_REASON = 200
# Whole answers differ in one stage; a flawed plan alone would be judged as the summary is.
_WHOLE_ANSWER_STAGES = (Stage.CAPTION, Stage.REASONING, Stage.CONCLUSION)


class JudgementForm(StrEnum):
    CHOICE = "choice"
    """``I choose response 1.``: for the judge that is read by its probabilities."""
    WHY = "why"
    """``Since …, I choose response 1.``: for the judge that writes."""
    RATING = "rating"
    """``yes`` or ``no`` to one of the two texts: for scores by rating."""


class JudgementConfig(BaseModel):
    """Which judgements are made of a pair of answers."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    prompt_style: PromptStyle = PromptStyle.COMPACT
    """Wording of the judge's prompts; the search must use the same."""
    forms: tuple[JudgementForm, ...] = Field(default=(JudgementForm.CHOICE, JudgementForm.WHY), min_length=1)
    """A row each."""
    stages: tuple[Stage, ...] = STAGES
    """The stages that get rows."""
    whole_answers: bool = True
    """Compare whole answers too, as best-of-N does; else only stages."""
    whole_answer_every: int = Field(default=1, ge=1)
    """Whole answers are compared for one question in so many: their rows are the longest by far."""
    both_orders: bool = False
    """Each pair both ways round in each form, twice the rows; else one way, in turn."""


@dataclass(frozen=True, kw_only=True)
class FlawedAnswer:
    """A teacher's flawed version of an answer. ``notes``: in a few words, what is right instead."""

    stages: FourStages
    notes: Mapping[Stage, str]


def parse_flawed(reply: str) -> FlawedAnswer | ParseFault:
    """The four flawed stages, and the notes of a ``<NOTES> summary: …; caption: … </NOTES>`` if there is one."""
    found = _NOTES.search(reply)
    stages = parse_stages(_NOTES.sub("", reply))
    if isinstance(stages, ParseFault):
        return stages
    notes: dict[Stage, str] = {}
    if found is not None:
        for name, text in _NOTE.findall(found["notes"]):
            reason = _as_reason(text)
            if reason:
                notes[Stage(name.upper())] = reason
    return FlawedAnswer(stages=stages, notes=notes)


def judgement_rows(
    question: Question, right: FourStages, flawed: FlawedAnswer, config: JudgementConfig, *, index: int
) -> list[TrainingRow]:
    """The judgements of one pair of answers, by stage and form, whole answers last.

    ``index`` is the pair's number among all: it says which text stands first. A stage whose flawed
    text is no worse (the same words, or a conclusion that is right after all) gives no row.
    """
    rows: list[TrainingRow] = []
    for number, stage in enumerate(STAGES):
        if stage in config.stages and _is_worse(question, right, flawed, stage):
            prior = {s: right[s] for s in STAGES[:number]}
            reason = flawed.notes.get(stage)
            pair = TextPair(question, stage, prior, right[stage], flawed.stages[stage], reason)
            rows += pair.rows(config, turn=index + number)
    turn, is_left_out = divmod(index, config.whole_answer_every)
    if config.whole_answers and not is_left_out:
        stage = _WHOLE_ANSWER_STAGES[turn % len(_WHOLE_ANSWER_STAGES)]
        if _is_worse(question, right, flawed, stage):
            changed = FourStages.from_mapping({**right.as_mapping(), stage: flawed.stages[stage]})
            pair = TextPair(question, None, {}, right.render(), changed.render(), flawed.notes.get(stage))
            # Which stage differs goes in threes with the turn: the place must not.
            rows += pair.rows(config, turn=turn // len(_WHOLE_ANSWER_STAGES) + len(STAGES))
    return rows


@dataclass(frozen=True)
class TextPair:
    """A better and a worse text for one stage, or, with ``stage`` None, two whole answers."""

    question: Question
    stage: Stage | None
    prior: Mapping[Stage, str]
    """The stages before it; those that serve as hint are taken from it."""
    better: str
    worse: str
    reason: str | None = None
    """What is wrong with the worse one, for verdicts that give a reason."""
    name: str = ""
    """Tells this pair from the question's others in the ids of its rows."""

    def rows(self, config: JudgementConfig, *, turn: int) -> list[TrainingRow]:
        """A row for each form; the better text stands first, or is the one rated, in even turns of the first form."""
        made = []
        for number, form in enumerate(config.forms):
            places = [(turn + number) % 2]
            if config.both_orders:
                places.append(1 - places[0])
            made += [self._row(form, config.prompt_style, place) for place in places]
        return made

    def _row(self, form: JudgementForm, style: PromptStyle, place: int) -> TrainingRow:
        """``place``: where the better text stands, 0 or 1; 0 rates the better text, 1 the worse."""
        if form is JudgementForm.RATING:
            return self._rating(style, place)
        texts = (self.better, self.worse) if place == 0 else (self.worse, self.better)
        with_reason = form is JudgementForm.WHY
        reason = (self.reason or f"response {2 - place} holds a mistake") if with_reason else None
        prompt = judge_prompt(style, self.question, self.stage, self.prior, *texts, with_reason=with_reason)
        return self._training_row(form, place, prompt, verdict_text(place + 1, reason))

    def _rating(self, style: PromptStyle, place: int) -> TrainingRow:
        text = (self.better, self.worse)[place]
        prompt = rating_prompt(style, self.question, self.stage, self.prior, text)
        return self._training_row(JudgementForm.RATING, place, prompt, RATING_OPTIONS[place])

    def _training_row(self, form: JudgementForm, place: int, prompt: str, response: str) -> TrainingRow:
        name = self.stage.value.lower() if self.stage else "answer"
        return TrainingRow(
            id=f"{self.question.id}/judge/{self.name}{name}/{form.value}/{place + 1}",
            kind=RowKind.JUDGEMENT,
            image=self.question.image,
            prompt=prompt,
            response=response,
            history=spoken_before(self.question),
        )


def spoken_before(question: Question) -> tuple[Turn, ...]:
    """The earlier turns without white space around their texts: so a service reads messages."""
    return tuple(Turn(question=turn.question.strip(), answer=turn.answer.strip()) for turn in question.history)


def _is_worse(question: Question, right: FourStages, flawed: FlawedAnswer, stage: Stage) -> bool:
    text = flawed.stages[stage]
    if " ".join(text.split()).casefold() == " ".join(right[stage].split()).casefold():
        return False
    is_graded = stage is Stage.CONCLUSION and bool(question.answer and question.answer.strip())
    return not (is_graded and is_correct(question, text))


def _as_reason(text: str) -> str:
    """One line that can stand in ``Since …, I choose``; empty when it cannot."""
    line = " ".join(text.split()).strip(" .;,")
    return "" if len(line) > _LONGEST_REASON or _VERDICT_WORDS.search(line) else line
