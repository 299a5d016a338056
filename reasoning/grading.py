"""Compare a conclusion with the standard answer by rule: letters, option texts, numbers, yes/no, text.

Only the conclusion is graded, never the whole answer: graders fed all four stages miss right answers.
Where no rule says that two answers mean the same, they do not; a model's opinion is never asked.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from fractions import Fraction

from reasoning.errors import InputError
from reasoning.numerals import Numeral, as_digits, numeral, numerals
from reasoning.records import AnswerType, Question

_ARTICLES = {"a", "an", "the"}
_NEGATION = re.compile(r"\b(?:not|never|neither|nor|cannot|\w+n't|except|rather than|instead of)\b")
_MARK_UP = re.compile(r"(?<!\w)[*_`]{1,3}(?=\S)|(?<=\S)[*_`]{1,3}(?!\w)")
_ANSWER_IS = re.compile(
    r"\b(?:final |correct |right |best )*(?:answer|option|choice|result|conclusion|count)"
    r"(?:\s+(?:is|would be|should be|must be)(?:\s+(?:option|choice))?\b\s*:?|\s*[:=])\s*(?P<answer>[^\n]+)",
    re.IGNORECASE,
)
_BETWEEN_WORDS = re.compile(r"[^\w%°./+-]+")
_LETTER_ALONE = re.compile(r"(?:option|choice|answer)?\s*\(?([A-Za-z])\)?\s*[.):]?", re.IGNORECASE)
_LETTER_THEN_TEXT = re.compile(
    r"(?:(?:option|choice)\s+)?(?:\(([A-Z])\)\s*[.:]?|([A-Z])[.):])\s*(?P<rest>\S.*)", re.DOTALL
)
_LETTER_LAST = re.compile(r"(?:\b(?:is|option|choice|choose|answer)\s+|\()([A-Z])\)?\W*$")


def is_correct(question: Question, conclusion: str) -> bool:
    """Whether ``conclusion`` means the standard answer or another accepted form of it.

    Raises InputError when the question has no standard answer.
    """
    accepted = [answer for answer in (question.answer, *question.answers) if answer is not None and answer.strip()]
    if not accepted:
        raise InputError(f"question {question.id!r} has no standard answer to grade against")
    return any(_means(question, conclusion, gold) for gold in accepted)


def canonical(question: Question, conclusion: str) -> str:
    """A key that is the same for conclusions that mean the same, for votes; the standard answer is not used."""
    answer = extract_answer(conclusion)
    if question.choices:
        index = choice_index(conclusion, question.choices)
        return f"choice {index}" if index is not None else f"text {normalise(answer)}"
    if question.answer_type is AnswerType.CHOICE and (letter := choice_letter(conclusion)):
        return f"letter {letter}"
    number = _one_number(conclusion) if question.answer_type is AnswerType.NUMBER else numeral(answer)
    if number is not None:
        return f"number {number.value}"
    said = yes_or_no(conclusion) if normalise(answer).split(" ")[0] in ("yes", "no") else None
    return f"text {said or normalise(answer)}"


def extract_answer(conclusion: str) -> str:
    """The part after the last ``the answer is`` or the like, without mark-up; else all of it."""
    plain = _MARK_UP.sub("", conclusion).strip()
    found = list(_ANSWER_IS.finditer(plain))
    return found[-1]["answer"].strip() if found else plain


def normalise(text: str) -> str:
    """Lower case, no outer or sentence punctuation, no articles, single spaces, number words as digits."""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("’", "'").replace("−", "-")
    words = [word.strip("\"'`.,;:!?()[]{}*") for word in plain.split()]
    kept = [word for word in words if word and word not in _ARTICLES] or [word for word in words if word]
    return " ".join(as_digits(word) for word in kept)


def yes_or_no(text: str) -> str | None:
    """``yes`` or ``no`` if the text says one of them: as its first word, else exactly one of both anywhere."""
    words = re.findall(r"[\w']+", extract_answer(text).casefold())
    if words and words[0] in ("yes", "no"):
        return str(words[0])
    found = {word for word in words if word in ("yes", "no")}
    return found.pop() if len(found) == 1 else None


def choice_letter(text: str) -> str | None:
    """The option letter that ``text`` names, upper case; the article "A" is none."""
    for part in dict.fromkeys((extract_answer(text), text.strip())):
        if alone := _LETTER_ALONE.fullmatch(part):
            return alone[1].upper()
        if leading := _LETTER_THEN_TEXT.fullmatch(part):
            return str(leading[1] or leading[2])
        if last := _LETTER_LAST.search(part):
            return str(last[1])
    return None


def choice_index(text: str, choices: Sequence[str]) -> int | None:
    """Which option ``text`` means, from 0; None when it names none, several, or contradicts itself.

    In this order: the option's text alone, its letter (with or without its text), the one option
    whose text stands in the answer.
    """
    options = [normalise(choice) for choice in choices]
    answer = extract_answer(text)
    for part in dict.fromkeys((answer, text)):
        if options.count(normalise(part)) == 1:
            return options.index(normalise(part))
    letter = choice_letter(text)
    index = ord(letter) - ord("A") if letter else None
    if index is not None and index < len(options):
        return index if _agrees(answer, options, index) else None
    return _only_option_in(normalise(answer), options)


def _agrees(answer: str, options: list[str], index: int) -> bool:
    """False when a letter is followed by the text of another option."""
    leading = _LETTER_THEN_TEXT.fullmatch(answer)
    if leading is None:
        return True
    rest = normalise(leading["rest"])
    return options[index] == rest or rest not in options


def _only_option_in(answer: str, options: list[str]) -> int | None:
    """The one option whose words stand in ``answer``; a longer option hides those inside it."""
    if _NEGATION.search(answer):
        return None
    left = _spaced(answer)
    found = []
    for index in sorted(range(len(options)), key=lambda i: -len(options[i])):
        words = _spaced(options[index])
        if words.strip() and words in left:
            left = left.replace(words, " | ")
            found.append(index)
    # An answer much longer than the option it holds mentions it in passing.
    is_short = len(answer.split()) <= 12 + 3 * max((len(options[i].split()) for i in found), default=0)
    return found[0] if len(found) == 1 and is_short else None


def _spaced(text: str) -> str:
    """Words between single spaces, one before and one behind, so that whole words can be looked for."""
    return f" {_BETWEEN_WORDS.sub(' ', text).strip()} "


def _means(question: Question, conclusion: str, gold: str) -> bool:
    if question.choices:
        wanted = choice_index(gold, question.choices)
        if wanted is not None:
            return choice_index(conclusion, question.choices) == wanted
    elif question.answer_type is AnswerType.CHOICE and (letter := choice_letter(gold)):
        return choice_letter(conclusion) == letter
    return _means_text(conclusion, gold, is_number=question.answer_type is AnswerType.NUMBER)


def _means_text(conclusion: str, gold: str, *, is_number: bool) -> bool:
    wanted, said = normalise(gold), normalise(extract_answer(conclusion))
    if wanted and wanted in (said, normalise(conclusion)):
        return True
    if wanted in ("yes", "no"):
        return yes_or_no(conclusion) == wanted
    wanted_number = numeral(gold)
    if wanted_number is not None:
        number = _one_number(conclusion) if is_number else numeral(extract_answer(conclusion))
        return number is not None and number.means(wanted_number)
    sentence = re.search(r"\b(?:is|are|was|were)\s+(?P<rest>.+)$", said)
    return bool(wanted and sentence and not _NEGATION.search(said) and sentence["rest"] == wanted)


def _one_number(conclusion: str) -> Numeral | None:
    """The one number a conclusion gives; of a calculation, what stands behind the last ``=``."""
    answer = extract_answer(conclusion)
    if normalise(answer) == "none":
        return Numeral(Fraction(0))
    for part in dict.fromkeys((answer, answer.rpartition("=")[2])):
        found = numerals(part)
        if found and all(number == found[0] for number in found):
            return found[0]
    return None
