"""The blind prior: what constant answers reach that were chosen on other questions.

The floor under every accuracy. Constants are chosen on the training questions and measured on the
test questions, so that the prior, too, is measured on what it has not seen.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipelines.measures import BlindPrior, FamilyPrior, share_of
from reasoning.grading import is_correct
from reasoning.records import Question

# More than this many training questions a group change no constant that we have seen.
_FIT_LIMIT = 2000
_CANDIDATE_CONSTANTS = 8
_SEEN_OFTEN = 3


@dataclass(frozen=True, kw_only=True)
class Constants:
    """The constants chosen on the training questions."""

    overall: str
    by_family: dict[str, str]
    by_question: dict[str, str]
    """Only question texts seen at least three times."""


def fit_constants(train: Iterable[Question]) -> Constants:
    """The best constant for all questions, for each family and for each repeated question text."""
    known = [question for question in train if question.answer is not None]
    families: dict[str, list[Question]] = defaultdict(list)
    texts: dict[str, list[Question]] = defaultdict(list)
    for question in known:
        families[question.meta.get("family", "")].append(question)
        texts[_text_key(question)].append(question)
    return Constants(
        overall=_best_constant(known),
        by_family={name: _best_constant(group) for name, group in families.items()},
        by_question={key: _commonest(group) for key, group in texts.items() if len(group) >= _SEEN_OFTEN},
    )


def measure_prior(constants: Constants, test: Iterable[Question]) -> BlindPrior | None:
    """How the constants do on ``test``; None where no test question has a known answer."""
    known = [question for question in test if question.answer is not None]
    if not known:
        return None
    families: dict[str, list[Question]] = defaultdict(list)
    for question in known:
        families[question.meta.get("family", "")].append(question)

    def family_answer(question: Question) -> str:
        return constants.by_family.get(question.meta.get("family", ""), constants.overall)

    def question_answer(question: Question) -> str:
        return constants.by_question.get(_text_key(question), family_answer(question))

    return BlindPrior(
        constant=constants.overall,
        plain=share_of(sum(is_correct(q, constants.overall) for q in known), len(known)),
        by_family=share_of(sum(is_correct(q, family_answer(q)) for q in known), len(known)),
        by_question=share_of(sum(is_correct(q, question_answer(q)) for q in known), len(known)),
        families=tuple(
            FamilyPrior(
                family=name,
                constant=constants.by_family.get(name, constants.overall),
                accuracy=share_of(sum(is_correct(q, family_answer(q)) for q in group), len(group)),
            )
            for name, group in sorted(families.items())
        ),
    )


def _text_key(question: Question) -> str:
    return "\x1f".join((question.question, *question.choices))


def _commonest(questions: Sequence[Question]) -> str:
    return Counter(q.answer for q in questions if q.answer is not None).most_common(1)[0][0]


def _best_constant(questions: Sequence[Question]) -> str:
    """The constant with most right answers: one of the commonest answers, or an option letter.

    A letter is tried where there are options, since "always A" is a constant, too; ties go to the
    commoner answer.
    """
    if not questions:
        return ""
    sample = questions[:_FIT_LIMIT]
    counted = Counter(q.answer for q in sample if q.answer is not None)
    letters = [chr(ord("A") + i) for i in range(max(len(q.choices) for q in sample))]
    constants = [answer for answer, _ in counted.most_common(_CANDIDATE_CONSTANTS)]
    constants += [letter for letter in letters if letter not in constants]
    return max(constants, key=lambda constant: sum(is_correct(q, constant) for q in sample))
